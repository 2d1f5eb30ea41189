"""Checks of notebook 04: federated averaging."""

from collections.abc import Callable, Iterable, Iterator
from itertools import permutations
from math import inf, nan

import torch
from torch import Tensor

from fedlab_helpers.core.state import State, weighted_mean
from fedlab_helpers.lessons.checks.verdict import (
    Hint,
    Verdict,
    exercise,
    near,
    right,
    slip,
    tensor,
    told_apart,
    whole,
    wrong,
)


@exercise("compute the accuracy that the server finds from what the three clients report")
def pooled_accuracy(answer: float) -> Verdict:
    """Judge the accuracy behind the reports 270 of 300, 20 of 40 and 3 of 10."""
    if near(answer, 293 / 350, 6e-4):
        return right("293 of 350. Sums lose nothing: this is the accuracy of the pooled reviews.")
    if near(answer, 29300 / 350, 6e-4):
        return right("293 of 350; as a share, which is how the helpers give it, 0.837.")
    if near(answer, 0.84, 1e-6):
        return wrong("0.84 may be several things; give three digits.")
    slips = {
        "this is the mean of the three accuracies: a client with 10 reviews counts in it as much "
        "as one with 300. What does the server add up?": (0.9 + 0.5 + 0.3) / 3,
        "these are the right answers; of how many?": 293,
    }
    general = f"got {answer}; add up what was right, and what was asked, before you divide."
    return wrong(slip(answer, slips, 1e-3) or general)


@exercise("write `counts_reviews`: True for a mean that a client cut in two leaves as it is")
def counts_reviews(function: Callable[[Callable], bool]) -> Verdict:
    """Judge a function that says whether `mean(states, weights)` counts reviews."""
    passed = (
        "Are there other clients besides the one that is cut, in another state, and do you look at "
        "every weight?"
    )
    refused = (
        "But it counts reviews. Is the cut client's state in both halves, are all reviews still "
        "there, and do you allow for a rounding?"
    )
    asked: set[int] = set()  # of how many states a mean was taken
    means = {name: (_noting(mean, asked), counts) for name, (mean, counts) in _MEANS.items()}
    if fault := told_apart(function, means, passed, refused):
        return fault
    if not any(number + 1 in asked for number in asked):
        return wrong(
            "your function tells them apart, but by what it knows of the right mean. Cut a client: "
            "is the mean of one state more the same as before?"
        )
    return right("an identity that no accuracy would have told: it needs no data at all.")


def _noting(mean: Callable, asked: set[int]) -> Callable:
    """Return a mean that also notes how many states it was given."""

    def noting(states: list[State], weights: list[float]) -> State:
        asked.add(len(states))
        return mean(states, weights)

    return noting


def _mean(weigh: Callable[[float], float] = float) -> Callable:
    """Return a mean of states in which a client counts by `weigh` of its reviews."""

    def mean(states: list[State], weights: list[float]) -> State:
        shares = [weigh(weight) / sum(map(weigh, weights)) for weight in weights]
        return {
            name: sum(
                share * s[name].double() for share, s in zip(shares, states, strict=True)
            ).float()
            for name in states[0]
        }

    return mean


def _rounded_otherwise(states: list[State], weights: list[float]) -> State:
    """Return the weighted mean; the last bit depends on the number of states, as in 32 bits."""
    mean = weighted_mean(states, weights)
    if len(states) % 2:
        return mean
    return {n: torch.nextafter(t, torch.full_like(t, inf)) for n, t in mean.items()}


_MEANS = {
    "the weighted mean": (weighted_mean, True),
    "the plain mean": (_mean(lambda weight: 1.0), False),
    "the weighted mean with another rounding": (_rounded_otherwise, True),
    "a mean by the square root of the reviews": (_mean(lambda weight: weight**0.5), False),
    "a mean that counts no client for more than 150 reviews": (
        _mean(lambda weight: min(weight, 150.0)), False
    ),
}  # fmt: skip


@exercise("write `rowwise_mean`: each row divided by the weight of the clients that touched it")
def rowwise_mean(function: Callable[..., Tensor]) -> Verdict:
    """Judge a function of (changes, rows, weights, n_rows) that returns (n_rows, E)."""
    rows = [torch.tensor([0, 1]), torch.tensor([1, 3])]
    changes = [torch.tensor([[2.0, 4.0], [3.0, 6.0]]), torch.tensor([[7.0, 2.0], [5.0, 1.0]])]
    given = function([c.clone() for c in changes], [r.clone() for r in rows], [10.0, 30.0], 5)
    expected = torch.tensor([[2.0, 4.0], [6.0, 3.0], [0.0, 0.0], [5.0, 1.0], [0.0, 0.0]]).double()
    got = tensor(given)
    if got.shape != expected.shape:
        return wrong(f"expected 5 rows of 2 numbers, got the shape {tuple(got.shape)}.")
    if got.isnan().any() or got.isinf().any():
        return wrong("a row that nobody touched came out as NaN or infinite: 0 divided by 0?")
    if near(got, expected):
        return right("a word that one client knows moves as far as that client moved it.")
    if near(got, expected * torch.tensor([[0.25], [1.0], [1.0], [0.75], [1.0]])):
        return wrong("row 0 is divided by everybody's weight: plain FedAvg. Who touched row 0?")
    if near(got[1], torch.tensor([5.0, 4.0])):
        return wrong("row 1 was touched by both clients, and they do not weigh the same.")
    unlike = int((got - expected).abs().sum(1).argmax())
    return wrong(f"row {unlike} is {got[unlike].tolist()}, expected {expected[unlike].tolist()}.")


@exercise("write `rows_in`: the ids of the words that a dense change gives away")
def rows_in(function: Callable[[Tensor], Iterable[int]]) -> Verdict:
    """Judge a function that returns the rows of a (V, E) change that are not all zeros."""
    change = torch.zeros(6, 3)
    change[[1, 2, 4]] = torch.tensor([[0.5, -0.5, 0.0], [0.0, 0.0, -1e-7], [0.1, 0.2, 0.3]])
    answer = function(change)
    got = answer.tolist() if hasattr(answer, "tolist") else list(answer)
    if len(got) == len(change) and {str(row) for row in got} <= {"0", "1", "True", "False"}:
        return wrong("this marks each row with yes or no; return the ids of the marked rows.")
    if any(isinstance(row, list | tuple) or getattr(row, "ndim", 0) for row in got):
        return wrong(
            "this is a table of places: `nonzero()` gives a line for each value, with its row and "
            "its column. First ask each row whether any of its values differs from 0."
        )
    ids = [whole(row) for row in got]
    if None in ids:
        return wrong(f"expected ids, which are whole numbers; got {got}.")
    if sorted(ids) == [1, 2, 4]:
        return right("no list of words was sent, and the server reads the words all the same.")
    if 1 not in ids:
        return wrong("a row like (0.5, -0.5, 0) changed too, although its values sum to 0.")
    if 2 not in ids:
        return wrong("one tiny or negative value is a change too: only exact zeros say 'unused'.")
    if set(ids) == {1, 2, 4}:
        return wrong(f"got {ids}: the right rows, some more than once; name each word once.")
    if 0 in ids:
        return wrong("row 0 did not change at all; look for rows where ANY value differs from 0.")
    return wrong(f"got the rows {ids} of a change whose rows 1, 2 and 4 are not all zeros.")


@exercise("invent `my_rule`: five states and their weights in, one state out, safe from one liar")
def my_rule(function: Callable[[list[State], list[float]], State]) -> Verdict:
    """Judge a rule by what it does with equal states, another order, and a liar among five."""
    rng = torch.Generator().manual_seed(0)
    shapes = {"table": (4, 3), "bias": (2,)}
    states = [{n: torch.randn(s, generator=rng) for n, s in shapes.items()} for _ in range(5)]
    weights = [80, 120, 100, 90, 110]

    def result(order: Iterable[int] = range(5), liar: State | None = None, at: int = 0) -> State:
        given = [{n: t.clone() for n, t in states[k].items()} for k in order]
        if liar is not None:
            given[at] = {n: t.clone() for n, t in liar.items()}
        before = [{n: t.clone() for n, t in s.items()} for s in given]
        got = function(given, [weights[k] for k in order])
        if not isinstance(got, dict) or got.keys() != shapes.keys():
            raise Hint("return a state: a dict with the names that the states have.")
        got = {n: tensor(values) for n, values in got.items()}
        if any(got[n].shape != shape for n, shape in shapes.items()):
            raise Hint("each tensor of the result must have the shape that it has in a state.")
        same = (
            near(s[n].nan_to_num(), b[n].nan_to_num())
            for s, b in zip(given, before, strict=True)
            for n in b
        )
        if not all(same):
            raise Hint("property 4: your rule wrote into a state that came in. Copy first.")
        return got

    return _judged(states, result)


def _judged(states: list[State], result: Callable[..., State]) -> Verdict:
    """Return the verdict on a rule, by what it makes of five states in an order, with a liar."""
    for name, values in result([2] * 5).items():
        if not near(values, states[2][name]):
            return wrong(f"property 1: of five equal states `{name}` came out otherwise.")
    first = result()
    for order in [*permutations(range(5))][1::17]:
        if any(not near(values, first[name]) for name, values in result(order).items()):
            return wrong("property 2: in another order, the same clients gave another result.")
    for at in range(5):
        honest = [s for k, s in enumerate(states) if k != at]
        stacks = {n: torch.stack([s[n] for s in honest]).double() for n in honest[0]}
        for lie, liar in _lies(stacks):
            for name, values in result(liar=liar, at=at).items():
                low, high = stacks[name].amin(0) - 1e-5, stacks[name].amax(0) + 1e-5
                if not ((values >= low) & (values <= high)).all():
                    return wrong(
                        f"property 3: client {at} sent {lie}, and `{name}` left the range of the "
                        "honest four. How does your rule notice, or ignore, the odd one out?"
                    )
    return right("one liar of five is out of reach of your rule. What does an honest odd one lose?")


def _lies(honest: dict[str, Tensor]) -> Iterator[tuple[str, State]]:
    """Yield what a liar may send, and in words; `honest` are the states of the others, stacked."""
    for value in (1e6, -1e6, inf, nan, 5.0, -5.0):
        yield f"{value:g} everywhere", {n: torch.full(t[0].shape, value) for n, t in honest.items()}
    means = {name: stack.mean(0).float() for name, stack in honest.items()}
    lengths = torch.stack([t.flatten(1).square().sum(1) for t in honest.values()]).sum(0).sqrt()
    highest, reach = honest["bias"][:, 0].max(), 0.99 * lengths.max()  # no longer than all others
    for number in (highest + 0.3, reach, -reach):
        bias = torch.stack([number.float(), means["bias"][1]])
        yield "the mean of the others but for one weight", means | {"bias": bias}
        zeros = {n: torch.zeros_like(t) for n, t in means.items()}
        zeros["bias"][0] = number
        yield "zeros but for one weight", zeros
