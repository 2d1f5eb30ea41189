"""What happened in each round, as values that can be drawn, stored and compared."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class RoundRecord:
    """One finished round.

    Args:
        round: counted from 1.
        cohort: the clients that were asked, in the order their updates were averaged.
        examples: reviews behind the accepted updates.
        steps: optimiser steps behind the accepted updates.
        client_losses: client -> mean training loss of its last local epoch, in nats.
        left_out: client -> why its update is not in the mean.
        bytes_down: bytes sent to the cohort, as encoded.
        bytes_up: bytes that the cohort sent, refused payloads included, as encoded.
        seconds: wall time of the round, evaluation included.
        metrics: of the new global model, e.g. {"loss": …, "accuracy": …}; {} in a round
            without evaluation.
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

    @property
    def train_loss(self) -> float:
        """Mean over the accepted clients, each counting once, of their last epoch's loss."""
        return sum(self.client_losses.values()) / len(self.client_losses)

    def to_json(self) -> dict[str, Any]:
        """Return the record as values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "RoundRecord":
        """Return the record that `to_json` was called on: JSON turns keys into strings."""
        by_client = {
            name: {int(client): value for client, value in fields[name].items()}
            for name in ("client_losses", "left_out")
        }
        return cls(**{**fields, **by_client, "cohort": tuple(fields["cohort"])})


@dataclass(frozen=True)
class History(Sequence[RoundRecord]):
    """The records of a run, in order."""

    records: tuple[RoundRecord, ...] = ()

    def __getitem__(self, index):
        return self.records[index]

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[RoundRecord]:
        return iter(self.records)

    def to_frame(self) -> pd.DataFrame:
        """Return one row a round, indexed by round.

        Columns: clients (accepted), left_out (count), examples, steps, train_loss, each metric,
        bytes_down, bytes_up, total_bytes (both ways, summed up to this round), seconds.
        """
        rows = [
            {
                "round": record.round,
                "clients": len(record.client_losses),
                "left_out": len(record.left_out),
                "examples": record.examples,
                "steps": record.steps,
                "train_loss": record.train_loss,
                # Its "examples" are the test reviews; the column counts those trained on.
                **{name: v for name, v in record.metrics.items() if name != "examples"},
                "bytes_down": record.bytes_down,
                "bytes_up": record.bytes_up,
                "seconds": record.seconds,
            }
            for record in self.records
        ]
        frame = pd.DataFrame(rows)
        if rows:
            frame = frame.set_index("round")
            total = (frame["bytes_down"] + frame["bytes_up"]).cumsum()
            frame.insert(frame.columns.get_loc("seconds"), "total_bytes", total)
        return frame
