"""Checks of notebook 15: which model to federate."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.special import expit

from fedlab_helpers.lessons.checks.verdict import (
    Hint,
    Verdict,
    exercise,
    near,
    number,
    right,
    slip,
    tensor,
    wrong,
)
from fedlab_helpers.tasks.layers import one_by_one

_RNG = np.random.default_rng(15)


@exercise("write `min_gru`: the state after each step")
def min_gru(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Verdict:
    """Judge a function of gates and candidates, both (T, H), -> the states, (T, H)."""
    for steps in (1, 2, 6):
        gates, candidates = (torch.from_numpy(_RNG.random((steps, 3))) for _ in range(2))
        given = gates.clone(), candidates.clone()
        expected = one_by_one(gates[None], candidates[None])[0]
        got = tensor(function(gates, candidates), "the states, (T, H)")
        if not (torch.equal(gates, given[0]) and torch.equal(candidates, given[1])):
            return wrong("your function changed what it was given; make new tensors.")
        if got.shape != expected.shape:
            return wrong(f"return one state a step, {tuple(expected.shape)}; got {got.shape}.")
        slips = {
            "the gate says how much is *written*, and 1 - gate how much is kept.": one_by_one(
                1 - gates[None], candidates[None]
            )[0],
            "the state before the first step is 0, not the first candidate.": _from_first(
                gates, candidates
            ),
            "nothing is kept: h_t needs (1 - z_t) times the state before.": gates * candidates,
        }
        if near(got, expected):
            continue
        return wrong(slip(got, slips) or f"{steps} steps: got {got}, expected {expected}.")
    return right("no state is multiplied by a matrix: that is why all steps can be done at once.")


def _from_first(gates: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
    state, states = candidates[0], []
    for z, new in zip(gates, candidates, strict=True):
        state = (1 - z) * state + z * new
        states.append(state)
    return torch.stack(states)


@exercise("write `summed_gradient`: what the server has of three shops")
def summed_gradient(
    function: Callable[[Sequence[tuple[np.ndarray, np.ndarray]], np.ndarray], np.ndarray],
) -> Verdict:
    """Judge a function of (clients' (features, labels), weights) -> the gradient of the loss
    summed over all their examples, (k,)."""
    for counts in ((2, 9, 5), (4, 4)):
        clients = [(_RNG.normal(size=(n, 3)), _RNG.integers(0, 2, n).astype(float)) for n in counts]
        weights = _RNG.normal(size=3)
        each = [x.T @ (expit(x @ weights) - y) for x, y in clients]
        got = tensor(function(clients, weights), "a gradient, (k,)")
        if got.shape != (3,):
            return wrong(f"return one number for each weight, (3,); got {tuple(got.shape)}.")
        mean = sum(each) / sum(counts)
        slips = {
            "that is the mean over examples. Sum: a client with more reviews pulls more.": mean,
            "a mean of the clients' means: each client counts the same, however many it has.": sum(
                g / n for g, n in zip(each, counts, strict=True)
            )
            / len(counts),
            "the other way round: prediction minus label.": -sum(each),
            "compare the *probability* with the label: the logistic function is missing.": sum(
                x.T @ (x @ weights - y) for x, y in clients
            ),
        }
        if near(got, sum(each)):
            continue
        return wrong(slip(got, slips) or f"{len(counts)} clients: got {got.tolist()}.")
    return right("it is the gradient of all reviews in one place; a secure sum would be enough.")


@exercise("write `ridge_from`: the weights from sums alone")
def ridge_from(function: Callable[[list[tuple], float], np.ndarray]) -> Verdict:
    """Judge a function of (what clients send: (XᵀX, Xᵀy) each, number) -> the weights, (k,)."""
    for counts, k, lam in (((5, 6), 2, 0.5), ((3, 4, 9), 4, 2.0)):
        parts = [(_RNG.normal(size=(n, k)), _RNG.normal(size=n)) for n in counts]
        sums = [(x.T @ x, x.T @ y) for x, y in parts]
        x, y = (np.concatenate(each) for each in zip(*parts, strict=True))
        expected = np.linalg.solve(x.T @ x + lam * np.eye(k), x.T @ y)
        got = tensor(function(sums, lam), "weights, (k,)")
        if got.shape != (k,):
            return wrong(f"return one weight for each feature, ({k},); got {tuple(got.shape)}.")
        alone = [np.linalg.solve(a + lam * np.eye(k), b) for a, b in sums]
        inner, outer = (sum(each) for each in zip(*sums, strict=True))
        slips = {
            "that is the mean of the clients' own solutions; sum first, then solve.": np.mean(
                alone, 0
            ),
            "the number is missing: add it along the diagonal.": np.linalg.solve(inner, outer),
            "add the number once, not once for each client.": np.linalg.solve(
                inner + len(counts) * lam * np.eye(k), outer
            ),
            "add it along the diagonal only: number times the identity.": np.linalg.solve(
                inner + lam, outer
            ),
        }
        if near(got, expected):
            continue
        return wrong(slip(got, slips) or f"{len(counts)} clients: got {got.tolist()}.")
    return right("one exchange, and nobody can do better with these features and this loss.")


@exercise("write `choose`: the model for a budget")
def choose(function: Callable[[dict, float], str]) -> Verdict:
    """Judge a function of (model -> (score, ±, megabytes or None), most megabytes) -> its name."""
    models = {
        "a": (80.0, 0.5, 100.0), "b": (82.0, 0.4, 400.0), "c": (81.9, 0.3, 150.0),
        "d": (85.0, 0.2, None),
    }  # fmt: skip
    cases = {
        "only one fits": (models, 120.0, "a"),
        "the best fits, but a cheaper one is within its ±": (models, 500.0, "c"),
        "a clear winner": ({"x": (70.0, 0.2, 5.0), "y": (75.0, 0.5, 9.0)}, 10.0, "y"),
        "one is unsure": ({"best": (80.0, 0.1, 9.0), "wild": (60.0, 50.0, 1.0)}, 10.0, "best"),
        "three alike": (
            {"x": (80.0, 1.0, 9.0), "y": (79.8, 1.0, 5.0), "z": (79.5, 1.0, 1.0)},
            10.0,
            "z",
        ),
        "exactly the budget": ({"x": (70.0, 0.2, 5.0), "y": (75.0, 0.5, 10.0)}, 10.0, "y"),
    }
    for name, (given, most, expected) in cases.items():
        got = function(dict(given), most)
        if not isinstance(got, str):
            raise Hint(f"return the name of a model; got {got!r:.60}")
        if got == expected:
            continue
        if given[got][2] is None:
            return wrong(f"{name}: {got!r} never reached the target: it has no megabytes.")
        if given[got][2] > most:
            return wrong(f"{name}: {got!r} sends more than the budget.")
        if got == "b":
            return wrong(f"{name}: 'c' is within the ± of 'b', and sends less.")
        if got == "wild":
            return wrong(f"{name}: {got!r} is not within the ± of the *best* one.")
        if name == "three alike":
            return wrong(f"{name}: of *all* within the ± of the best, which sends least?")
        return wrong(f"{name}: got {got!r}.")
    try:
        function({"x": (70.0, 0.2, 50.0)}, 10.0)
    except ValueError:
        return right("a difference smaller than its spread is none; so the bytes decide.")
    return wrong("nothing fits the budget: raise a ValueError.")


@exercise("measure what the order of words is worth to two models; put it in `my_drops`")
def drops(mine: dict[str, float]) -> Verdict:
    """Judge accuracies lost by shuffling words, in points: {"bag": …, "gru": …}."""
    if not isinstance(mine, dict) or set(mine) != {"bag", "gru"}:
        raise Hint(f"expected a dictionary with 'bag' and 'gru'; got {mine!r:.60}")
    bag, gru = number(mine["bag"]), number(mine["gru"])
    if not (math.isfinite(bag) and math.isfinite(gru)):
        raise Hint(f"expected two numbers; got {mine!r:.60}. Were both models judged?")
    if abs(bag) > 0.1:
        return wrong(
            f"the bag loses {bag:.2f} points. It cannot hear order: is padding moved, too, or is "
            "the model training, with dropout?"
        )
    if gru < -0.5:
        return wrong(
            f"the GRU loses {gru:.2f}: does it gain by shuffling? What is lost is the accuracy on "
            "whole reviews minus that on shuffled ones."
        )
    if 0 < gru < 0.1 or gru >= 40:
        return wrong(f"the GRU loses {gru:.3g}: give points, of 100.")
    return right(f"the bag loses nothing; your GRU lost {gru:.1f} points by it.")
