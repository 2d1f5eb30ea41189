"""Checks of notebook 06: when clients differ."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from fedlab_helpers.core.history import History
from fedlab_helpers.core.state import State, flatten
from fedlab_helpers.lessons.checks.verdict import (
    Hint,
    Verdict,
    exercise,
    near,
    number,
    right,
    slip,
    whole,
    wrong,
)
from fedlab_helpers.tasks import partition

MOST_ROUNDS, STEADY = 10, 0.65
UNLIKE, ALIKE = 0.1, 1.2  # bits between a client's labels and all; largest over smallest size


@exercise("say how many bits a client with nothing but praise differs from a half-and-half whole")
def one_sided_bits(answer: float) -> Verdict:
    """Judge the Jensen-Shannon divergence of (0, 1) from (1/2, 1/2), in bits."""
    answer, bits = number(answer), 1.5 - 0.75 * math.log2(3)
    if near(answer, bits, 0.02):
        return right(
            f"{bits:.3f}. A whole bit needs a pile without any praise: here half of the whole is "
            "praise, too, and a drawn praise tells little."
        )
    slips = {
        "one bit is for piles that share no label; this is log2(1 / 0.5), the Kullback-Leibler "
        "divergence. Which m do both halves compare with?": 1.0,
        "the right number in nats; bits need the logarithm to base 2.": bits * math.log(2),
        "the two halves are added, but each counts one half.": 2 * bits,
        "this is the distance, the square root of the divergence.": bits**0.5,
    }
    general = f"got {answer:g}; m is (1/4, 3/4). A share of 0 adds 0 to its sum."
    return wrong(slip(answer, slips, 0.02) or general)


@exercise("write `update_cosine`: the cosine between the updates of two clients")
def update_cosine(function: Callable[[State, State, State], float]) -> Verdict:
    """Judge a function of three states that returns a number in [-1, 1]."""
    start = {"a": torch.tensor([10.0, 10.0]), "b": torch.tensor([[10.0]])}
    moves = torch.tensor([1.0, 2.0, 2.0]), torch.tensor([2.0, -2.0, 1.0])

    def moved(by: Tensor) -> State:
        return {"a": start["a"] + by[:2], "b": start["b"] + by[2:].view(1, 1)}

    def answer(one: Tensor, other: Tensor) -> float:  # each time of tensors of its own
        return function(moved(0 * one), moved(one), moved(other))

    given = answer(*moves)
    if isinstance(given, dict) or (np.ndim(given) and len(given) == len(start)):
        return wrong("one cosine for each tensor; put all tensors into one long vector first.")
    got = number(given)
    if near(got, 0.0):
        if not near(number(answer(moves[0], -2 * moves[0])), -1.0):
            return wrong(
                "two updates of opposite direction should have a cosine of -1, also where one is "
                "twice as long."
            )
        between = number(answer(moves[0], torch.tensor([2.0, 1.0, 0.0])))
        if not near(between, 4 / 45**0.5):
            return wrong(
                f"got {between:.4f} for the updates (1, 2, 2) and (2, 1, 0): their product is 4, "
                "and their lengths are 3 and √5."
            )
        return right("a right angle; and a client that goes the opposite way has cosine -1.")
    each = [(m[:2], m[2:]) for m in moves]
    cosines = [float(torch.cosine_similarity(a, b, dim=0)) for a, b in zip(*each, strict=True)]
    slips = {
        "this is the cosine between the *weights*: both are near the common start, so it is always "
        "near 1. What did each client change?": _cosine(*(flatten(moved(by)) for by in moves)),
        "a cosine for each tensor, and their mean: a short tensor counts as much as a long one. "
        "Put all tensors into one long vector first.": sum(cosines) / 2,
        "a cosine for each tensor, and their sum, which can pass 1.": sum(cosines),
        "the cosine of one tensor only; an update has several.": cosines[0],
        "the cosine of the last tensor only; an update has several.": cosines[1],
    }
    general = f"got {got:.4f} for the updates (1, 2, 2) and (2, -2, 1), whose product is 0."
    return wrong(slip(got, slips, 1e-4) or general)


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.cosine_similarity(a, b, dim=0))


@exercise("write `seen_by`: what accuracy a client sees, from the kinds of reviews it holds")
def seen_by(function: Callable[[dict[str, float], dict[str, int]], float]) -> Verdict:
    """Judge a function of (accuracy by kind, reviews by kind) that returns a share."""
    accuracy = {"hotel 0": 0.5, "hotel 1": 0.9, "book 1": 1.0}
    try:
        got = number(function(dict(accuracy), {"hotel 0": 30, "hotel 1": 10}))
    except KeyError as error:
        return wrong(f"the client holds no {error}: go through `counts`, which may lack a kind.")
    if near(got, 0.6):
        if near(number(function(dict(accuracy), {"book 1": 7})), 1.0):
            return right("0.75 · 0.5 + 0.25 · 0.9: each kind counts as often as the client has it.")
        return wrong("a client with seven reviews of one kind sees the accuracy of that kind.")
    slips = {
        "this is the plain mean over its kinds; the client holds 30 of one, 10 of two": 0.7,
        "this is the mean over all kinds, also one that the client does not hold.": 0.8,
        "24 is how many it can expect to be right; of how many?": 24.0,
        "this is in percent; an accuracy here is a share, from 0 to 1.": 60.0,
        "this divides by the number of kinds; divide by the number of reviews.": 12.0,
    }
    general = f"got {got:g}; for 30 reviews at 0.5 and 10 at 0.9, how many of the 40 are right?"
    return wrong(slip(got, slips) or general)


@exercise("write `where_it_ends`: the place where FedAvg stands still on the number line")
def where_it_ends(function: Callable[..., float]) -> Verdict:
    """Judge a function of (strictness, wishes, rate, local steps) that returns a place."""
    strictness, wishes, lr = [1.0, 9.0, 4.0], [0.0, 1.0, -2.0], 0.05
    for steps in (1, 3, 40):
        shrunk = [(1 - lr * a) ** steps for a in strictness]
        pulls = [1 - s for s in shrunk]
        expected = sum(p * c for p, c in zip(pulls, wishes, strict=True)) / sum(pulls)
        got = number(function(list(strictness), list(wishes), lr, steps))
        if math.isclose(got, expected, abs_tol=1e-4):
            continue
        best = sum(a * c for a, c in zip(strictness, wishes, strict=True)) / sum(strictness)
        left = sum(s * c for s, c in zip(shrunk, wishes, strict=True)) / sum(shrunk)
        once = sum(p * c for p, c in zip(pulls, wishes, strict=True)) / 3
        told = f"with {steps} local steps, got {got:.4f}, expected {expected:.4f}"
        slips = {
            "yours is the optimum of the mean loss, whatever the steps.": best,
            "yours is the mean of the wishes; that takes endless steps.": sum(wishes) / 3,
            "each wish counts by the share of its way that is *left*; which share is gone?": left,
            "this is one round from 0. Where does the mean of the ends stand still?": once,
        }
        general = "after E steps, which share of its way has each client gone?"
        return wrong(f"{told}: {slip(got, slips, 1e-3) or general}")
    slow = number(function(list(strictness), list(wishes), 1e-7, 1))
    if not math.isclose(slow, 1 / 14, abs_tol=1e-4):
        return wrong(
            f"right at a rate of 0.05, but at 1e-07, with one step, got {slow:.4f}, expected "
            f"{1 / 14:.4f}. Whoever plays rounds needs millions there; solve for the place instead."
        )
    return right("each wish weighs as much as the share of the way its client goes in E steps.")


@exercise(
    f"find a plan of at most {MOST_ROUNDS} rounds whose last three are all at {STEADY:.0%} or above"
)
def steadier_plan(history: History) -> Verdict:
    """Judge a run by the lowest accuracy of its last three rounds."""
    if not isinstance(history, History) or not len(history):
        return wrong(f"expected the History that `run` returns, got {type(history).__name__}.")
    if len(history) > MOST_ROUNDS:
        return wrong(f"{len(history)} rounds, expected at most {MOST_ROUNDS}.")
    if len(history) < 3 or not all("accuracy" in record.metrics for record in history[-3:]):
        return wrong("the last three rounds have to be evaluated: pass test=task.validation.")
    last = [record.metrics["accuracy"] for record in history[-3:]]
    told = ", ".join(f"{accuracy:.1%}" for accuracy in last)
    if min(last) < STEADY:
        swing = " Their mean hides a swing." if sum(last) / 3 >= STEADY else ""
        return wrong(
            f"the last three: {told}; the lowest is below {STEADY:.0%}.{swing} Who is in the "
            "cohort changes the shares of the labels; when would it not?"
        )
    sent = sum(record.bytes_up + record.bytes_down for record in history) / 1e6
    above = '`runs["α = 0.1"].to_frame()`'
    return right(
        f"{told} for {sent:.0f} MB. Compare the bytes with those of the plan above: {above}."
    )


@exercise("write `own_deal`: clients whose labels are unlike, and whose sizes are alike")
def own_deal(function: Callable[..., Sequence[Sequence[int]]]) -> Verdict:
    """Judge a function of (labels, number of clients, random generator) that returns the indices
    of each client's reviews."""
    labels = np.random.default_rng(7).permutation(np.repeat([0, 1], [1040, 960]))
    for n_clients in (10, 16):
        parts = _dealt(function, labels, n_clients, seed=0)
        counts = np.bincount(np.concatenate(parts), minlength=len(labels))
        if counts.max() > 1 or counts.min() < 1 or len(counts) > len(labels):
            told = f"{(counts > 1).sum()} reviews twice, {(counts[: len(labels)] == 0).sum()} not"
            return wrong(f"each review belongs to one client; dealt {told} at all.")
        sizes = [len(part) for part in parts]
        if min(sizes) == 0 or max(sizes) > ALIKE * min(sizes):
            told = f"{min(sizes)} to {max(sizes)} reviews"
            return wrong(
                f"a client has {told}; the largest may have {ALIKE} times the smallest. The "
                "Dirichlet deal draws shares of a label; what if you drew a client's own share?"
            )
        unlike = partition.describe(parts, labels)["label divergence"].mean()
        if unlike < UNLIKE:
            return wrong(f"labels differ by {unlike:.3f} bits in the mean, expected {UNLIKE}.")
    if not _same(parts, _dealt(function, labels, 16, seed=0)):
        return wrong("the same seed dealt otherwise: draw all chance from `rng`.")
    if _same(parts, _dealt(function, labels, 16, seed=1)):
        return wrong("another seed dealt the same; shuffle with `rng`, or a study has one deal.")
    return right(f"{min(sizes)} to {max(sizes)} reviews a client, {unlike:.2f} bits: labels alone.")


def _dealt(function: Callable, labels: np.ndarray, n_clients: int, seed: int) -> list[np.ndarray]:
    """Return what a deal gives to each client, as arrays. Raises Hint: that is no deal."""
    parts = function(labels.copy(), n_clients, np.random.default_rng(seed))
    if parts is None:
        raise Hint("the function returned None; does it end with `return`?")
    if len(parts) != n_clients:
        raise Hint(f"got {len(parts)} parts, expected one for each of {n_clients} clients.")
    flat = [index for part in parts for index in part]
    if not all(whole(index) is not None and whole(index) >= 0 for index in flat):
        raise Hint("a part holds something else than indices, whole numbers from 0.")
    return [np.sort(np.array([whole(index) for index in part], dtype=int)) for part in parts]


def _same(parts: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(parts, others, strict=True))
