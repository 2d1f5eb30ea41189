"""What passes between server and clients, and who passes it on: updates, transforms, codecs."""

import math
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from fedlab_helpers.core.state import State, all_finite

ClientState = dict[str, State]  # what one client keeps between rounds, by owner: "private", …


class RefusedUpdate(ValueError):
    """An update that the server does not take into its mean; the message says why."""


@dataclass(frozen=True, eq=False)
class Update:
    """What one client tells the server after its local training.

    Args:
        client: position of the client in the list of clients.
        delta: local weights minus received weights (or the local weights themselves, when the
            strategy asks for those). A tensor named in `touched_rows` holds these rows only.
        touched_rows: tensor name -> its rows in `delta`, (k,) int64, ascending; the others did
            not change.
        examples: targets that the client holds: its weight in the mean, also of partial work. The
            server takes its word for it.
        steps: optimiser steps taken.
        losses: mean training loss of each local epoch.
        extra: what a strategy asks clients to send beside the change.
        buffers: the local values of what the model holds beside its weights, such as running
            statistics: neither step, transform nor codec moves them; the server takes the mean.
        sum_of: the clients of whom this is the mean, where no more is known; empty: it is one's.
    """

    client: int
    delta: State
    touched_rows: dict[str, Tensor] = field(default_factory=dict)
    examples: int = 0
    steps: int = 0
    losses: tuple[float, ...] = ()
    extra: State = field(default_factory=dict)
    buffers: State = field(default_factory=dict)
    sum_of: tuple[int, ...] = ()

    def require_fit(
        self, like: State, extra: State | None = None, buffers: State | None = None
    ) -> None:
        """Raise RefusedUpdate unless names, shapes, dtypes, rows and values are acceptable: `like`
        a whole `delta`, `extra` and `buffers`; where these are None, their values must be finite.
        A buffer that came back as it is may hold the infinities of a mask.
        """
        if odd := sorted(self.touched_rows.keys() - like.keys()):
            raise RefusedUpdate(f"rows of tensors that the model does not have: {odd}")
        whole = {name: self._expected(name, tensor) for name, tensor in like.items()}
        _require_kinds("the change", self.delta, whole)
        for what, part, asked in (("extra", self.extra, extra), ("buffers", self.buffers, buffers)):
            if asked is not None:
                _require_kinds(what, part, {name: _kind(t) for name, t in asked.items()})
        try:
            moved = self.moved(buffers or {}) if self.buffers else {}
            parts = (*self.delta.items(), *self.extra.items(), *moved.items())
            odd = [name for name, tensor in parts if not all_finite({name: tensor})]
        except NotImplementedError as error:  # torch cannot look into every dtype it has
            raise RefusedUpdate(f"a value's dtype cannot be checked: {error}") from error
        if odd or not all(map(math.isfinite, self.losses)):
            where = f"{odd[0]} and {len(odd) - 1} more" if odd else f"the losses {self.losses}"
            raise RefusedUpdate(f"a value is NaN or infinite: in {where}"[:500])
        if self.examples < 1 or self.steps < 0 or not self.losses:
            told = f"{self.examples} examples, {self.steps} steps and {len(self.losses)} losses"
            raise RefusedUpdate(f"{told} are reported, expected at least 1, 0 and 1")

    def moved(self, sent: State) -> State:
        """Return the buffers that are not as they were sent."""
        return {n: t for n, t in self.buffers.items() if n not in sent or not t.equal(sent[n])}

    def _expected(self, name: str, whole: Tensor) -> str:
        """Return what a tensor must be: like the whole one, or its touched rows."""
        if name not in self.touched_rows:
            return _kind(whole)
        rows, shape = self.touched_rows[name], tuple(whole.shape)
        if not shape or rows.dim() != 1:
            came = f"{name!r}, which is {shape}, come as {tuple(rows.shape)}"
            raise RefusedUpdate(f"rows of {came}, expected (k,), and for tensors that have rows")
        inside = len(rows) == 0 or (int(rows[0]) >= 0 and int(rows[-1]) < shape[0])
        if not inside or not bool((rows[1:] > rows[:-1]).all()):
            raise RefusedUpdate(f"rows of {name!r} must ascend within 0..{shape[0] - 1}")
        return f"{(len(rows), *shape[1:])} {whole.dtype}"


def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {tensor.dtype}"


def _require_kinds(what: str, part: State, expected: dict[str, str]) -> None:
    came = {name: _kind(tensor) for name, tensor in part.items()}
    for name in sorted(came.keys() | expected.keys()):
        got, wanted = came.get(name, "missing"), expected.get(name, "no such name")
        if got != wanted:
            raise RefusedUpdate(f"{what}: {name!r} is {got}, expected {wanted}"[:500])


class Transform(Protocol):
    """One step that an update passes on the client, in the order given to `rounds`.

    Three attributes, False where it does not have them, say what it does beyond its call. `dense`:
    it wants updates whole, not the touched rows only. `covers_extra`: it treats all that leaves
    the client, `update.extra` included; what SCAFFOLD, say, sends there gives the exact change
    away, so such runs refuse transforms that do not. `secret`: what it draws protects somebody, so
    its generator is seeded by the system and not by the plan's seed, which travels; the run is
    then not repeatable, as its records say. It may have `require_fit(clients)`, which raises a
    ValueError before anybody trains where it makes no sense of these `Clients`.
    """

    def __call__(self, update: Update, kept: State, rng: torch.Generator) -> tuple[Update, State]:
        """Return the changed update, and what to keep for this client's next round.

        Args:
            update: as the step before left it; do not change its tensors in place.
            kept: what this transform returned in the client's last accepted round, else {}.
            rng: CPU generator of its own for this seed, round, client and transform.
        """


class Codec(Protocol):
    """Turns named tensors into the bytes that are sent, and back.

    It may also have `pack(update, kept, like, rng)`, which returns the bytes of an update and what
    the client keeps of it, to be handed back with its next one (error feedback); and
    `changes_only`, True if what it sends makes sense of changes only, not of whole weights.
    """

    keeps_rows: bool  # False: row-sparse tensors are made whole before they are encoded

    def encode(self, state: State, rng: torch.Generator | None = None) -> bytes:
        """Return the payload of tensors on the CPU; `rng`: of what is drawn at random."""

    def decode(self, payload: bytes) -> State:
        """Return the tensors, on the CPU. Raises WireError for anything else than a payload."""


@dataclass(frozen=True, eq=False)
class Received:
    """What the server sent to each client of a cohort, as decoded: weights, what the strategy
    sends beside them, and buffers.

    Where it sends changes: of which `version` weights and extra are, and the changes that bring a
    client there, the last ones up to this version; who is not among `missed` gets them whole.
    """

    weights: State
    extra: State = field(default_factory=dict)
    buffers: State = field(default_factory=dict)
    version: int | None = None
    missed: Mapping[int, Sequence[bytes]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Request:
    """What one client is asked to do in round `number`: train from what it received."""

    number: int
    client: int
    received: Received


@dataclass(frozen=True, eq=False)
class Reply:
    """What comes back from one client: bytes and what it keeps, or why nothing came."""

    client: int
    payload: bytes = b""
    kept: ClientState = field(default_factory=dict)
    failure: str | None = None


class Workers:
    """Who answers in a federated run: `Clients`, or machines elsewhere.

    Args:
        codec: how updates become bytes.
        size: how many clients there are.
        repeatable: whether the same seed gives the same run again.
        table: the parameter of which clients train the touched rows only, if any.
    """

    codec: Codec
    size: int
    repeatable: bool
    table: str | None = None

    def shared(self, name: str) -> bool:
        """Return whether the parameter of this name is sent and averaged."""
        return True

    def identity(self) -> dict[str, Any]:
        """Return what must be equal for a checkpoint to be of a run with these clients."""
        raise NotImplementedError

    def answers(
        self, requests: Iterable[Request], states: dict[int, ClientState]
    ) -> Generator[Reply, None, None]:
        """Yield the reply to each request, in this order; clients may start from other weights.
        `states` is what each kept from earlier rounds, and is not changed."""
        raise NotImplementedError

    def replies(
        self,
        number: int,
        cohort: Iterable[int],
        received: Received,
        states: dict[int, ClientState],
    ) -> Generator[Reply, None, None]:
        """Yield the reply of each client of round `number`, in cohort order."""
        return self.answers((Request(number, client, received) for client in cohort), states)

    def updates(self, books: Any, least: int, *asked: Any) -> Generator[Update, None, None]:
        """Yield what can be used of `replies(*asked)`, as `RoundBooks.accept` writes it down."""
        with closing(self.replies(*asked)) as replies:
            yield from books.accept(replies, least)


def reason(error: Exception) -> str:
    """Return why a client is left out, as `one_line`."""
    return one_line(f"{type(error).__name__}: {error}")


def one_line(text: str) -> str:
    """Return a text that a client may have written, for a record: short, without line breaks and
    what else a terminal would obey."""
    return "".join(sign if sign.isprintable() else " " for sign in text[:500])
