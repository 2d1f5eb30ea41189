"""What happened in each round: the books of one, kept while it goes on, and the records of all."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from fedlab_helpers.core import wire
from fedlab_helpers.core.messages import ClientState, Codec, Reply, Update, reason
from fedlab_helpers.core.state import RunningMean, State

if TYPE_CHECKING:  # a node, started for each message, shall not wait for it
    import pandas as pd


@dataclass(frozen=True)
class RoundRecord:
    """One finished round.

    Args:
        round: counted from 1.
        cohort: the clients that were asked, in the order their updates were averaged.
        examples: targets that the accepted clients hold; 0 where the server cannot know.
        steps: optimiser steps behind the accepted updates; likewise.
        client_losses: client -> mean training loss of its last local epoch; NaN: likewise.
        left_out: client -> why its update is not in the mean.
        bytes_down: bytes sent to the cohort, as encoded.
        bytes_up: bytes that the cohort sent, refused payloads included, as encoded.
        seconds: wall time of the round, evaluation included.
        metrics: of the new global model, e.g. {"loss": …, "accuracy": …}; {} in a round
            without evaluation.
        repeatable: whether the same seed gives the same round; not where noise must be secret.
        told: what the strategy says of the round, by name, e.g. {"epsilon": …}.
    """

    round: int
    cohort: tuple[int, ...]
    examples: int
    steps: int
    client_losses: dict[int, float]
    left_out: dict[int, str]
    bytes_down: int
    bytes_up: int
    seconds: float
    metrics: dict[str, float] = field(default_factory=dict)
    repeatable: bool = True
    told: dict[str, float] = field(default_factory=dict)

    @property
    def train_loss(self) -> float:
        """Mean over the accepted clients, each counting once, of their last epoch's loss; NaN where
        there was none."""
        losses = self.client_losses.values()
        return sum(losses) / len(losses) if losses else math.nan

    def to_json(self) -> dict[str, Any]:
        """Return the record as values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "RoundRecord":
        """Return the record that `to_json` was called on: JSON turns keys into strings."""
        own = {"cohort": tuple(fields["cohort"])}
        for name in ("client_losses", "left_out"):
            own[name] = {int(client): value for client, value in fields[name].items()}
        return cls(**fields | own)


@dataclass(frozen=True)
class History(Sequence[RoundRecord]):
    """The records of a run, in order."""

    records: tuple[RoundRecord, ...] = ()

    def __getitem__(self, index):
        return self.records[index]

    def __len__(self) -> int:
        return len(self.records)

    def to_frame(self) -> "pd.DataFrame":
        """Return one row a round, indexed by round: clients (accepted), left_out (count),
        examples, steps, train_loss, each metric, what the strategy told, bytes_down, bytes_up,
        total_bytes (both ways, summed up to this round), seconds."""
        import pandas as pd

        rows, total = [], 0
        for record in self.records:
            row = {"clients": len(record.client_losses), "left_out": len(record.left_out)}
            row |= {n: getattr(record, n) for n in ("round", "examples", "steps", "train_loss")}
            # Its "examples" are those of the test; the column counts those trained on.
            row |= {name: v for name, v in record.metrics.items() if name != "examples"}
            row |= {**record.told, "bytes_down": record.bytes_down, "bytes_up": record.bytes_up}
            total += record.bytes_down + record.bytes_up
            rows.append(row | {"total_bytes": total, "seconds": record.seconds})
        return pd.DataFrame(rows).set_index("round") if rows else pd.DataFrame()


class NoUpdateLeft(RuntimeError):
    """Every client of a round was left out; the message says why each was."""


@dataclass(eq=False)
class RoundBooks:
    """The books of one round: what crossed the wire, in bytes, and what became of it.

    Args:
        round, cohort, repeatable: as in `RoundRecord`.
        codec: how updates were encoded.
        params, extra, buffers: what an update must be like, and what comes beside its change.
    """

    round: int
    cohort: tuple[int, ...]
    codec: Codec
    params: State
    extra: State = field(default_factory=dict)
    buffers: State = field(default_factory=dict)
    repeatable: bool = True
    bytes_down: int = 0
    bytes_up: int = 0
    examples: int = 0
    steps: int = 0
    losses: dict[int, float] = field(default_factory=dict)
    left_out: dict[int, str] = field(default_factory=dict)
    kept: dict[int, ClientState] = field(default_factory=dict)
    told: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)

    def __post_init__(self):
        self._mean, self._moved = RunningMean(self.buffers), set()

    def accept(self, replies: Iterable[Reply], least: int = 1) -> Iterator[Update]:
        """Yield the updates that can be used, in order. Raises NoUpdateLeft: there was none, unless
        the `least` number of them is 0."""
        for reply in replies:
            if (update := self.read(reply)) is not None:
                yield update
        if least:
            self.require_update()

    def read(self, reply: Reply) -> Update | None:
        """Return the update of one reply, or None where it cannot be used."""
        self.bytes_up += len(reply.payload)
        try:
            if not (failure := reply.failure):
                update = wire.unpack(reply.payload, self.codec, reply.client)
                update.require_fit(self.params, self.extra, self.buffers)
        except Exception as error:  # hostile bytes can make a reader's own codec raise anything
            failure = reason(error)
        if failure:
            self.left_out[reply.client] = failure
            return None
        self._mean.add(update.buffers, update.examples)
        self._moved |= update.moved(self.buffers).keys()
        self.keep(reply)
        return self.take(update)

    def take(self, update: Update) -> Update:
        """Return an update that goes into the mean, having counted it."""
        self.examples += update.examples
        self.steps += update.steps
        self.losses |= dict.fromkeys(update.sum_of or [update.client], update.losses[-1])
        return update

    def keep(self, reply: Reply) -> None:
        """Keep what a client keeps, sorted as a checkpoint returns it, so that sums repeat."""
        if reply.kept:
            owners = sorted(reply.kept.items())
            self.kept[reply.client] = {o: dict(sorted(part.items())) for o, part in owners if part}

    def mean_buffers(self) -> State:
        """Return the mean of the accepted clients' buffers, weighted by their examples; of those
        that no client moved, and where no update came back, what was sent."""
        mean = self._mean.result() if self._moved else {}
        return self.buffers | {name: mean[name] for name in self._moved}

    def require_update(self) -> None:
        """Raise NoUpdateLeft if no update could be used."""
        if not self.losses:
            alike: dict[str, list[str]] = {}
            for client, why in self.left_out.items():
                alike.setdefault(why, []).append(str(client))
            told = "; ".join(f"client {', '.join(who)}: {why}" for why, who in alike.items())
            raise NoUpdateLeft(f"round {self.round}: every client was left out: {told}")

    def record(self, metrics: dict[str, float]) -> RoundRecord:
        """Return the finished round as a record; its seconds end now."""
        seconds, fields = time.perf_counter() - self.began, RoundRecord.__dataclass_fields__
        known = {name: value for name, value in vars(self).items() if name in fields}
        return RoundRecord(**known, client_losses=self.losses, seconds=seconds, metrics=metrics)
