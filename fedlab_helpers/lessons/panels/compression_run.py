"""Compressed training at the press of a button: settings, and bytes and accuracy as they come."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from fedlab_helpers import strategies
from fedlab_helpers.compression import (
    Compressed,
    CountSketch,
    Everything,
    Float16,
    Float32,
    LowRank,
    Quantized,
    RandomK,
    Sign,
    Ternary,
    TopK,
    WithFeedback,
    dense_size,
)
from fedlab_helpers.core import rounds as federated
from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.core.messages import Codec
from fedlab_helpers.core.training import LocalConfig
from fedlab_helpers.lessons.words import text
from fedlab_helpers.tasks.reviews.model import SentimentLSTM
from fedlab_helpers.tasks.reviews.task import Task

_SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
AMOUNTS = {  # what is kept -> how much of it there may be; none where there is no choice
    "everything": (),
    "topk": _SHARES,
    "randomk": _SHARES,
    "lowrank": (1, 2, 4, 8),
    "sketch": (0.05, 0.1, 0.2, 0.5),
}
WRITES = {
    "float32": Float32(),
    "float16": Float16(),
    "bfloat16": Float16(brain=True),
    "bits8": Quantized(8),
    "bits4": Quantized(4),
    "bits2": Quantized(2),
    "ternary": Ternary(),
    "signs": Sign(),
}
PARTITIONS = ("iid", "by_domain", "dirichlet")
_MOMENTUM = 0.9


def feeds_back(keep: str, write: str) -> bool:
    """Return whether error feedback makes sense: not where more may be lost than there was."""
    return keep != "sketch" and write != "ternary"


_LOCAL = LocalConfig(lr=2e-2)  # as tuned for the strategy used here: `studies.aggregation.CHOSEN`


@dataclass(frozen=True)
class CompressionSetup:
    """All that decides a run. What does not apply becomes None or False, so that equal runs are
    equal.

    Args:
        keep: which values are sent, a name in `AMOUNTS`.
        amount: share of them, or rank; None: 0.01, or the least there is.
        write: how each is written, a name in `WRITES`.
        squeeze: Zstandard over the packed bytes.
        feedback: clients keep what was lost; values are then rounded to the nearest, not at random.
        momentum: of DGC, 0.9; with the largest values and feedback only.
        partition: how reviews are dealt to 20 clients, of whom 10 train in a round.
        rounds: how many.
        seed: decides the deal, the first weights and the cohorts.

    Raises:
        ValueError: a name or number is not among those.
    """

    keep: str = "everything"
    amount: float | None = None
    write: str = "float32"
    squeeze: bool = True
    feedback: bool = False
    momentum: bool = False
    partition: str = "iid"
    rounds: int = 10
    seed: int = 0

    def __post_init__(self):
        for name, known in (("keep", AMOUNTS), ("write", WRITES), ("partition", PARTITIONS)):
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"{name}: got {value!r}, expected one of {sorted(known)}")
        if self.rounds < 1:
            raise ValueError(f"rounds: got {self.rounds!r}, expected at least 1")
        amounts, amount = AMOUNTS[self.keep], self.amount
        if not amounts:
            amount = None
        elif amount is None:
            amount = 0.01 if 0.01 in amounts else amounts[0]
        if amounts and amount not in amounts:
            raise ValueError(f"amount: got {amount!r}, expected one of {list(amounts)}")
        object.__setattr__(self, "amount", amount)
        object.__setattr__(self, "feedback", self.feedback and feeds_back(self.keep, self.write))
        momentum = self.momentum and self.feedback and self.keep == "topk"
        object.__setattr__(self, "momentum", momentum)

    @property
    def name(self) -> str:
        """What a reader calls the codec."""
        parts = [text(self.keep)]
        if self.amount is not None:
            rank = self.keep == "lowrank"
            amount = self.amount if rank else 100 * self.amount
            parts[0] += f" ({text('amount_rank' if rank else 'amount_share', amount=amount)})"
        parts.append(text(self.write))
        more = {name: getattr(self, name) for name in ("squeeze", "feedback", "momentum")}
        return ", ".join([*parts, *(text(f"with_{name}") for name, on in more.items() if on)])

    def codec(self) -> Codec:
        """Return the codec."""
        make: dict[str, Callable] = {
            "everything": Everything,
            "topk": lambda: TopK(self.amount),
            "randomk": lambda: RandomK(self.amount, scaled=not self.feedback),
            "lowrank": lambda: LowRank(self.amount),
            "sketch": lambda: CountSketch(self.amount),
        }
        write = WRITES[self.write]
        if self.feedback and isinstance(write, Quantized):
            write = replace(write, stochastic=False)  # with feedback, nearest loses least
        codec = Compressed(make[self.keep](), write, 19 if self.squeeze else None)
        if not self.feedback:
            return codec
        return WithFeedback(codec, _MOMENTUM if self.momentum else 0.0)


@dataclass(frozen=True)
class Spot:
    """Where a run stands after a round.

    Args:
        round: from 1.
        accuracy: of the global model on the validation reviews.
        bytes_up: sent by all clients so far.
        dense_bytes_up: what they would have sent in float32, every value.
        updates: that were sent so far.
    """

    round: int
    accuracy: float
    bytes_up: int
    dense_bytes_up: int
    updates: int

    @property
    def factor(self) -> float:
        """How many times fewer the bytes are than dense ones."""
        return self.dense_bytes_up / self.bytes_up

    @property
    def kilobytes(self) -> float:
        """Of one client in one round, on average."""
        return self.bytes_up / self.updates / 1e3


def play(
    setup: CompressionSetup, task: Task, stop: threading.Event | None = None
) -> Iterator[Spot]:
    """Train with FedAvg, row by row, updates compressed as set; yield a spot after each round.

    Args:
        setup: the settings.
        task: real reviews; the model is evaluated on its validation part.
        stop: once set, the run ends between two batches.
    """
    parts = task.deal(setup.partition, 20, numpy_rng(setup.seed, "partition"))
    model = SentimentLSTM(len(task.vocab), pooling="mean", dropout=0.3, seed=setup.seed)
    plan = federated.Plan(setup.rounds, 10, _LOCAL, setup.seed)
    options = {"test": task.validation, "codec": setup.codec(), "stop": stop}
    dense, sent, updates = dense_size(model), 0, 0
    for record in federated.rounds(
        model, task.clients(parts), strategies.rowwise(), plan, **options
    ):
        sent, updates = sent + record.bytes_up, updates + len(record.client_losses)
        yield Spot(record.round, record.metrics["accuracy"], sent, updates * dense, updates)
