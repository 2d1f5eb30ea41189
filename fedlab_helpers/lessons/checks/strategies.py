"""Checks of notebook 07: aggregation strategies."""

import math
from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor

from fedlab_helpers.lessons.checks.verdict import Verdict, exercise, near, right, slip, wrong
from fedlab_helpers.lessons.runs import Run

ATTACKERS, ROUNDS, STANDS = 0.3, 8, 0.75


@exercise("say in what share of the rounds more than three of a cohort of ten are hostile")
def overrun(answer: float) -> Verdict:
    """Judge the chance that all 4 hostile clients of 20 are in a cohort of 10."""
    share = math.comb(16, 6) / math.comb(20, 10)
    if near(answer, share, 0.04):
        return right(
            f"{share:.1%}, one round in {1 / share:.0f}: in a hundred rounds it all but surely "
            "happens. A bound on the cohort is not a bound on the clients."
        )
    drawn_again = 1 - sum(math.comb(10, k) * 0.2**k * 0.8 ** (10 - k) for k in range(4))
    slips = {
        "this is the number of percent; the check wants a share.": 100 * share,
        "each is in half of the cohorts, but not independently: once one of them has a seat, only "
        "nine of nineteen are left for the next.": 0.5**4,
        "this draws a client anew for each seat; none can be drawn twice.": drawn_again,
    }
    general = f"got {answer}; how many cohorts of 10 out of 20 are there, and how many hold 4?"
    return wrong(slip(answer, slips, 0.04) or general)


@exercise("write `fednova`: the change of the global weights when clients took unequal steps")
def fednova(function: Callable[..., Tensor]) -> Verdict:
    """Judge a function of (updates, steps, examples) that returns one tensor."""
    updates = [torch.tensor([2.0, 0.0]), torch.tensor([0.0, 8.0])]
    equal = function([u.clone() for u in updates], [4, 4], [30, 10])
    if equal is None:
        return wrong("the function returned None; does it end with `return`?")
    if not torch.allclose(equal, torch.tensor([1.5, 2.0]), atol=1e-5):
        if torch.allclose(equal, torch.tensor([0.375, 0.5]), atol=1e-5):
            return wrong("a mean of *steps*. How many steps does the server take with it?")
        told = f"with 4 steps each, got {equal.tolist()}"
        return wrong(f"{told}; it should be the mean by examples, [1.5, 2.0].")
    got = function([u.clone() for u in updates], [2, 8], [30, 10])
    if torch.allclose(got, torch.tensor([2.625, 0.875]), atol=1e-5):
        return right(
            "per step both went 1, so the change is (3/4, 1/4) of 3.5 steps. FedAvg would have "
            "gone (1.5, 2): farthest to the client that merely worked longest."
        )
    slips = {
        "that is FedAvg's mean: the client with 8 steps pulls four times as hard.": [1.5, 2.0],
        "the number of steps is a mean by examples, too: (30·2 + 10·8) / 40.": [3.75, 1.25],
        "divide each update by its own steps, not all by the mean number.": [1.05, 1.4],
    }
    hint = slip(got, slips) or "they have 30 and 10 examples."
    return wrong(f"with 2 and 8 steps, got {got.tolist()}: {hint}")


@exercise("write `trimmed_mean`: the mean without the extremes, for each weight by itself")
def trimmed_mean(function: Callable[[Tensor, float], Tensor]) -> Verdict:
    """Judge a function of (updates (K, d), share) that returns (d,)."""
    updates = torch.tensor([[1.0, 50.0], [-90.0, 2.0], [2.0, 3.0], [3.0, 4.0], [6.0, 6.0]])
    got = function(updates.clone(), 0.2)
    if got is None:
        return wrong("the function returned None; does it end with `return`?")
    if not isinstance(got, Tensor) or got.shape != (2,):
        return wrong(f"expected a tensor of shape (2,), one value a weight; got {got!r}.")
    plain, expected = updates.mean(0), [2.0, 13 / 3]
    by_client, middle = updates[1:-1].mean(0), updates.median(0).values
    slips = {
        f"got the plain mean, {plain.tolist()}; the liars are still in it.": plain,
        "the first and the last *client* were left out; sort each weight first.": by_client,
        "only the lowest values were left out. A liar can also go too far up.": [3.0, 15.75],
        "this is the median; a share of 0.2 leaves out one of five at either end.": middle,
    }
    if not near(got, expected):
        general = f"got {got.tolist()}, expected {[round(value, 4) for value in expected]}."
        return wrong(slip(got, slips) or general)
    if not near(function(updates.clone(), 0.0), plain):
        return wrong("with a share of 0 nobody is left out: it should be the plain mean.")
    if not near(function(updates.clone(), 0.3), expected):
        return wrong("0.3 of five clients is 1.5: round it down, so that one is left out.")
    return right("2.0 and 4.33, with −90 in one column and 50 in the other.")


@exercise("write `paired`: how much better one strategy is than another, and how sure that is")
def paired(function: Callable[[pd.DataFrame, str, str], tuple[float, float]]) -> Verdict:
    """Judge a function of (last rounds, strategy, other) -> (mean difference, standard error)."""
    table = pd.DataFrame({"seed": [2, 0, 1, 0, 1, 2, 0], "strategy": list("aaabbbc")})
    table["accuracy"] = [0.86, 0.70, 0.78, 0.68, 0.77, 0.83, 0.1]
    got = function(table.copy(), "a", "b")
    if got is None:
        return wrong("the function returned None; does it end with `return`?")
    difference, error = (float(value) for value in got)
    if math.isclose(difference, -0.02, abs_tol=1e-6):
        return wrong("the sign: above 0 if the *first* strategy is better.")
    if not math.isclose(difference, 0.02, abs_tol=1e-6):
        return wrong(f"the differences are 2, 1 and 3 points; got a mean of {difference:.4f}.")
    if math.isclose(error, 0.01 / math.sqrt(3), abs_tol=1e-6):
        return right(
            "2.0 ± 0.6 points, though each strategy by itself moves by 16 points over the seeds: "
            "what a seed does to both cancels."
        )
    slips = {
        "this is the standard deviation of *one* difference; the mean of three is surer.": 0.01,
        "this is the standard deviation with n; use n - 1, and divide by √n.": 0.0081650,
        "the standard deviation needs n - 1 here: three is few.": 0.0081650 / math.sqrt(3),
    }
    if hint := slip(error, slips):
        return wrong(f"standard error {error:.4f}: {hint}")
    if error > 0.02:
        return wrong(
            f"standard error {error:.4f}: is this from the spread of each strategy by itself? Put "
            "rows of the same seed beside each other, subtract, and look at the differences."
        )
    return wrong(f"standard error {error:.4f}, expected the deviation of 2, 1, 3 points over √3.")


@exercise(
    f"find a run in which {ATTACKERS:.0%} of the clients reverse their updates, and which still "
    f"comes to {STANDS:.0%} in {ROUNDS} rounds"
)
def stands_attack(run: Run) -> Verdict:
    """Judge a run of `runs.compare` by its last three rounds on validation reviews."""
    if not isinstance(run, Run):
        return wrong(f"expected a run, as in `made.runs[-1]`; got {type(run).__name__}.")
    setup = run.recipe
    if (setup.attack, setup.attackers, setup.partition) != ("sign", ATTACKERS, "iid"):
        told = f"{setup.attack!r}, {setup.attackers} and {setup.partition!r}"
        kept = f'"sign", {ATTACKERS}, "iid"'
        return wrong(f"attack, attackers and partition stay {kept}; got {told}.")
    if (setup.rounds, run.state) != (ROUNDS, "finished"):
        return wrong(f"expected {ROUNDS} rounds to the end; got {setup.rounds}, {run.state}.")
    last = [result.score for result in run.results[-3:]]
    mean, told = sum(last) / 3, ", ".join(f"{accuracy:.1%}" for accuracy in last)
    if mean < STANDS:
        return wrong(
            f"the last three rounds: {told}. Which combinations do not let a few updates decide, "
            "and how many may be hostile in a cohort of this size?"
        )
    return right(f"{run.name}: {told} in the last three rounds.")
