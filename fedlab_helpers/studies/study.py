"""What a measured study is: its runs, and what one run measures."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

from fedlab_helpers.devices import numpy_rng
from fedlab_helpers.task import Task, load_task
from fedlab_helpers.text import EncodedReviews

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


def clients_of(settings: Settings) -> list[EncodedReviews]:
    """Return each client's training reviews, by the settings "partition", "clients", "seed"
    and perhaps "alpha"."""
    data = task()
    rng = numpy_rng(settings["seed"], "partition")
    alpha = settings.get("alpha", 0.5)
    return data.clients(data.deal(settings["partition"], settings["clients"], rng, alpha))
