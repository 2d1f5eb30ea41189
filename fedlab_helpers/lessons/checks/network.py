"""Checks of notebook 14: from notebook to network."""

import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch

from fedlab_helpers.core.history import RoundRecord
from fedlab_helpers.core.state import State
from fedlab_helpers.lessons.checks.verdict import (
    Verdict,
    exercise,
    near,
    number,
    right,
    tensor,
    wrong,
)

LOST = "started anew"  # in the words of a node that has forgotten
# What Python, NumPy and PyTorch themselves say of nothing: that is nobody's own message.
BY_ITSELF = re.compile(r"^(max|min)\(\)|to unpack|at least one array|non-empty (list|TensorList)")


@exercise("write `round_seconds`: how long a round takes when clients have links and speeds")
def round_seconds(function: Callable[[int, int, Mapping], float]) -> Verdict:
    """Judge a function of (bytes down, bytes up, client -> (Mbit/s down, Mbit/s up, seconds of
    training)) -> seconds until the last answer is there."""
    down, up = 3_000_000, 250_000
    for links in (
        {0: (100.0, 40.0, 2.0), 1: (8.0, 1.0, 0.5), 2: (50.0, 10.0, 1.0)},
        {0: (8.0, 4.0, 0.5), 1: (100.0, 40.0, 9.0)},
    ):
        told = _round_seconds(function(down, up, links), down, up, links)
        if told:
            return wrong(told)
    alone = number(function(0, 0, {5: (1.0, 1.0, 0.25)}))
    if not abs(alone - 0.25) <= 1e-9:
        return wrong(f"without a byte, training remains: 0.25 s; got {alone!r}.")
    return right("the slowest client decides, be it by its link or by its speed.")


def _round_seconds(got: float, down: int, up: int, links: Mapping) -> str | None:
    """Return what is wrong with the seconds of a round; None: nothing."""

    def each(bits: float) -> list[float]:
        return [bits * 1e-6 * (down / d + up / u) + s for d, u, s in links.values()]

    got = number(got)
    parts = [(8e-6 * down / d, 8e-6 * up / u, s) for d, u, s in links.values()]
    hints = {
        max(each(8)): None,
        max(each(1)): "a byte has eight bits.",
        max(each(8e6 / 2**20)): "a megabit is a million bits, and not 2**20.",
        max(
            8e-6 * (down + up) / d + s for d, _, s in links.values()
        ): "the way up has its own speed.",
        sum(each(8)): "clients work at the same time.",
        sum(each(8)) / len(links): "the server waits for the slowest, not for the mean.",
        min(each(8)): "the server waits for the slowest.",
        max(map(max, parts)): "a client's three parts come one after the other: add them up.",
        max(d + u for d, u, _ in parts): "and the seconds of training?",
        max(d + s for d, _, s in parts): "and the bytes up?",
        max(u + s for _, u, s in parts): "and the bytes down?",
        sum(map(max, zip(*parts, strict=True))): (
            "first add up what one client takes, then look for the slowest client: the slowest "
            "link and the slowest training need not be of one."
        ),
    }
    for value, hint in hints.items():
        if abs(got - value) <= 1e-5 * value:
            return hint and f"got {got:.3f} s; {hint}"
    return f"got {got!r} s for {down:,} bytes down, {up:,} up and {links}."


@exercise("write `mean_of_answers`: the mean over who is still there")
def mean_of_answers(function: Callable[[Mapping], State]) -> Verdict:
    """Judge a function of client -> (reviews, update), or None for who was lost -> the mean."""
    updates = (
        {"w": torch.tensor([1.0, 2.0]), "b": torch.tensor([[0.0], [6.0]])},
        {"w": torch.tensor([4.0, -1.0]), "b": torch.tensor([[3.0], [0.0]])},
    )
    given = [{name: tensor.clone() for name, tensor in update.items()} for update in updates]
    got = function({0: (10, given[0]), 1: (20, given[1]), 2: None})
    if not isinstance(got, dict) or got.keys() != updates[0].keys():
        return wrong(f"expected a dict of the updates' names, ['w', 'b']; got {got!r}.")
    for update, kept in zip(given, updates, strict=True):
        if any(not torch.equal(update[name], kept[name]) for name in kept):
            return wrong("the updates that came in were changed.")
    got = {name: tensor(value) for name, value in got.items()}
    plain = {name: sum(update[name] for update in updates) / 2 for name in got}
    mean = {name: (10 * updates[0][name] + 20 * updates[1][name]) / 30 for name in got}
    if all(near(got[name], plain[name]) for name in got):
        return wrong("clients weigh as many as they have reviews.")
    if not all(near(got[name], mean[name]) for name in got):
        return wrong(f"w: [1, 2] of 10 reviews and [4, -1] of 20: got {got['w'].tolist()}.")
    return _without_answers(function)


def _without_answers(function: Callable[[Mapping], State]) -> Verdict:
    """Judge what a mean of nobody says."""
    for answers in ({0: None, 1: None}, {}):
        try:
            got = function(answers)
        except Exception as error:
            if not isinstance(error, ValueError) or BY_ITSELF.search(str(error)):
                told = "raise a ValueError that says so, in words that Python has not"
                return wrong(f"nobody answered: {told}; got {error!r}.")
            if not str(error).strip():
                return wrong("nobody answered: the ValueError should say so; it says nothing.")
            continue
        return wrong(f"nobody answered: expected a ValueError, got {got!r}.")
    return right("weights are shared among those who are there, and nobody is no mean.")


@exercise("write `checked`: believe a node nothing")
def checked(function: Callable[[Any, int], tuple[bytes, int]]) -> Verdict:
    """Judge a function of (body of an answer, most bytes) -> (payload, reviews), or ValueError."""
    for length, most in ((10, 10), (10, 11), (0, 1), (99, 100)):
        fine = {"payload": b"\x00" * length, "examples": 3}
        got = function(dict(fine), most)
        if isinstance(got, list):
            return wrong(f"expected (payload, examples), a tuple; got a list: {got!r}.")
        if got != (fine["payload"], 3):
            return wrong(f"{length} bytes and 3 reviews are fine, for {most} bytes at most.")
    found = (_nonsense(function, *case) for case in _NONSENSE)
    told = next(filter(None, found), None)
    if told:
        return wrong(told)
    return right("and the update inside is still to be decoded, and looked at for NaN.")


_FINE = {"payload": b"ab", "examples": 3}
_NONSENSE = (  # what came, the body, and the name in it that is wrong; None: all of it
    ("no payload", {"examples": 3}, "payload"),
    ("no number of reviews", {"payload": b"ab"}, "examples"),
    ("a text for a payload", _FINE | {"payload": "ab"}, "payload"),
    ("a bytearray, which changes under one's hands", _FINE | {"payload": bytearray(3)}, "payload"),
    ("11 bytes where 10 are allowed", _FINE | {"payload": b"\x00" * 11}, "payload"),
    ("a text for a number", _FINE | {"examples": "3"}, "examples"),
    ("no reviews", _FINE | {"examples": 0}, "examples"),
    ("less than none, which would turn the update round", _FINE | {"examples": -5}, "examples"),
    ("half a review", _FINE | {"examples": 2.5}, "examples"),
    ("a float, be it whole", _FINE | {"examples": 3.0}, "examples"),
    ("not a number of reviews", _FINE | {"examples": float("nan")}, "examples"),
    ("True, which is an int in Python", _FINE | {"examples": True}, "examples"),
    ("None for an answer", None, None),
    ("a list for an answer", [b"ab", 3], None),
)


def _nonsense(function: Callable, what: str, body: Any, name: str | None) -> str | None:
    """Return what is wrong with how a function takes a wrong body; None: it says what came."""
    try:
        got = function(deepcopy(body), 10)
    except ValueError as error:
        said = str(error)
    except Exception as error:
        return f"{what}: expected a ValueError, your function raised {error!r}."
    else:
        return f"{what}: got {got!r}, expected a ValueError."
    if not said.strip():
        return f"{what}: a ValueError without a word; say what came."
    came = body.get(name) if name else body
    shown = [repr(body), repr(came), str(came), type(came).__name__]
    shown += [str(len(came))] if isinstance(came, bytes) else []
    shown += [name, "missing"] if came is None and name else []
    if not any(word in said for word in shown):
        return f"{what}: {said!r} does not say what came; its value, its type or its size would."
    return None


@exercise("write `first_answers`: ask more clients than you need, and take who is first")
def first_answers(function: Callable[[Mapping, int], tuple[set, float]]) -> Verdict:
    """Judge a function of (client -> seconds, or None for who never answers; how many are wanted)
    -> (clients that are taken, seconds of the round)."""
    seconds = {4: 3.0, 7: None, 1: 9.0, 2: 0.5, 9: 5.0}
    for wanted, clients, until in ((2, {2, 4}, 3.0), (4, {1, 2, 4, 9}, 9.0), (1, {2}, 0.5)):
        taken, took = function(dict(seconds), wanted)
        if set(taken) != clients:
            return wrong(f"{seconds}, {wanted} wanted: got {taken}, expected {clients}.")
        if took != until:
            return wrong(f"{wanted} wanted: the last of them came at {until} s; got {took!r}.")
    taken, took = function({0: 2.0, 1: 2.0, 2: 2.0}, 2)
    if len(set(taken)) != 2 or took != 2.0:
        return wrong(f"three come at 2.0 s, 2 are wanted: got {taken}, {took!r}.")
    try:
        got = function(dict(seconds), 5)
    except ValueError:
        return right("as fast as the slowest of the *first*; who is slow is rarely among them.")
    return wrong(f"5 wanted, and one never answers: expected a ValueError, got {got!r}.")


@exercise("write `in_the_mean`: how often each client that was asked was heard")
def in_the_mean(function: Callable[[Sequence[RoundRecord]], dict[int, float]]) -> Verdict:
    """Judge a function of records -> client -> share of the rounds in which it was asked and its
    update counted."""
    asked = [((0, 1, 2), {}), ((0, 2), {2: "too late"}), ((2, 1), {2: "node lost"})]
    asked += [((0, 1), {}), ((3, 1), {3: "no answer in time"})]
    records = [
        RoundRecord(number, cohort, 0, 0, {}, left_out, 0, 0, 0.0)
        for number, (cohort, left_out) in enumerate(asked, start=1)
    ]
    got = function(records)
    expected = {0: 1.0, 1: 1.0, 2: 1 / 3, 3: 0.0}
    if not isinstance(got, dict):
        return wrong(f"expected a dict, client -> share; got {type(got).__name__}.")
    if got.keys() != expected.keys():
        return wrong(f"clients 0 to 3 were asked, one of them in vain; got {got!r}.")
    if abs(got[2] - 1 / 5) < 1e-9:
        return wrong("client 2 was asked in three rounds of five; the others do not count.")
    for client, share in expected.items():
        if not abs(got[client] - share) <= 1e-9:
            rounded = abs(got[client] - share) < 0.005
            told = "do not round" if rounded else f"expected {share:.3f}"
            return wrong(f"client {client}: got {got[client]:.3f}; {told}.")
    return right("a table to look at before believing the mean: whom does it not contain?")


@exercise("run a network, and take a node its memory; keep the records in `my_records`")
def forgotten(records: Sequence[RoundRecord]) -> Verdict:
    """Judge the records of a run in which a node that was started anew had forgotten its state."""
    records = list(records)
    if not records:
        return wrong(
            "no round was finished. Were all clients too late for the first? Then give them more "
            "seconds for an answer: `timeout` of `runs.submit`."
        )
    if not all(isinstance(record, RoundRecord) for record in records):
        return wrong("expected the list of records that `runs.records` yields.")
    lost = [(r.round, c) for r in records for c, why in r.left_out.items() if LOST in why]
    if not lost:
        if all(len(record.left_out) == len(record.cohort) for record in records):
            return wrong("nobody was ever in time: give them more seconds, `timeout`.")
        reasons = {why for record in records for why in record.left_out.values()}
        return wrong(
            f"nobody was left out because its memory was gone; reasons: {sorted(reasons) or None}. "
            "Kill a node after round 1, remove its folder `kept`, start it again, and have enough "
            "rounds for it to be asked."
        )
    number, client = lost[0]
    return right(f"client {client} had to say in round {number} that it remembers nothing.")
