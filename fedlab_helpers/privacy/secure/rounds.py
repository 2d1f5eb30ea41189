"""Secure sums as a phase of the round loop: `rounds(…, secure=SecureSum())`.

Every message of `protocol`'s four rounds is bytes, whoever carries them: `Party` is a client's side
and `collect` is the server's.
"""

import math
import struct
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from fedlab_helpers.core import compute, state, wire
from fedlab_helpers.core.client import Clients
from fedlab_helpers.core.identity import known_as
from fedlab_helpers.core.messages import ClientState, Received, Reply, Update, Workers, reason
from fedlab_helpers.core.require import is_number, require
from fedlab_helpers.core.rows import make_whole
from fedlab_helpers.core.state import State
from fedlab_helpers.core.strategy import Mean, Strategy
from fedlab_helpers.privacy.beside import require_nothing_beside
from fedlab_helpers.privacy.secure import shamir
from fedlab_helpers.privacy.secure.protocol import Client, PublicKeys, Server
from fedlab_helpers.privacy.secure.ring import FixedPoint

LEAST = 2  # clients of a sum: that of one is its vector
_ITEM = struct.Struct("<qI")  # before each item of a table: a client, and how many bytes follow
Ask = Callable[[str, Mapping[int, bytes]], Iterable[Reply]]


@dataclass(frozen=True)
class SecureSum:
    """How a cohort's changes are summed so that the server sees nothing but their weighted mean.

    Masks hide elements of a ring (`FixedPoint`), so changes are clipped value by value and rounded:
    the run is that without secure sums, but for the rounding. Clients bind their masks to what they
    received: where a server sent them different models, the sum is no mean, and is refused.

    The server still learns who took part, and the mean. With `PrivateMean` clients clip their whole
    change themselves, and are trusted to.

    Args:
        bits: of the ring: 8, 16 or 32.
        clip: values of a change are clipped to ±clip.
        most_examples: a public bound on the examples of one client, of series and words on what is
            asked of them; a client with more is left out, or with too few for the ring's levels.
            Needed where the mean is weighted by examples, and not looked at elsewhere.
        share: of the cohort that must stay to the end, above 1/2 and at most 1.

    Raises ValueError for a value out of range.
    """

    bits: int = 16
    clip: float = 0.5
    most_examples: float | None = None
    share: float = 2 / 3

    def __post_init__(self):
        fine = is_number(self.share) and 0.5 < self.share <= 1
        require(fine, "share", self.share, "a number above 1/2, at most 1")
        FixedPoint(
            self.bits, 1, self.clip, 1.0 if self.most_examples is None else self.most_examples
        )

    def over(self, workers: Clients) -> "SecureClients":
        """Return the same clients, of whom the server sees means only. Raises ValueError where
        they are too many for the ring, or there is one in a cohort."""
        plan, size = workers.plan, workers.size
        drawn = size if plan.sampling == "poisson" else plan.clients_per_round or size
        self.ring(workers.strategy, drawn)  # has room for so many, or it is said now
        require(drawn >= LEAST, "clients_per_round", drawn, f"at least {LEAST}, or a sum is one's")
        return SecureClients(workers, self)

    def require_fit(self, strategy: Strategy, weights: State, buffers: State) -> None:
        """Raise ValueError unless a mean is all that the server needs; `weights` and `buffers` are
        what the run moves."""
        require_nothing_beside(strategy, weights, buffers)
        combine = strategy.combine
        plain = isinstance(combine, Mean) and not combine.per_row
        fine = getattr(combine, "linear", plain) and hasattr(combine, "weights")
        known = (
            "one that needs their mean only, by examples or with equal weights: this one looks at "
            "single changes or at rows, or weighs otherwise"
        )
        require(fine, "strategy: combines by", combine, known)
        settles = "one whose clients need not know what arrived of their change"
        require(not strategy.settles, "strategy", type(strategy).__name__, settles)
        needed = "the most that one client has: the mean is weighted by examples"
        bounded = combine.weights != "examples" or self.most_examples is not None
        require(bounded, "most_examples", self.most_examples, needed)

    def threshold(self, clients: int) -> int:
        """Return how many of a cohort must stay to the end, more than half of it."""
        return max(LEAST, math.ceil(self.share * clients))

    def ring(self, strategy: Strategy, clients: int) -> FixedPoint:
        """Return the ring for a cohort of so many. Raises ValueError: they are too many for it."""
        weighted = strategy.combine.weights == "examples"
        return FixedPoint(self.bits, clients, self.clip, self.most_examples if weighted else 1.0)

    def encode(
        self,
        update: Update,
        like: State,
        strategy: Strategy,
        clients: int,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Return a client's change as elements of the ring, (d + 1,): its tensors by their names,
        and its weight in the last place; clipped to the norm that a private mean names."""
        change = make_whole(update, like).delta
        if transform := getattr(strategy.combine, "transform", None):
            change = transform.of(change)
        values = state.flatten({name: change[name] for name in sorted(like)}).double().numpy()
        weighted = strategy.combine.weights == "examples"
        examples = update.examples if weighted else 1.0
        return self.ring(strategy, clients).encode(values, examples, rng)

    def decode(
        self,
        total: np.ndarray,
        like: State,
        strategy: Strategy,
        clients: int,
        sum_of: Collection[int],
    ) -> Update:
        """Return the mean that a sum of elements stands for, as an update of many clients. Raises
        ValueError where it is none."""
        ring = self.ring(strategy, clients)
        mean, examples = ring.decode(total)
        change = shaped(mean, dict(sorted(like.items())))
        known = round(examples) if strategy.combine.weights == "examples" else 0
        who = tuple(sorted(sum_of))
        return Update(-1, change, examples=known, losses=(math.nan,), sum_of=who)

    def slack(self, values: int, clients: int) -> float:
        """Return how much longer a change of so many values can become by rounding, in a cohort of
        so many or fewer: each value moves by less than a step."""
        return math.sqrt(values) * FixedPoint(self.bits, clients, self.clip, 1.0).step


class Party(Client):
    """A client's side, message by message.

    Args:
        secure, strategy, seed: of the run; the latter decides how values are rounded.
        number, round_number: which client, and in which federated round.
        clients: the size of the cohort.
    """

    def __init__(
        self,
        secure: SecureSum,
        strategy: Strategy,
        seed: int,
        number: int,
        round_number: int,
        clients: int,
    ):
        super().__init__(number, secure.threshold(clients), round_number)
        self.secure, self.strategy, self.clients = secure, strategy, clients
        self._rng = compute.numpy_rng(seed, "ring", round_number, number)

    def answer(self, phase: str, message: bytes) -> bytes:
        """Return what the client sends in a phase. Raises ValueError for a message that the
        protocol does not allow."""
        if phase == "advertise":
            return self.advertise().to_bytes()
        if phase == "share":
            roster = {who: PublicKeys.from_bytes(keys) for who, keys in unpack(message).items()}
            fine = len(roster) <= self.clients
            require(fine, "roster", len(roster), f"{self.clients} at most, as was said")
            return pack(self.share(roster))
        require(phase == "unmask", "phase", phase, "advertise, share or unmask")
        held = self.unmask(unpack(message))
        return pack({who: part.to_bytes(shamir.SHARE_BYTES, "big") for who, part in held.items()})

    def masked(self, message: bytes, reply: Reply, received: Received) -> Reply:
        """Return what the client sends in phase "mask": its reply, of an update written densely,
        with the masked vector for payload, bound to what it received; or why there is none."""
        try:
            if reply.failure:
                return reply
            update = wire.unpack(reply.payload, wire.dense(), self.number)
            vector = self.secure.encode(
                update, received.weights, self.strategy, self.clients, self._rng
            )
            sent = self.mask(unpack(message), vector, _context(received))
        except ValueError as error:
            return Reply(self.number, failure=reason(error))
        return replace(reply, payload=sent.tobytes())


def collect(
    server: Server, cohort: Iterable[int], like: np.ndarray, ask: Ask, books: Any
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return the sum of a cohort's vectors, and of whom it is; who falls silent, or sends what
    cannot be read, is left out. Raises ValueError where too few are left.

    Args:
        server: of the protocol, fresh.
        like: a vector of the shape and dtype that is expected.
        ask: (phase, client -> message) -> what came of each, in any order.
        books: of the round; bytes and failures are written there.
    """

    def sealed(client: int, sent: bytes) -> dict[int, bytes]:
        shares, others = unpack(sent), sorted(roster.keys() - {client})
        require(sorted(shares) == others, "shares", sorted(shares), f"one for each of {others}")
        return shares

    def add(client: int, sent: bytes) -> None:
        fine = len(sent) == like.nbytes
        require(fine, "vector", f"{len(sent)} bytes", f"{like.nbytes}, {like.dtype} {like.shape}")
        server.add(client, np.frombuffer(sent, like.dtype))

    def shares(client: int, sent: bytes) -> dict[int, int]:
        held = {who: int.from_bytes(part, "big") for who, part in unpack(sent).items()}
        require(held.keys() >= inboxes.keys(), "shares", sorted(held), f"of {sorted(inboxes)}")
        return held

    def keys_of(client: int, sent: bytes) -> PublicKeys:
        return PublicKeys.from_bytes(sent)

    conduct = partial(_answers, ask, books)
    keys = conduct("advertise", dict.fromkeys(cohort, b""), keys_of)
    roster = server.announce(keys)
    table = pack({who: public.to_bytes() for who, public in roster.items()})
    inboxes = server.deliver(conduct("share", dict.fromkeys(keys, table), sealed))
    conduct("mask", {who: pack(inbox) for who, inbox in inboxes.items()}, add)
    alive = server.survivors()
    asked = dict.fromkeys(alive, pack(dict.fromkeys(alive, b"")))
    return server.unmask(conduct("unmask", asked, shares)), alive


def _answers(
    ask: Ask,
    books: Any,
    phase: str,
    messages: Mapping[int, bytes],
    read: Callable[[int, bytes], Any],
) -> dict[int, Any]:
    """Return client -> what is read of its answer in a phase; who has none is left out, but for the
    last one, when its vector is in the sum."""
    books.bytes_down += sum(map(len, messages.values()))
    found = {}
    with closing(ask(phase, messages)) as replies:
        for reply in replies:
            books.bytes_up += len(reply.payload)
            failure = reply.failure
            try:
                if not failure:
                    found[reply.client] = read(reply.client, reply.payload)
            except Exception as error:  # hostile bytes
                failure = reason(error)
            if failure and phase != "unmask":
                books.left_out[reply.client] = failure
            elif phase == "mask":
                books.keep(reply)
    return found


def sums(
    secure: SecureSum,
    strategy: Strategy,
    ask: Ask,
    books: Any,
    least: int,
    number: int,
    cohort: tuple[int, ...],
    received: Received,
) -> Generator[Update, None, None]:
    """Yield the mean of a round's cohort, having written it into the books; nothing where too few
    are left for a sum. Arguments as in `collect` and `Workers.updates`."""
    size, context = len(cohort), _context(received)
    try:
        values = sum(tensor.numel() for tensor in received.weights.values())
        expected = np.empty(values + 1, secure.ring(strategy, size).element)
        server = Server(secure.threshold(size), number, context)
        total, alive = collect(server, cohort, expected, ask, books)
        mean = secure.decode(total, received.weights, strategy, size, alive)
    except ValueError as error:
        books.kept.clear()
        books.left_out = dict.fromkeys(cohort, f"no sum: {error}") | books.left_out
    else:
        yield books.take(mean)
    if least:
        books.require_update()


class SecureClients(Workers):
    """Clients of whom the server sees means only; all in this process.

    Args:
        clients: who train. Their codec writes what they hand to the masking, and nobody else reads.
        secure: how they are summed.
    """

    def __init__(self, clients: Clients, secure: SecureSum):
        self.clients, self.secure = clients, secure
        self.codec, self.size, self.repeatable = clients.codec, clients.size, clients.repeatable
        self.shared, self.table = clients.shared, clients.table

    def identity(self) -> dict[str, Any]:
        return {**self.clients.identity(), "secure": known_as(self.secure)}

    def updates(
        self,
        books: Any,
        least: int,
        number: int,
        cohort: Iterable[int],
        received: Received,
        states: dict[int, ClientState],
    ) -> Generator[Update, None, None]:
        cohort = tuple(cohort)
        run = (self.secure, self.clients.strategy, self.clients.plan.seed)
        parties = {who: Party(*run, who, number, len(cohort)) for who in cohort}

        def ask(phase: str, messages: Mapping[int, bytes]) -> Generator[Reply, None, None]:
            if phase != "mask":
                for who, message in messages.items():
                    yield Reply(who, parties[who].answer(phase, message))
                return
            with closing(self.clients.replies(number, messages, received, states)) as replies:
                for reply in replies:
                    who = reply.client
                    yield parties[who].masked(messages[who], reply, received)

        asked = (books, least, number, cohort, received)
        return sums(self.secure, self.clients.strategy, ask, *asked)


def _context(received: Received) -> bytes:
    """Return what a server sent, as bytes: masks are bound to it."""
    parts = (received.weights, received.extra, received.buffers)
    return b"".join(wire.dense().encode(part) for part in parts if part)


def shaped(values: np.ndarray, like: State) -> State:
    """Return values, (d,), one tensor after the other, as a state."""
    parts = torch.from_numpy(values).split([tensor.numel() for tensor in like.values()])
    named = zip(like.items(), parts, strict=True)
    return {name: part.view_as(tensor).to(tensor) for (name, tensor), part in named}


def pack(table: Mapping[int, bytes]) -> bytes:
    """Return client -> bytes as one message."""
    return b"".join(_ITEM.pack(who, len(item)) + item for who, item in sorted(table.items()))


def unpack(message: bytes) -> dict[int, bytes]:
    """Return the table in a message. Raises ValueError where it holds something else."""
    table, at = {}, 0
    while at < len(message):
        head = message[at : at + _ITEM.size]
        require(len(head) == _ITEM.size, "message", f"{len(head)} bytes at its end", "whole items")
        who, size = _ITEM.unpack(head)
        at += _ITEM.size + size
        fine = at <= len(message) and who not in table
        require(fine, "message", f"{who} with {size} bytes", "whole items, each client once")
        table[who] = message[at - size : at]
    return table
