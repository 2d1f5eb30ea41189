"""What crossed the wire in one round, in bytes, and what became of it."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from fedlab_helpers.compression import downlink
from fedlab_helpers.core import wire
from fedlab_helpers.core.history import RoundRecord
from fedlab_helpers.core.messages import Received, Reply, reason
from fedlab_helpers.core.state import State
from fedlab_helpers.core.updates import ClientState, Codec, Update


class NoUpdateLeft(RuntimeError):
    """Every client of a round was left out; the message says why each was."""


@dataclass(eq=False)
class Ledger:
    """The books of one round.

    Args:
        round: its number, from 1.
        cohort: the clients asked.
        codec: how their updates were encoded.
        params: the global weights sent; an update that does not fit them is refused.
        extra: tensors of the shapes that must come beside each change.
    """

    round: int
    cohort: tuple[int, ...]
    codec: Codec
    params: State
    extra: State = field(default_factory=dict)
    bytes_down: int = 0
    bytes_up: int = 0
    examples: int = 0
    steps: int = 0
    losses: dict[int, float] = field(default_factory=dict)
    left_out: dict[int, str] = field(default_factory=dict)
    kept: dict[int, ClientState] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)

    def send(self, extra: State, copies: int) -> Received:
        """Return the global weights, and what goes beside them, as every client decodes them.

        Args:
            extra: what goes beside the weights.
            copies: how many clients they are sent to.
        """
        received, size = downlink.whole(self.params, extra)
        self.bytes_down += size * copies
        return received

    def accept(self, replies: Iterable[Reply]) -> Iterator[Update]:
        """Yield the updates that can be used, in order, one at a time.

        Raises:
            NoUpdateLeft: there was none.
        """
        for reply in replies:
            if (update := self.read(reply)) is not None:
                yield update
        self.require_update()

    def read(self, reply: Reply) -> Update | None:
        """Return the update of one reply, or None where it cannot be used."""
        self.bytes_up += len(reply.payload)
        if reply.failure:
            self.left_out[reply.client] = reply.failure
            return None
        try:
            update = wire.unpack(reply.payload, self.codec, reply.client)
            update.require_fit(self.params, self.extra)
        except Exception as error:  # hostile bytes can make a reader's own codec raise anything
            self.left_out[reply.client] = reason(error)
            return None
        self.examples += update.examples
        self.steps += update.steps
        self.losses[reply.client] = update.losses[-1]
        if reply.kept:
            # In the order in which a checkpoint gives them back.
            self.kept[reply.client] = {
                owner: dict(sorted(tensors.items()))
                for owner, tensors in sorted(reply.kept.items())
                if tensors
            }
        return update

    def require_update(self) -> None:
        """Raise NoUpdateLeft if no update could be used."""
        if not self.losses:
            reasons = "; ".join(f"client {c}: {why}" for c, why in self.left_out.items())
            raise NoUpdateLeft(f"round {self.round}: every client was left out: {reasons}")

    def record(self, metrics: dict[str, float]) -> RoundRecord:
        """Return the finished round as a record; its seconds end now."""
        return RoundRecord(
            self.round,
            self.cohort,
            self.examples,
            self.steps,
            self.losses,
            self.left_out,
            self.bytes_down,
            self.bytes_up,
            time.perf_counter() - self.began,
            metrics,
        )
