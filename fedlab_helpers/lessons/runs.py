"""Runs side by side: raced, compared in a table, written to a CSV file, the finished ones kept."""

import contextlib
import copy
import hashlib
import itertools
import json
import threading
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd

from fedlab_helpers.compression.registry import LOSSLESS, PARTS
from fedlab_helpers.core.history import NoUpdateLeft
from fedlab_helpers.lessons.words import say
from fedlab_helpers.personal.federation import Federation
from fedlab_helpers.recipe import STRATEGIES, Recipe, Result
from fedlab_helpers.studies import results as tables
from fedlab_helpers.tasks.reviews.task import Task

NUMBER_OF = {  # the number by which a personal method is tuned
    **dict.fromkeys(("alone", "alone_mixed", "tune"), "lr"),
    **dict.fromkeys(("tune_head", "tune_recurrent", "tune_embedding"), "lr"),
    "tune_fixed": "epochs",
    "tune_pulled": "lam",
    "ditto": "lam",
    "apfl": "alpha",
    "per_fedavg": "trial_rate",
    "reptile": "meta_rate",
    "ifca": "models",
    "ifca_random": "models",
    "ifca_mixed": "models",
}
_BESIDES = ("squeeze", "feedback", "momentum")  # done, or not, beside what is kept and written
_IN_TITLE = {"strategy", "parameters", "method", "number", *PARTS}
# Of the task that the tables in data/results were measured on.
_MEASURED = "de07b5542aa0d58aa15006635274e1f37432649f99e0faeaa2dd39206f025cf2"


def title(recipe: Recipe) -> str:
    """Return what a reader calls a run: its strategy, codec or personal method, with numbers. Of a
    codec that is what sets it apart from every value in 32 bits."""
    if recipe.method:
        called = NUMBER_OF.get(recipe.method)
        own = f" ({say(called)} {recipe.number:g})" if called else ""
        return say(recipe.method) + own
    own = recipe.settings()["parameters"]
    strategy = say(recipe.strategy) + (f" ({own})" if own else "")
    if recipe.keep in LOSSLESS:
        return strategy + ("" if recipe.keep == "touched_rows" else f", {say(recipe.keep)}")
    share = "" if recipe.amount is None else f" ({amount(recipe.keep, recipe.amount)})"
    parts = [say(recipe.keep) + share] if recipe.keep != "everything" else []
    parts += [say(recipe.write)] if recipe.write != "float32" else []
    parts += [say(f"with_{name}") for name in _BESIDES if getattr(recipe, name)]
    others = [] if recipe.strategy == "rowwise" else [strategy]
    return ", ".join([*(parts or [say("everything")]), *others])


def amount(keep: str, value: float) -> str:
    """Return how much of a change is sent, as a reader says it: a rank, or a share in percent."""
    rank = keep == "lowrank"
    return say("amount_rank" if rank else "amount_share", amount=value if rank else 100 * value)


def advice(recipe: Recipe) -> str | None:
    """Return what to know of a combination that runs, but not as its theory has it."""
    if STRATEGIES[recipe.strategy].for_sgd and recipe.optimizer != "sgd":
        return say("made_for_sgd", strategy=say(recipe.strategy))
    return None


@dataclass(frozen=True)
class Refusal:
    """Why settings cannot be run."""

    settings: tuple[str, ...]  # of a recipe, which the reason is about
    why: str  # in words for a learner


_ABOUT = {  # what cannot be run, as a recipe says it -> settings
    "partition": ("partition", "clients"),
    "plan": ("cohort",),
    "strategy": ("parameters",),
    "cohort": ("strategy", "cohort"),
    "attackers": ("attackers",),
    "codec": ("amount",),
    "model": (),
}


def refusal(recipe: Recipe, task: Task) -> Refusal | None:
    """Return why these settings cannot be run, and which they are; None if they can."""
    found = recipe.problem(task)
    told = {name: say(getattr(recipe, name)) for name in ("partition", "strategy")}
    return found and Refusal(_ABOUT[found[0]], say(f"bad_{found[0]}", of=recipe, **told))


def problem(recipe: Recipe, task: Task) -> str | None:
    """Return why these settings cannot be run, in words for a learner; None if they can."""
    refused = refusal(recipe, task)
    return refused and refused.why


@dataclass(frozen=True)
class End:
    """How a run ended."""

    state: str  # "finished", "stopped", or "failed"
    why: str = ""  # it failed


News = tuple[Recipe, Result | End]


def race(
    recipes: Iterable[Recipe],
    task: Task,
    stop: threading.Event | None = None,
    tick: Callable[[Recipe, int], None] | None = None,
    federations: MutableMapping[Recipe, Federation] | None = None,
) -> Iterator[News]:
    """Run several settings in turn, a round of each, and yield what happens as it happens.

    First the untrained model of each, then the first round of each, and so on; last of each, its
    end. A run that breaks down ends; the others go on. What appears twice runs once.

    Args:
        recipes: the settings.
        task: as in `Recipe.results`; so are `stop` and `federations`.
        tick: called for each client that has trained, in its thread.
    """
    options, lanes = {"stop": stop, "federations": federations}, {}
    for recipe in recipes:
        on_client = tick and partial(tick, recipe)
        results = recipe.results(task, on_client=on_client, **options)
        lanes[recipe] = _lane(results, partial(problem, recipe, task))
    while lanes:
        for recipe, lane in list(lanes.items()):
            news = next(lane)
            if isinstance(news, End):
                del lanes[recipe]
            yield recipe, news


def _lane(results: Iterator[Result], why: Callable[[], str | None]) -> Iterator[Result | End]:
    settled = False
    try:
        for result in results:
            settled = result.settled
            yield result
    except NoUpdateLeft:
        yield End("failed", say("no_update_left"))
        return
    except ValueError as error:
        yield End("failed", why() or str(error)[:500])
        return
    yield End("finished" if settled else "stopped")


@dataclass(frozen=True)
class Run:
    """One run, as far as it has come."""

    number: int  # by which it is called, from 1; runs that differ in their seed alone share it
    recipe: Recipe
    results: tuple[Result, ...] = ()  # where it stood after each round, untrained first
    state: str = "running"  # or that of its end
    why: str = ""  # it failed
    label: str = ""  # what a reader calls it; nothing: its title

    @property
    def name(self) -> str:
        """Its number and what it is called."""
        return f"{self.number} {self.label or title(self.recipe)}"

    @property
    def last(self) -> Result | None:
        """Where it stands; None before anything is known."""
        return self.results[-1] if self.results else None

    @property
    def curve(self) -> pd.DataFrame:
        """A row for each result: round, total_megabytes, seconds, factor, and the measures."""
        rows = [
            {
                "round": r.round,
                "total_megabytes": r.total_bytes / 1e6,
                "seconds": r.seconds,
                "factor": r.factor,
                **r.measures,
            }
            for r in self.results
        ]
        return pd.DataFrame(rows, columns=list(rows[0]) if rows else ["round"])


@dataclass(frozen=True)
class Together:
    """Runs that differ in their seed alone: one curve with a band, one row of a table."""

    runs: tuple[Run, ...]

    @property
    def number(self) -> int:
        """What they share."""
        return self.runs[0].number

    @property
    def recipe(self) -> Recipe:
        """That of the first."""
        return self.runs[0].recipe

    @property
    def name(self) -> str:
        """Number and title, and how many seeds there are."""
        many = len(self.runs) > 1
        name = self.runs[0].name
        return say("many_seeds", name=name, count=len(self.runs)) if many else name

    @property
    def state(self) -> str:
        """The first of running, failed, stopped and finished that is that of a run."""
        states = {run.state for run in self.runs}
        return next(s for s in ("running", "failed", "stopped", "finished") if s in states)

    def of(self, pick: Callable[[Run], float | None]) -> list[float]:
        """Return a number of each run that has it."""
        return [value for run in self.runs if (value := pick(run)) is not None]

    def curves(self) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Return the mean over seeds after each round that all have come to, the smallest and the
        largest value."""
        frames = [run.curve for run in self.runs]
        if not all(map(len, frames)):
            frames = [frame for frame in frames if len(frame)] or frames[:1]
        together = [frame.iloc[: min(map(len, frames))] for frame in frames]
        rows = pd.concat(together).groupby(level=0)
        return rows.mean(), rows.min(), rows.max()


def differences(recipes: Iterable[Recipe], titled: bool = True) -> list[str]:
    """Return, for each, the settings in which not all agree; a strategy and a method are told by
    titles, and what is sent of a change, too, where `titled`."""
    rows = [recipe.settings() for recipe in recipes]
    left_out = _IN_TITLE if titled else _IN_TITLE - set(PARTS)
    names = [name for name in (rows[0] if rows else ()) if name not in left_out]
    odd = [name for name in names if len({row[name] for row in rows}) > 1]
    told = [[_said(name, row[name]) for name in odd] for row in rows]
    return [", ".join(filter(None, parts)) for parts in told]


def _said(name: str, value: str | float | None) -> str:
    """Return how a setting is told; nothing for one that does not apply."""
    if name in _BESIDES:
        return say("with_it" if value else "without_it", what=say(name))
    if value is None:
        return ""
    return f"{say(name)} {say(value) if isinstance(value, str) else f'{value:g}'}"


class Comparison:
    """The runs that a reader has made on one task, in the order of their numbers."""

    def __init__(self, task: Task):
        self.objective, self._of = task.validation.objective, fingerprint(task)
        self._runs: dict[Recipe, Run] = {}
        self._finished: dict[Recipe, Run] = {}  # dropped ones too: they may be asked for again
        self._last_number = 0
        self._written: dict[Path, bytes] = {}

    def require(self, task: Task) -> None:
        """Raise ValueError if the runs were made on another task."""
        if fingerprint(task) != self._of:
            raise ValueError("comparison: its runs were made on other examples than these")

    @property
    def runs(self) -> list[Run]:
        """The runs that are shown."""
        return sorted(self._runs.values(), key=lambda run: (run.number, run.recipe.seed))

    @property
    def together(self) -> list[Together]:
        """The runs that are shown, those that differ in their seed alone as one."""
        found: dict[int, list[Run]] = {}
        for run in self.runs:
            found.setdefault(run.number, []).append(run)
        return [Together(tuple(runs)) for runs in found.values()]

    def begin(self, recipes: Iterable[Recipe]) -> list[Recipe]:
        """Show these settings, and return those that are still to be run: one that has finished
        before is shown as it was, one that was stopped or broke down begins anew."""
        missing = []
        for recipe in dict.fromkeys(recipes):
            if recipe in self._finished:
                alike = self._alike(recipe) or self._finished[recipe]
                again = {"number": alike.number, "label": alike.label}
                self._runs[recipe] = replace(self._finished[recipe], **again)
                continue
            if recipe not in self._runs:
                self._runs[recipe] = self._new(recipe)
            self._runs[recipe] = replace(self._runs[recipe], results=(), state="running", why="")
            missing.append(recipe)
        return missing

    def _new(self, recipe: Recipe) -> Run:
        if alike := self._alike(recipe):
            return Run(alike.number, recipe, label=alike.label)
        self._last_number += 1
        return Run(self._last_number, recipe)

    def _alike(self, recipe: Recipe) -> Run | None:
        """Return a run that is shown and has these settings, whatever its seed."""
        of_any_seed = replace(recipe, seed=0)
        shown = self._runs.values()
        return next((run for run in shown if replace(run.recipe, seed=0) == of_any_seed), None)

    def take(self, recipe: Recipe, news: Result | End) -> None:
        """Write down what happened in a run that has begun."""
        run = self._runs[recipe]
        if isinstance(news, Result):
            run = replace(run, results=(*run.results, news))
        else:
            run = replace(run, state=news.state, why=news.why)
        # A new dictionary: another thread may be looking through the old one.
        self._runs = self._runs | {recipe: run}
        if run.state == "finished":
            self._finished[recipe] = run

    def abandon(self) -> None:
        """Call runs stopped that are still said to be running, after a race broke off."""
        for run in self.runs:
            if run.state == "running":
                self.take(run.recipe, End("stopped"))

    def copy(self) -> "Comparison":
        """Return one with the same runs, which goes its own way."""
        twin = copy.copy(self)
        twin._runs, twin._finished = dict(self._runs), dict(self._finished)
        twin._written = {}
        return twin

    def rename(self, number: int, label: str) -> None:
        """Call the runs of this number differently; by their title again, if `label` is empty."""
        for run in self.runs:
            if run.number == number:
                self._runs = self._runs | {run.recipe: replace(run, label=label.strip())}

    def drop(self, number: int) -> None:
        """Show the runs of this number no longer."""
        self._runs = {recipe: run for recipe, run in self._runs.items() if run.number != number}

    def reached(self, run: Run, target: float) -> Result | None:
        """Return where a run stood when, trained, it first was at least as good as `target`."""
        sign = 1 if self.objective.higher_is_better else -1
        trained = [result for result in run.results if result.round]
        return next((r for r in trained if sign * r.score >= sign * target), None)

    def table(self, target: float = 0.75) -> pd.DataFrame:
        """Return one row a run: name, differs (the settings in which runs differ), state, rounds,
        final_accuracy, best_accuracy (or whatever the measure is), rounds_to_target and
        megabytes_to_target (missing where it was not reached on validation examples), seconds."""
        runs, rows = self.runs, []
        best = max if self.objective.higher_is_better else min
        for run, differs in zip(runs, differences(run.recipe for run in runs), strict=True):
            scores, there = [result.score for result in run.results], self.reached(run, target)
            rows.append(
                {
                    "name": run.name,
                    "differs": differs,
                    "state": run.state,
                    "rounds": run.last.round if run.last else 0,
                    f"final_{self.objective.measure}": scores[-1] if scores else None,
                    f"best_{self.objective.measure}": best(scores, default=None),
                    "rounds_to_target": there.round if there else None,
                    "megabytes_to_target": there.total_bytes / 1e6 if there else None,
                    "seconds": run.last.seconds if run.last else 0.0,
                }
            )
        return pd.DataFrame(rows)

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each round of each run, with its name and all its settings."""
        sums = ("total_bytes", "seconds", "left_out")
        return pd.DataFrame(
            {"run": run.number, "name": run.name, **run.recipe.settings()}
            | {"state": run.state, "round": result.round}
            | dict(result.measures)
            | {name: getattr(result, name) for name in sums}
            for run in self.runs
            for result in run.results
        )

    def to_csv(self, path: str | Path) -> Path:
        """Write `to_frame` to a file, and return which.

        A file that this comparison wrote, and nobody has changed since, is replaced. Any other
        stays as it is: the new one is called `name_2.csv`, or by the next number that is free.
        """
        path, content = Path(path).absolute(), self.to_frame().to_csv(index=False).encode()
        if path.is_dir():
            raise IsADirectoryError(f"{path}: got a folder, expected the name of a file")
        others = (path.with_stem(f"{path.stem}_{number}") for number in itertools.count(2))
        for target in itertools.chain([path], others):
            ours = target.is_file() and target.read_bytes() == self._written.get(target)
            with contextlib.suppress(FileExistsError), target.open("wb" if ours else "xb") as file:
                file.write(content)
                self._written[target] = content
                return target


def compare(recipes: Iterable[Recipe], task: Task) -> Comparison:
    """Return a comparison in which these settings have run to their end."""
    comparison = Comparison(task)
    for recipe, news in race(comparison.begin(recipes), task):
        comparison.take(recipe, news)
    return comparison


def fingerprint(task: Task) -> str:
    """Return a digest of what training and validation see: texts, labels, words, lengths."""
    seen = [(r.text, int(r.label)) for r in (*task.train_reviews, *task.validation_reviews)]
    what = [seen, task.vocab.words, list(task.train.tokens.shape)]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def anchors(task: Task) -> dict[str, float]:
    """Return the validation accuracies to compare with: centralised, the mean over seeds, and
    majority; none where there is no such table, or where it was measured on other examples."""
    path = tables.RESULTS / "baselines.csv"
    if fingerprint(task) != _MEASURED or not path.exists():
        return {}
    means = pd.read_csv(path).groupby("model")["validation_accuracy"].mean()
    return {say("centralised"): float(means["lstm"]), say("majority"): float(means["majority"])}
