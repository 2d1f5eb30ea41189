"""Several federated runs side by side, a round of each in turn."""

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch

from fedlab_helpers.core.history import NoUpdateLeft
from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.rounds import rounds
from fedlab_helpers.core.state import State
from fedlab_helpers.core.training import evaluate
from fedlab_helpers.lessons.panels.lab import Setup
from fedlab_helpers.strategies.attacks import attacked
from fedlab_helpers.tasks.reviews.model import SentimentLSTM
from fedlab_helpers.tasks.reviews.task import Task


@dataclass(frozen=True)
class Point:
    """The global model after a round; after round 0 it is untrained.

    Args:
        round: from 0.
        accuracy: on the validation reviews.
        loss: on the validation reviews, in nats.
        total_bytes: sent so far, both ways.
        seconds: that the run has taken so far.
        left_out: updates of this round that the server refused.
    """

    round: int
    accuracy: float
    loss: float
    total_bytes: int = 0
    seconds: float = 0.0
    left_out: int = 0


@dataclass(frozen=True)
class End:
    """How a run ended: "finished", "stopped", or "failed", and then why."""

    state: str
    why: str = ""


News = tuple[Setup, Point | End]
Tick = Callable[[Setup, int], None]  # called with the client that has just finished, in its thread


def race(
    setups: Iterable[Setup],
    task: Task,
    stop: threading.Event | None = None,
    tick: Tick | None = None,
) -> Iterator[News]:
    """Run several settings in turn, a round of each, and yield what happens as it happens.

    First the untrained model of each, then the first round of each, and so on; last of each, its
    end. A run that breaks down ends; the others go on.

    Args:
        setups: those that appear twice run once.
        task: real reviews; the models are evaluated on its validation part.
        stop: once set, all runs end between two batches.
        tick: called for each client that has trained.
    """
    lanes = {setup: _lane(setup, task, stop, tick) for setup in setups}
    while lanes:
        for setup, lane in list(lanes.items()):
            news = next(lane)
            if isinstance(news, End):
                del lanes[setup]
            yield setup, news


def _lane(
    setup: Setup, task: Task, stop: threading.Event | None, tick: Tick | None
) -> Iterator[Point | End]:
    clients, transforms = attacked(task.clients(setup.deal(task)), setup.hostile(), setup.attack)
    if tick:
        transforms = (*transforms, _Ticking(setup, tick))
    model = SentimentLSTM(len(task.vocab), pooling="mean", dropout=0.3, seed=setup.seed)
    untrained = evaluate(model, task.validation)
    point = Point(0, untrained.accuracy, untrained.loss)
    yield point
    options = {"test": task.validation, "transforms": transforms, "stop": stop}
    try:
        for record in rounds(model, clients, setup.make(), setup.plan(), **options):
            point = Point(
                record.round,
                record.metrics["accuracy"],
                record.metrics["loss"],
                point.total_bytes + record.bytes_up + record.bytes_down,
                point.seconds + record.seconds,
                len(record.left_out),
            )
            yield point
    except (NoUpdateLeft, ValueError) as error:
        yield End("failed", str(error)[:500])
        return
    yield End("finished" if point.round == setup.rounds else "stopped")


@dataclass(frozen=True)
class _Ticking:
    """A transform that changes nothing and says that a client has trained."""

    setup: Setup
    tick: Tick

    def __call__(self, update: Update, kept: State, rng: torch.Generator) -> tuple[Update, State]:
        self.tick(self.setup, update.client)
        return update, kept
