"""From server to clients: the weights whole, or how they changed since each client last heard."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from fedlab_helpers.compression import require_contraction
from fedlab_helpers.core import rows, wire
from fedlab_helpers.core.messages import Codec, Received, Update
from fedlab_helpers.core.state import State, add, subtract

_HELD, _BESIDE, _PAYLOAD, _SEEN = "held.", "beside.", "payload.", "seen"
WHOLE = -1  # the version of a client of whom it is not known what it holds


@dataclass(frozen=True)
class Changes:
    """Sends each round's change of the weights, compressed, and each client what it missed.

    The model is then what clients hold. What the codec loses is not lost: the change is always
    taken from what clients hold to what the server has, so that it is part of the next one (Tang
    et al. 2019, arXiv:1905.05957, section 3). A client that sat out for some rounds gets all their
    payloads, in order, or the weights whole where that is less; so all clients that are up to
    date hold the same weights, bit for bit. Of whom did not answer it is not known what it holds:
    it gets the weights whole when it is asked again.

    Args:
        codec: of the changes; one that loses less than there was.
        known_start: whether clients have the first weights already (made from the same seed);
            if not, each is sent them whole when it is first asked.
    """

    codec: Codec
    known_start: bool = False

    def __post_init__(self):
        require_contraction(self.codec)

    def begin(self, params: State, extra: State, table: str | None) -> "ChangesDownlink":
        """Return the link before the first round.

        Args:
            params: the first weights.
            extra: what a strategy sends beside them.
            table: the parameter of which rows that did not change are left out, if any.
        """
        return ChangesDownlink(params, extra, table, self)

    def applied(self, payload: bytes, weights: State, extra: State) -> tuple[State, State]:
        """Return weights, and what is beside them, after one change more. Raises ValueError: the
        payload is damaged, or is of other weights."""
        update = wire.unpack(payload, self.codec, 0)
        update.require_fit(weights, extra)
        delta = rows.make_whole(update, weights).delta
        return add(weights, delta), add(extra, update.extra)


@dataclass(frozen=True, eq=False)
class ChangesDownlink(wire.Downlink):
    """What the server knows of its clients.

    Args:
        changes: how changes are sent; of the `table`, without the rows that did not change.
        version: how many changes there were so far, one a round.
        payloads: the last changes as they are sent, by version.
        seen: client -> the version that it was last brought up to; `WHOLE`: it is not known.
    """

    changes: Changes | None = None
    version: int = 0
    payloads: Mapping[int, bytes] = field(default_factory=dict)
    seen: Mapping[int, int] = field(default_factory=dict)

    def deliver(self, cohort: Iterable[int]) -> "tuple[Received, ChangesDownlink, int]":
        most = _size(self.held, self.beside)
        cohort = tuple(cohort)
        changes = {client: self._missed(client) for client in cohort}
        missed = {client: sent for client, sent in changes.items() if sent is not None}
        cost = sum(sum(map(len, sent)) for sent in missed.values())  # each less than `most`
        cost += most * (len(cohort) - len(missed))
        seen = {**self.seen, **dict.fromkeys(cohort, self.version)}
        received = Received(self.held, self.beside, version=self.version, missed=missed)
        return received, replace(self, seen=seen), cost

    def _missed(self, client: int) -> list[bytes] | None:
        """Return the changes that bring a client up to date; None: it gets the weights whole."""
        last = self.seen.get(client, 0 if self.changes.known_start else WHOLE)
        wanted = range(last + 1, self.version + 1)
        if last == WHOLE or not self.payloads.keys() >= {*wanted}:
            return None
        return [self.payloads[each] for each in wanted]

    def without(self, clients: Iterable[int]) -> "ChangesDownlink":
        return replace(self, seen={**self.seen, **dict.fromkeys(clients, WHOLE)})

    def advance(self, params: State, extra: State, rng: torch.Generator) -> "ChangesDownlink":
        payload = self._pack(subtract(params, self.held), subtract(extra, self.beside), rng)
        held, beside = self.changes.applied(payload, self.held, self.beside)
        version, most = self.version + 1, _size(params, extra)
        return replace(
            self,
            held=held,
            beside=beside,
            version=version,
            payloads=_worth_keeping({**self.payloads, version: payload}, most),
        )

    def _pack(self, change: State, more: State, rng: torch.Generator) -> bytes:
        """Return a change as bytes, in the form of an update."""
        part, touched = _changed(change, self.table)
        update = Update(0, part, touched, examples=1, losses=(0.0,), extra=more)
        return wire.pack(update, self.changes.codec, change, rng)

    def to_state(self) -> State:
        state = {_HELD + name: tensor for name, tensor in self.held.items()}
        state |= {_BESIDE + name: tensor for name, tensor in self.beside.items()}
        for number, payload in self.payloads.items():
            state[f"{_PAYLOAD}{number}"] = torch.frombuffer(bytearray(payload), dtype=torch.uint8)
        seen = torch.tensor(sorted(self.seen.items()), dtype=torch.int64, device="cpu")
        return state | {_SEEN: seen.reshape(-1, 2)}

    def restored(
        self, state: State, params: State, extra: State, version: int
    ) -> "ChangesDownlink":
        # In the order of the weights, which a checkpoint does not keep.
        held = {name: state[_HELD + name] for name in params}
        beside = {name: state[_BESIDE + name] for name in extra}
        payloads = {
            int(name.removeprefix(_PAYLOAD)): bytes(tensor.tolist())
            for name, tensor in state.items()
            if name.startswith(_PAYLOAD)
        }
        parts = {"held": held, "beside": beside, "payloads": payloads}
        return replace(self, **parts, version=version, seen=dict(state[_SEEN].tolist()))


def _size(params: State, extra: State) -> int:
    return sum(wire.size(part) for part in (params, extra) if part)


def _worth_keeping(payloads: Mapping[int, bytes], most: int) -> dict[int, bytes]:
    """Return the newest payloads: as many as are together less than `most`."""
    kept = dict(sorted(payloads.items()))
    while kept and sum(map(len, kept.values())) >= most:
        del kept[min(kept)]
    return kept


def _changed(change: State, table: str | None) -> tuple[State, dict[str, Tensor]]:
    """Return a change with those rows of a table only that are not zero, and which these are."""
    if table not in change:
        return change, {}
    moved = change[table].flatten(1).any(1).nonzero()[:, 0]
    return {**change, table: change[table][moved]}, {table: moved}
