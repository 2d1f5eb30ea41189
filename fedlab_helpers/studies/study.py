"""What a measured study is: its runs, and what one run measures."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.personal import per_client
from fedlab_helpers.tasks.partition import Parts
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.model import SentimentLSTM
from fedlab_helpers.tasks.reviews.task import Task, load_task

Settings = dict[str, Any]
Row = dict[str, Any]


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


def grid(**choices: Iterable[Any]) -> tuple[Settings, ...]:
    """Return the settings of every combination, the last choice varying fastest."""
    return tuple(dict(zip(choices, run, strict=True)) for run in product(*choices.values()))


@cache
def task() -> Task:
    """Return the one task of all studies: accuracies are compared on the same reviews."""
    return load_task()


def new_model(seed: int) -> SentimentLSTM:
    """Return the untrained model of the studies that compare federated runs."""
    return SentimentLSTM(len(task().vocab), pooling="mean", dropout=0.3, seed=seed)


def parts_of(settings: Settings) -> Parts:
    """Return the indices of each client's training reviews.

    Args:
        settings: "partition", a name in `task.DEALS`; "clients"; "seed"; and perhaps "alpha".
    """
    rng = numpy_rng(settings["seed"], "partition")
    alpha = settings.get("alpha", 0.5)
    return task().deal(settings["partition"], settings["clients"], rng, alpha)


def clients_of(settings: Settings) -> list[EncodedReviews]:
    """Return each client's training reviews, by the settings that `parts_of` reads."""
    return task().clients(parts_of(settings))


def own_accuracy(right: np.ndarray, parts: Parts) -> np.ndarray:
    """Return each client's accuracy on reviews like its own, (K,).

    Args:
        right: whether each test review was answered rightly, (N,).
        parts: the indices of each client's training reviews.
    """
    test, train = (per_client.kinds(r) for r in (task().test_reviews, task().train_reviews))
    return per_client.own_accuracy(right, test, parts, train)
