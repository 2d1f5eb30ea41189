"""A model for each client, live: choose a method, and watch who gains and who loses."""

from dataclasses import replace
from statistics import mean
from typing import Any

import ipywidgets
import pandas as pd

from fedlab_helpers.lessons import plots, runs
from fedlab_helpers.lessons.panels import seen
from fedlab_helpers.lessons.panels.lab import Lab, Try
from fedlab_helpers.lessons.panels.parts import choice, slider, steps
from fedlab_helpers.lessons.words import say
from fedlab_helpers.personal.members import PARTITIONS
from fedlab_helpers.personal.methods import METHODS
from fedlab_helpers.recipe import Recipe, Result

# The numbers by which methods are tuned, with values that a slider offers, the ends among them.
NUMBERS = {
    "epochs": (0, 1, 2, 3, 5, 8, 10, 20),
    "lr": (5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 4e-2, 5e-2, 0.1, 0.2, 0.4),
    "lam": (0.0, 0.1, 1.0, 10.0, 100.0, 1000.0, float("inf")),
    "alpha": (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0),
    "trial_rate": (0.01, 0.03, 0.1, 0.3, 1.0),
    "meta_rate": (0.25, 0.5, 1.0, 1.5),
    "models": (1, 2, 3, 4, 6, 8),
}
USUAL = Recipe(method="fedper", partition="strictness", rounds=6)
# Of the experiments, as in the study: after fewer rounds a private head is behind a fine-tuned one,
# and some are better off alone.
LONG = replace(USUAL, rounds=20)


class PersonalLab(Lab):
    """Choose a method, its number and a deal, press Run, and watch what each client gains.

    The federation of a deal is trained once, whatever method follows. What is not chosen here is
    as in `usual`.
    """

    name = "personal_lab"
    groups = (
        ("method", ("method", "number")),
        ("deal", ("partition",)),
        ("length", ("rounds", "seed")),
    )
    folded = ("length",)
    xs = ("client",)
    usual = USUAL
    tries = (
        Try(
            "try_own_head",
            tuple(replace(LONG, method=method, number=None) for method in ("tune_head", "fedper")),
            lambda: seen.personal("fedper", "tune_head", partition="strictness"),
        ),
        Try(
            "try_same_rule",
            (replace(LONG, method="tune", number=None, partition="by_domain"),),
            lambda: seen.personal("tune", "ifca_mixed", partition="by_domain"),
        ),
        Try(
            "try_lean",
            tuple(
                replace(LONG, method=method, number=None, partition="dirichlet")
                for method in ("leaning", "tune")
            ),
            lambda: seen.personal("leaning", "tune", partition="dirichlet"),
        ),
        Try(
            "try_alone",
            (replace(LONG, method="alone", number=None, partition="by_domain"),),
            lambda: seen.personal("alone", partition="by_domain"),
        ),
    )

    def _controls(self) -> dict[str, ipywidgets.Widget]:
        usual = self.usual
        return {
            "method": choice("method", METHODS, usual.method),
            "number": self._numbers(usual.method),
            "partition": choice("partition", PARTITIONS, usual.partition),
            "rounds": slider("rounds", usual.rounds, 4, 40),
            "seed": slider("seed", usual.seed, 0, 99),
        }

    _at: str = USUAL.method  # whose number is offered

    def _numbers(self, method: str) -> ipywidgets.Widget:
        """Return the values of a method's number, beginning where it is worth trying."""
        called, tries = runs.NUMBER_OF.get(method), METHODS[method].tries
        options = [(f"{v:g}", v) for v in NUMBERS[called]] if called else [("–", 0.0)]
        start, said = tries[len(tries) // 2] if called else 0.0, say(called or "no_number")
        return steps("number", options, start, said)

    @property
    def recipe(self) -> Recipe:
        return replace(self.usual, **self.form.values)

    def _set(self, recipe: Recipe) -> None:
        for name in ("method", "partition", "rounds", "seed"):
            self.form.controls[name].value = getattr(recipe, name)
        if recipe.number is not None:
            self.form.number.value = recipe.number

    def _adapt(self) -> None:
        form, method = self.form, self.form.method.value
        if self._at != method:
            self._at = method
            form.swap("number", self._numbers(method))
        form.explain("method", about=say(f"{method}_about"))
        called = runs.NUMBER_OF.get(method)
        none = "" if called else say("no_number_help", method=say(method))
        form.explain("number", off=none, about=say(f"number_{called}"))

    def _shown(self) -> runs.Run | None:
        """Return the run whose clients are drawn: the one that goes on, else that which was asked
        for last, else the newest; of those that are shown."""
        seen = [r for r in self.comparison.runs if self._key(r) not in self.board.hidden and r.last]
        asked = [run for run in seen if run.recipe in self._racers] or seen
        return next((run for run in asked if run.state == "running"), asked[-1] if asked else None)

    def _draw(self) -> None:
        super()._draw()
        run = self._shown()
        if not run:
            self.board.bars = {}
            return
        rows = {name: list(getattr(run.last, name)) for name in ("shared", "own", "groups")}
        self.board.bars = {"title": self._called(run), **rows}

    def _called(self, run: runs.Run) -> str:
        return f"{super()._called(run)}, {say(run.recipe.partition)}"

    def _state(self, run: runs.Run) -> str:
        name, last = self._called(run), run.last
        if last is None:
            return say("begins", name=name)
        if not last.own:
            return say("personal_round", name=name, round=last.round)
        told = {"client": len(last.own), "clients": len(last.shared)}
        return say("personal_client", name=name, round=last.round, **told)

    def _came_to(self, run: runs.Run) -> str:
        if run.state != "finished":
            return super()._came_to(run)
        told = _figures(run.last) | {"clients": len(run.last.own)}
        return say("personal_done", name=self._called(run), **told)

    def _share(self, run: runs.Run) -> float:
        if run.state != "running":
            return 1.0
        last, half = run.last, 0.6  # of the time goes to what all share, where it is not there yet
        if not last:
            return 0.0
        own = len(last.own) / max(1, len(last.shared))
        return half * min(1.0, last.round / run.recipe.rounds) + (1 - half) * own

    def _panes(self) -> list[dict[str, Any]]:
        if not any(
            run.last and run.last.own for run in self.comparison.runs
        ):  # nobody has a model of its own yet
            return []
        level = {"name": say("shared_model"), "value": 0.0}
        return [{"y": "gain", "label": say("gain_points"), "levels": [level]}]

    def _curves(self, each: runs.Together):
        """Return the clients' gains, sorted: of each seed for itself, then over seeds by rank."""
        done = [sorted(_gains(run.last)) for run in each.runs if run.last and run.last.own]
        count = min(map(len, done), default=0)
        rows = pd.DataFrame([gains[:count] for gains in done], columns=range(1, count + 1))
        found = [getattr(rows, name)() for name in ("mean", "min", "max")]
        return tuple(pd.DataFrame({"client": each.index, "gain": each.values}) for each in found)

    def _cells(self, each: runs.Together) -> dict[str, Any]:
        done = [_figures(run.last) for run in each.runs if run.state == "finished"]
        cells = {
            "state": say(each.state),
            "rounds": [run.last.round for run in each.runs if run.last],
        }
        names = ("mean_shared", "mean_own", "gain", "worst_own", "below")
        return cells | {name: [figures[name] for figures in done] for name in names}

    def _still(self) -> plots.Picture:
        run = self._shown()
        last = run.last if run else None
        if not last:
            return plots.client_bars(*seen.clients("fedper", partition="strictness"))
        return plots.client_bars(last.shared, last.own, last.groups, self._came_to(run))


def _gains(result: Result) -> list[float]:
    return [100 * (o - s) for o, s in zip(result.own, result.shared, strict=False)]


def _figures(result: Result) -> dict[str, float]:
    """Return what a run comes to."""
    gains = _gains(result)
    return {
        "mean_shared": mean(result.shared),
        "mean_own": mean(result.own),
        "gain": mean(gains),
        "worst_own": min(result.own),
        "below": sum(gain < 0 for gain in gains),
    }
