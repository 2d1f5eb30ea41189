"""What a measured study is: its runs, and what one run measures; what most of them share."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from fedlab_helpers.core.compute import intra_op_threads
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.strategy import Strategy
from fedlab_helpers.core.training import predict
from fedlab_helpers.personal import per_client
from fedlab_helpers.recipe import Recipe
from fedlab_helpers.studies.results import Row
from fedlab_helpers.tasks.partition import Parts
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.model import SentimentLSTM
from fedlab_helpers.tasks.reviews.task import Task, load_task

Settings = dict[str, Any]
_OF_A_RECIPE = {"partition", "alpha", "clients", "cohort", "rounds", "seed", "epochs", "lr"}


@dataclass(frozen=True)
class Study:
    """One table of evidence.

    Args:
        name: of the command and of the file in data/results/.
        runs: the settings of every run; each must differ from all others.
        measure: settings -> the rows of this run; the runner adds settings and versions to them.
    """

    name: str
    runs: tuple[Settings, ...]
    measure: Callable[[Settings], Iterable[Row]]

    def rows(self, settings: Settings) -> list[Row]:
        """Return the rows of one run, computed in one intra-op thread: the same sums on a machine
        with more cores."""
        with intra_op_threads(1):
            return list(self.measure(settings))

    def key(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """Return which run a row is of, by its settings as a table writes them."""
        values = (row.get(name) for name in self.runs[0])
        return tuple("" if value is None else str(value) for value in values)


def grid(**choices: Iterable[Any]) -> tuple[Settings, ...]:
    """Return the settings of every combination, the last choice varying fastest."""
    return tuple(dict(zip(choices, run, strict=True)) for run in product(*choices.values()))


@cache
def task() -> Task:
    """Return the one task of all studies: accuracies are compared on the same reviews."""
    return load_task()


def recipe_of(settings: Settings, **common: Any) -> Recipe:
    """Return the recipe that settings name; the rest of it is what all runs of a study have in
    common."""
    return Recipe(**{name: settings[name] for name in settings.keys() & _OF_A_RECIPE}, **common)


def begin(
    recipe: Recipe, **local: Any
) -> tuple[SentimentLSTM, list[EncodedReviews], Strategy, Plan]:
    """Return what `rounds` takes first: model, clients, strategy, and a plan of one worker, since
    runs go side by side; `local` is what clients do otherwise than the recipe says."""
    plan = recipe.plan()
    plan = replace(plan, workers=1, local=replace(plan.local, **local))
    clients = task().clients(recipe.deal(task()))
    return recipe.new_model(task()), clients, recipe.new_strategy(), plan


def right_answers(model: nn.Module) -> np.ndarray:
    """Return whether the model answers each test review rightly, (N,) bool."""
    return (predict(model, task().test).argmax(1) == task().test.labels).numpy()


def against(right: np.ndarray, reference: np.ndarray) -> Row:
    """Return "gained", how many reviews are answered rightly here and wrongly by a reference, and
    "lost", the other way round; both (N,) bool."""
    return {"gained": int((right & ~reference).sum()), "lost": int((~right & reference).sum())}


def rounded(**figures: float) -> Row:
    """Return figures as numbers of Python's own, to five digits after the point."""
    return {name: round(float(value), 5) for name, value in figures.items()}


def own_accuracy(right: np.ndarray, parts: Parts) -> np.ndarray:
    """Return each client's accuracy on reviews like its own, (K,).

    Args:
        right: whether each test review was answered rightly, (N,).
        parts: the indices of each client's training reviews.
    """
    test, train = (per_client.kinds(r) for r in (task().test_reviews, task().train_reviews))
    return per_client.own_accuracy(right, test, parts, train)


def best(table: pd.DataFrame, of: Sequence[str], tried: Sequence[str]) -> dict[tuple, tuple]:
    """Return for each combination of the columns `of` that of the columns `tried` with the highest
    mean of the column "merit"; of equals, the first."""
    means = table.groupby([*of, *tried], sort=False, dropna=False)["merit"].mean()
    winners = means.groupby(level=list(of), sort=False, dropna=False).idxmax()
    return {winner[: len(of)]: winner[len(of) :] for winner in winners}
