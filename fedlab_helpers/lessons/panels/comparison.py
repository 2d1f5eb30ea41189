"""Runs kept for comparison: their curves, a table, a CSV file, and a cache of finished ones."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import pandas as pd

from fedlab_helpers.lessons.panels.lab import Setup
from fedlab_helpers.lessons.panels.race import End, Point, race
from fedlab_helpers.lessons.words import text
from fedlab_helpers.studies import results
from fedlab_helpers.tasks.reviews.task import Task


@dataclass(frozen=True)
class Run:
    """One run, as far as it has come.

    Args:
        number: by which it is called, from 1.
        setup: its settings.
        points: the global model after each round, the untrained one first.
        state: "running", "finished", "stopped" or "failed".
        why: it failed.
    """

    number: int
    setup: Setup
    points: tuple[Point, ...] = ()
    state: str = "running"
    why: str = ""

    @property
    def name(self) -> str:
        """Its number, its strategy, and the parameters of that."""
        return f"{self.number} {self.setup.name}"

    def reached(self, target: float) -> Point | None:
        """Return the first point at which the accuracy was at least `target`."""
        return next((point for point in self.points if point.accuracy >= target), None)


def differences(setups: Iterable[Setup]) -> list[str]:
    """Return, for each, the settings in which not all agree; those in its name are left out."""
    settings = [setup.settings() for setup in setups]
    odd = [
        key
        for key in (settings[0] if settings else ())
        if key not in ("strategy", "parameters") and len({row[key] for row in settings}) > 1
    ]
    return [
        ", ".join(f"{text(key)} {_said(row[key])}" for key in odd if row[key] is not None)
        for row in settings
    ]


def _said(value: str | float) -> str:
    return text(value) if isinstance(value, str) else f"{value:g}"


class Comparison:
    """The runs that a reader has made on one task, in the order of their numbers."""

    def __init__(self):
        self._runs: dict[Setup, Run] = {}
        self._finished: dict[Setup, Run] = {}  # dropped ones too: they may be asked for again
        self._last_number = 0

    @property
    def runs(self) -> list[Run]:
        """The runs that are shown."""
        return sorted(self._runs.values(), key=lambda run: run.number)

    def begin(self, setups: Iterable[Setup]) -> list[Setup]:
        """Show these settings, and return those that are still to be run.

        One that has finished before is shown as it was; one that was stopped or broke down begins
        anew.
        """
        missing = []
        for setup in dict.fromkeys(setups):
            if setup in self._finished:
                self._runs[setup] = self._finished[setup]
                continue
            if setup not in self._runs:
                self._last_number += 1
            number = self._runs[setup].number if setup in self._runs else self._last_number
            self._runs[setup] = Run(number, setup)
            missing.append(setup)
        return missing

    def take(self, setup: Setup, news: Point | End) -> None:
        """Write down what happened in a run that has begun."""
        run = self._runs[setup]
        if isinstance(news, Point):
            run = replace(run, points=(*run.points, news))
        else:
            run = replace(run, state=news.state, why=news.why)
        self._runs[setup] = run
        if run.state == "finished":
            self._finished[setup] = run

    def abandon(self) -> None:
        """Call runs stopped that are still said to be running, after a race broke off."""
        for run in self.runs:
            if run.state == "running":
                self.take(run.setup, End("stopped"))

    def drop(self, number: int) -> None:
        """Show the run of this number no longer."""
        self._runs = {s: run for s, run in self._runs.items() if run.number != number}

    def table(self, target: float = 0.75) -> pd.DataFrame:
        """Return one row a run.

        Args:
            target: accuracy on the validation reviews.

        Returns:
            Columns name, differs (the settings in which runs differ), state, rounds,
            final_accuracy, best_accuracy, rounds_to_target and megabytes_to_target (missing where
            it was not reached), seconds.
        """
        runs, rows = self.runs, []
        for run, differs in zip(runs, differences(run.setup for run in runs), strict=True):
            scores = [point.accuracy for point in run.points]
            there = run.reached(target)
            rows.append(
                {
                    "name": run.name,
                    "differs": differs,
                    "state": run.state,
                    "rounds": run.points[-1].round if run.points else 0,
                    "final_accuracy": scores[-1] if scores else None,
                    "best_accuracy": max(scores, default=None),
                    "rounds_to_target": there.round if there else None,
                    "megabytes_to_target": there.total_bytes / 1e6 if there else None,
                    "seconds": run.points[-1].seconds if run.points else 0.0,
                }
            )
        return pd.DataFrame(rows)

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each round of each run, with all its settings."""
        return pd.DataFrame(
            {"run": run.number, **run.setup.settings(), "state": run.state, **vars(point)}
            for run in self.runs
            for point in run.points
        )

    def to_csv(self, path: str | Path) -> None:
        """Write `to_frame` to a file."""
        self.to_frame().to_csv(path, index=False)


def compare(setups: Iterable[Setup], task: Task) -> Comparison:
    """Return a comparison in which these settings have run to their end."""
    comparison = Comparison()
    for setup, news in race(comparison.begin(setups), task):
        comparison.take(setup, news)
    return comparison


def anchors(path: Path = results.RESULTS / "baselines.csv") -> dict[str, float]:
    """Return the validation accuracies to compare with: centralised, the mean over seeds, and
    majority; none where there is no such table."""
    rows = results.read(path)
    found = {
        text(name): [float(r["validation_accuracy"]) for r in rows if r["model"] == model]
        for name, model in (("centralised", "lstm"), ("majority", "majority"))
    }
    return {name: mean(values) for name, values in found.items() if values}
