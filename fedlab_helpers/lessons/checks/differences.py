"""Checks of notebook 06: when clients differ."""

import math
from collections.abc import Callable

import torch

from fedlab_helpers.core.history import History
from fedlab_helpers.core.state import State, flatten, subtract
from fedlab_helpers.lessons.checks.verdict import Verdict, exercise, near, right, slip, wrong

MOST_ROUNDS, STEADY = 10, 0.65


@exercise("say how many bits a client with nothing but praise differs from a half-and-half whole")
def one_sided_bits(answer: float) -> Verdict:
    """Judge the Jensen-Shannon divergence of (0, 1) from (1/2, 1/2), in bits."""
    bits = 1.5 - 0.75 * math.log2(3)
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
    }
    general = f"got {answer}; m is (1/4, 3/4). A share of 0 adds 0 to its sum."
    return wrong(slip(answer, slips, 0.02) or general)


@exercise("write `update_cosine`: the cosine between the updates of two clients")
def update_cosine(function: Callable[[State, State, State], float]) -> Verdict:
    """Judge a function of three states that returns a number in [-1, 1]."""
    start = {"a": torch.tensor([10.0, 10.0]), "b": torch.tensor([[10.0]])}
    moves = torch.tensor([1.0, 2.0, 2.0]), torch.tensor([2.0, -2.0, 1.0])
    ends = [{"a": start["a"] + m[:2], "b": start["b"] + m[2:].view(1, 1)} for m in moves]
    got = float(function(start, *ends))
    if near(got, 0.0):
        other = {"a": start["a"] - moves[0][:2], "b": start["b"] - moves[0][2:].view(1, 1)}
        if near(function(start, ends[0], other), -1.0):
            return right("a right angle; and a client that goes the opposite way has cosine -1.")
        return wrong("two updates of opposite direction should have a cosine of -1.")
    whole = float(torch.cosine_similarity(flatten(ends[0]), flatten(ends[1]), dim=0))
    if math.isclose(got, whole, abs_tol=1e-4):
        return wrong(
            "this is the cosine between the *weights*: both are near the common start, so it is "
            "always near 1. What did each client change?"
        )
    dot = float(flatten(subtract(ends[0], start)) @ flatten(subtract(ends[1], start)))
    return wrong(f"got {got:.4f} for the updates (1, 2, 2) and (2, -2, 1), whose product is {dot}.")


@exercise("write `seen_by`: what accuracy a client sees, from the kinds of reviews it holds")
def seen_by(function: Callable[[dict[str, float], dict[str, int]], float]) -> Verdict:
    """Judge a function of (accuracy by kind, reviews by kind) that returns a share."""
    accuracy = {"hotel 0": 0.5, "hotel 1": 0.9, "book 1": 1.0}
    got = function(dict(accuracy), {"hotel 0": 30, "hotel 1": 10})
    if got is None:
        return wrong("the function returned None; does it end with `return`?")
    if near(got, 0.6):
        if near(function(dict(accuracy), {"book 1": 7}), 1.0):
            return right("0.75 · 0.5 + 0.25 · 0.9: each kind counts as often as the client has it.")
        return wrong("a client with seven reviews of one kind sees the accuracy of that kind.")
    slips = {
        "this is the plain mean over its kinds; the client holds 30 of one, 10 of two": 0.7,
        "this is the mean over all kinds, also one that the client does not hold.": 0.8,
        "24 is how many it can expect to be right; of how many?": 24.0,
    }
    general = f"got {got}; for 30 reviews at 0.5 and 10 at 0.9, how many of the 40 are right?"
    return wrong(slip(got, slips) or general)


@exercise("write `where_it_ends`: the place where FedAvg stands still on the number line")
def where_it_ends(function: Callable[..., float]) -> Verdict:
    """Judge a function of (strictness, wishes, rate, local steps) that returns a place."""
    strictness, wishes, lr = [1.0, 9.0, 4.0], [0.0, 1.0, -2.0], 0.05
    for steps in (1, 3, 40):
        shrunk = [(1 - lr * a) ** steps for a in strictness]
        pulls = [1 - s for s in shrunk]
        expected = sum(p * c for p, c in zip(pulls, wishes, strict=True)) / sum(pulls)
        got = float(function(list(strictness), list(wishes), lr, steps))
        if math.isclose(got, expected, abs_tol=1e-4):
            continue
        best = sum(a * c for a, c in zip(strictness, wishes, strict=True)) / sum(strictness)
        told = f"with {steps} local steps, got {got:.4f}, expected {expected:.4f}"
        slips = {
            "yours is the optimum of the mean loss, whatever the steps.": best,
            "yours is the mean of the wishes; that takes endless steps.": sum(wishes) / 3,
        }
        general = "after E steps, which share of its way has each client gone?"
        return wrong(f"{told}: {slip(got, slips, 1e-3) or general}")
    return right("each wish weighs as much as the share of the way its client goes in E steps.")


@exercise(
    f"find a plan of at most {MOST_ROUNDS} rounds whose last three reach {STEADY:.0%} in the mean"
)
def steadier_plan(history: History) -> Verdict:
    """Judge a run by the mean accuracy of its last three rounds."""
    if not isinstance(history, History) or not len(history):
        return wrong(f"expected the History that `run` returns, got {type(history)}.")
    if len(history) > MOST_ROUNDS:
        return wrong(f"{len(history)} rounds, expected at most {MOST_ROUNDS}.")
    if len(history) < 3 or not all("accuracy" in record.metrics for record in history[-3:]):
        return wrong("the last three rounds have to be evaluated: pass test=task.validation.")
    last = [record.metrics["accuracy"] for record in history[-3:]]
    mean, told = sum(last) / 3, ", ".join(f"{accuracy:.1%}" for accuracy in last)
    if mean < STEADY:
        return wrong(
            f"the last three: {told}, {mean:.1%} in the mean. Who is in the cohort changes the "
            "shares of the labels; when would it not?"
        )
    sent = sum(record.bytes_up + record.bytes_down for record in history) / 1e6
    return right(f"{told} for {sent:.0f} MB. Compare the bytes with those of the plan above.")
