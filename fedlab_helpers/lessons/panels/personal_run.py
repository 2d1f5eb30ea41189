"""Personal methods at the press of a button: settings, and every client's accuracy as it goes."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from fedlab_helpers.core.training import Stopped
from fedlab_helpers.lessons.words import text
from fedlab_helpers.personal.federation import Answer, Federation, Snapshot, usual_plan
from fedlab_helpers.personal.members import PARTITIONS, deal
from fedlab_helpers.personal.methods import METHODS
from fedlab_helpers.tasks.reviews.task import Task

# The numbers by which methods are tuned, with values that a slider offers, the ends among them.
NUMBERS = {
    "epochs": (0, 1, 2, 3, 5, 8),
    "lr": (5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1),
    "lam": (0.0, 0.1, 1.0, 10.0, 100.0, 1000.0, float("inf")),
    "alpha": (0.0, 0.1, 0.25, 0.5, 0.75, 1.0),
    "trial_rate": (0.01, 0.03, 0.1, 0.3),
    "meta_rate": (0.25, 0.5, 1.0, 1.5),
    "models": (1, 2, 3, 4, 6, 8),
}
NUMBER_OF = {
    "alone": "lr",
    "alone_mixed": "lr",
    "tune_fixed": "epochs",
    "tune": "lr",
    "tune_pulled": "lam",
    "tune_head": "lr",
    "tune_recurrent": "lr",
    "tune_embedding": "lr",
    "ditto": "lam",
    "apfl": "alpha",
    "per_fedavg": "trial_rate",
    "reptile": "meta_rate",
    "ifca": "models",
    "ifca_mixed": "models",
}


@dataclass(frozen=True)
class PersonalSetup:
    """All that decides a run.

    Args:
        method: a name in `methods.METHODS`.
        number: the one it is tuned by; None: the middle of those worth trying. Where a method has
            none it becomes None, so that equal runs are equal.
        partition: a name in `members.PARTITIONS`.
        rounds: how many.
        seed: decides the deal, the first weights and the cohorts.

    Raises:
        ValueError: a name is not among those, or there is no round.
    """

    method: str = "tune"
    number: float | None = None
    partition: str = "strictness"
    rounds: int = 12
    seed: int = 0

    def __post_init__(self):
        for name, known in (("method", METHODS), ("partition", PARTITIONS)):
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"{name}: got {value!r}, expected one of {sorted(known)}")
        if self.rounds < 4:
            raise ValueError(f"rounds: got {self.rounds}, expected at least 4")
        tries = METHODS[self.method].tries
        number = self.number
        if self.method not in NUMBER_OF:
            number = None
        elif number is None:
            number = tries[len(tries) // 2]
        object.__setattr__(self, "number", number)

    @property
    def name(self) -> str:
        """What a reader calls the method, with its number."""
        called = NUMBER_OF.get(self.method)
        own = f" ({text(called)} {self.number:g})" if called else ""
        return text(self.method) + own


@dataclass(frozen=True)
class Bars:
    """Every client's accuracy, on validation reviews like its own that it does not train on.

    Args:
        round: of the models.
        shared: with the model that all share, (K,).
        own: with its own, of the first clients; the others have none yet.
        groups: the domain or convention of each client, (K,).
        settled: whether this is how the run ended.
    """

    round: int
    shared: tuple[float, ...]
    own: tuple[float, ...]
    groups: tuple[str, ...]
    settled: bool = False


class Courses:
    """The federations that runs are made in; of each, the shared model is trained once."""

    def __init__(self, task: Task):
        self.task = task
        self._made: dict[tuple[str, int, int], Federation] = {}

    def of(self, setup: PersonalSetup, stop: threading.Event | None = None) -> Federation:
        """Return the federation of these settings, which ends once `stop` is set."""
        key = setup.partition, setup.seed, setup.rounds
        if key not in self._made:
            members, _ = deal(self.task, setup.partition, setup.seed, asks="validation")
            plan = replace(usual_plan(setup.rounds, setup.seed), workers="auto")
            self._made[key] = Federation(members, len(self.task.vocab), plan, every=2)
        return replace(self._made[key], stop=stop)


def play(
    setup: PersonalSetup, courses: Courses, stop: threading.Event | None = None
) -> Iterator[Bars]:
    """Yield bars as they come: the shared model round by round, then each client's own.

    Args:
        setup: the settings.
        courses: where the shared model may have been trained already.
        stop: once set, the run ends between two batches.

    Yields:
        `Bars`; the last are settled, unless the run was stopped.
    """
    federation = courses.of(setup, stop)
    try:
        if federation.known is None:
            for at, weights in federation.make_shared():
                plain = federation.answer_of(weights)
                yield _bars(federation, at, _scores(federation, lambda client, plain=plain: plain))
        bars = None
        for snapshot in METHODS[setup.method].snapshots(federation, setup.number or 0.0):
            for bars in _own_bars(federation, snapshot):
                yield bars
        if bars:
            yield replace(bars, settled=True)
    except Stopped:
        return


def _own_bars(federation: Federation, snapshot: Snapshot) -> Iterator[Bars]:
    """Yield the bars of one snapshot as client after client is asked."""
    plain = federation.answer_of(federation.shared[snapshot.round][0])
    shared = _scores(federation, lambda client: plain)
    own = []
    for client in range(len(federation.members)):
        federation.require_going_on()
        own.append(_score(federation, client, snapshot.answer(client)))
        yield _bars(federation, snapshot.round, shared, tuple(own))


def _scores(federation: Federation, answer: Callable[[int], Answer]) -> tuple[float, ...]:
    return tuple(
        _score(federation, client, answer(client)) for client in range(len(federation.members))
    )


def _score(federation: Federation, client: int, answer: Answer) -> float:
    own = federation.members[client].test
    return own.accuracy(own.right(answer(own.data)))


def _bars(
    federation: Federation, at: int, shared: tuple[float, ...], own: tuple[float, ...] = ()
) -> Bars:
    groups = tuple(
        m.domain if m.convention == "sentiment" else m.convention for m in federation.members
    )
    return Bars(at, shared, own, groups)
