"""Checks of notebook 12: from notebook to network."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from fedlab_helpers.checks.verdict import Verdict, exercise, right, wrong
from fedlab_helpers.history import RoundRecord
from fedlab_helpers.state import State

LOST = "started anew"  # in the words of a node that has forgotten


@exercise("write `round_seconds`: how long a round takes when clients have links and speeds")
def round_seconds(function: Callable[[int, int, Mapping], float]) -> Verdict:
    """Judge a function of (bytes down, bytes up, client -> (Mbit/s down, Mbit/s up, seconds of
    training)) -> seconds until the last answer is there."""
    links = {0: (100.0, 40.0, 2.0), 1: (8.0, 1.0, 0.5), 2: (50.0, 10.0, 1.0)}
    down, up = 3_000_000, 250_000

    def each(bits: int) -> list[float]:
        return [bits * 1e-6 * (down / d + up / u) + s for d, u, s in links.values()]

    hints = {
        max(each(1)): "a byte has eight bits.",
        sum(each(8)): "clients work at the same time.",
        sum(each(8)) / 3: "the server waits for the slowest, not for the mean.",
        min(each(8)): "the server waits for the slowest.",
    }
    got = function(down, up, links)
    if not isinstance(got, float | int):
        return wrong(f"seconds are a number; got {got!r}.")
    for value, hint in hints.items():
        if abs(got - value) < 1e-6:
            return wrong(f"got {got:.3f} s; {hint}")
    if not abs(got - max(each(8))) <= 1e-6:
        return wrong(f"got {got:.3f} s for {down:,} bytes down, {up:,} up and {links}.")
    alone = function(0, 0, {5: (1.0, 1.0, 0.25)})
    if not abs(alone - 0.25) <= 1e-9:
        return wrong(f"without a byte, training remains: 0.25 s; got {alone!r}.")
    return right("the client with the worst link decides, though it trains fastest.")


@exercise("write `mean_of_answers`: the mean over who is still there")
def mean_of_answers(function: Callable[[Mapping], State]) -> Verdict:
    """Judge a function of client -> (reviews, update), or None for who was lost -> the mean."""
    one, other = {"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([4.0, -1.0])}
    got = function({0: (10, one), 1: (20, other), 2: None})
    if not isinstance(got, dict) or got.keys() != {"w"}:
        return wrong(f"expected a dict of the updates' names, ['w']; got {got!r}.")
    if torch.allclose(got["w"], torch.tensor([2.5, 0.5])):
        return wrong("clients weigh as many as they have reviews.")
    if torch.allclose(got["w"], torch.tensor([3.0, 0.0])):
        if not torch.equal(one["w"], torch.tensor([1.0, 2.0])):
            return wrong("right, but the updates that came in were changed.")
        return _without_answers(function)
    return wrong(f"updates [1, 2] of 10 reviews and [4, -1] of 20: got {got['w'].tolist()}.")


def _without_answers(function: Callable[[Mapping], State]) -> Verdict:
    try:
        got = function({0: None, 1: None})
    except ValueError:
        return right("weights are shared among those who are there, and nobody is no mean.")
    except ZeroDivisionError:
        return wrong("nobody answered: raise a ValueError that says so.")
    return wrong(f"nobody answered: expected a ValueError, got {got!r}.")


@exercise("write `checked`: believe a node nothing")
def checked(function: Callable[[Any, int], tuple[bytes, int]]) -> Verdict:
    """Judge a function of (body of an answer, most bytes) -> (payload, reviews), or ValueError."""
    fine = {"payload": b"\x00" * 10, "examples": 3}
    if function(dict(fine), 10) != (fine["payload"], 3):
        return wrong(f"this answer is fine: {fine}, for 10 bytes at most.")
    nonsense = {
        "no payload": {"examples": 3},
        "no number of reviews": {"payload": b"ab"},
        "a text for a payload": {"payload": "ab", "examples": 3},
        "11 bytes where 10 are allowed": {"payload": b"\x00" * 11, "examples": 3},
        "a text for a number": {"payload": b"ab", "examples": "3"},
        "no reviews": {"payload": b"ab", "examples": 0},
        "less than none, which would turn the update round": {"payload": b"ab", "examples": -5},
        "half a review": {"payload": b"ab", "examples": 2.5},
        "not a number of reviews": {"payload": b"ab", "examples": float("nan")},
        "True, which is an int in Python": {"payload": b"ab", "examples": True},
        "None for an answer": None,
        "a list for an answer": [b"ab", 3],
    }
    for what, body in nonsense.items():
        try:
            got = function(body, 10)
        except ValueError:
            continue
        except Exception as error:
            return wrong(f"{what}: expected a ValueError, your function raised {error!r}.")
        return wrong(f"{what}: got {got!r}, expected a ValueError.")
    return right("and the update inside is still to be decoded, and looked at for NaN.")


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
    try:
        got = function(dict(seconds), 5)
    except ValueError:
        return right("the round is as fast as the slowest of the *first*; who is slow, never is.")
    return wrong(f"5 wanted, and one never answers: expected a ValueError, got {got!r}.")


@exercise("write `in_the_mean`: how often each client that was asked was heard")
def in_the_mean(function: Callable[[Sequence[RoundRecord]], dict[int, float]]) -> Verdict:
    """Judge a function of records -> client -> share of the rounds in which it was asked and its
    update counted."""
    asked = [((0, 1, 2), {}), ((0, 2), {2: "too late"}), ((2, 1), {2: "node lost"}), ((0, 1), {})]
    records = [
        RoundRecord(number, cohort, 0, 0, {}, left_out, 0, 0, 0.0)
        for number, (cohort, left_out) in enumerate(asked, start=1)
    ]
    got = function(records)
    if not isinstance(got, dict) or got.keys() != {0, 1, 2}:
        return wrong(f"clients 0, 1 and 2 were asked; got {got!r}.")
    expected = {0: 1.0, 1: 1.0, 2: 1 / 3}
    if abs(got[2] - 1 / 4) < 1e-9:
        return wrong("client 2 was asked in three rounds of four; the other does not count.")
    for client, share in expected.items():
        if not abs(got[client] - share) <= 1e-9:
            return wrong(f"client {client}: got {got[client]:.3f}, expected {share:.3f}.")
    return right("a table to look at before believing the mean: whom does it not contain?")


@exercise("run SCAFFOLD on a network, and start a node anew; keep the records in `my_records`")
def forgotten(records: Sequence[RoundRecord]) -> Verdict:
    """Judge the records of a run in which a node that was started anew had forgotten its state."""
    records = list(records)
    if not records or not all(isinstance(record, RoundRecord) for record in records):
        return wrong("expected the list of records that `runs.records` yields.")
    lost = [(r.round, c) for r in records for c, why in r.left_out.items() if LOST in why]
    if not lost:
        reasons = {why for record in records for why in record.left_out.values()}
        return wrong(
            f"nobody was left out because its memory was gone; reasons: {sorted(reasons) or None}. "
            "Kill a node after round 1, start it again, and have enough rounds for it to be asked."
        )
    number, client = lost[0]
    return right(f"client {client} had to say in round {number} that it remembers nothing.")
