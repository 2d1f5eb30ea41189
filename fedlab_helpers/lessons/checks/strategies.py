"""Checks of notebook 07: aggregation strategies."""

import math
from collections.abc import Callable

import pandas as pd
import torch
from scipy.stats import hypergeom
from torch import Tensor

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
from fedlab_helpers.lessons.runs import Run

ATTACKERS, ROUNDS, STANDS = 0.3, 8, 0.65


@exercise("say in what share of the rounds more than three of a cohort of ten are hostile")
def overrun(answer: float) -> Verdict:
    """Judge the chance that all 4 hostile clients of 20 are in a cohort of 10."""
    answer, share = number(answer), math.comb(16, 6) / math.comb(20, 10)
    if near(answer, share, 0.08):  # 0.04, rounded to two digits, is right
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
        "this is the share of rounds in which it is *not* overrun.": 1 - share,
    }
    general = f"got {answer:g}; how many cohorts of 10 out of 20 are there, and how many hold 4?"
    return wrong(slip(answer, slips, 0.04) or general)


@exercise("write `fednova`: the change of the global weights when clients took unequal steps")
def fednova(function: Callable[..., Tensor]) -> Verdict:
    """Judge a function of (updates, steps, examples) that returns one tensor."""
    updates = [torch.tensor([2.0, 0.0]), torch.tensor([0.0, 8.0])]
    equal = tensor(function([u.clone() for u in updates], [4, 4], [30, 10]))
    if not near(equal, [1.5, 2.0]):
        if near(equal, [0.375, 0.5]):
            return wrong("a mean of *steps*. How many steps does the server take with it?")
        if near(equal, [1.0, 4.0]):
            return wrong("this is the plain mean; weight it by the numbers of reviews, 30 and 10.")
        told = f"with 4 steps each, got {equal.tolist()}"
        return wrong(f"{told}; it should be the mean by examples, [1.5, 2.0].")
    got = tensor(function([u.clone() for u in updates], [2, 8], [30, 10]))
    if near(got, [2.625, 0.875]):
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
    updates = torch.tensor(
        [
            [1.0, 50.0, 7.0],
            [-90.0, 2.0, 9.0],
            [2.0, 3.0, 5.0],
            [3.0, 4.0, -60.0],
            [6.0, 6.0, 8.0],
        ]
    )
    got = tensor(function(updates.clone(), 0.2))
    if got.shape == (5,):
        return wrong("one value a client; expected one a weight: average over the clients, dim=0.")
    if got.shape != (3,):
        return wrong(f"expected shape (3,), one value a weight; got {tuple(got.shape)}.")
    plain, ordered = updates.mean(0), updates.sort(dim=0).values
    expected = ordered[1:-1].mean(0)
    slips = {
        f"got the plain mean, {plain.tolist()}; the liars are still in it.": plain,
        "the first and the last *client* were left out; sort each weight first.": (
            updates[1:-1].mean(0)
        ),
        "sorted along the weights of a client, dim=1; sort each weight over the clients, dim=0.": (
            updates.sort(dim=1).values[1:-1].mean(0)
        ),
        "only the lowest values were left out. A liar can also go too far up.": ordered[1:].mean(0),
        "only the highest values were left out. A liar can also go too far down.": (
            ordered[:-1].mean(0)
        ),
        "this is the median; a share of 0.2 leaves out one of five at either end.": ordered[2],
        "a sum; divide by the number of clients that are left.": 3 * expected,
        "divide by the number of clients that are left, not by all.": 0.6 * expected,
    }
    if not near(got, expected):
        return wrong(slip(got, slips) or f"got {got.tolist()}, expected {expected.tolist()}.")
    if not near(tensor(function(updates.clone(), 0.0)), plain):
        return wrong("with a share of 0 nobody is left out: it should be the plain mean.")
    if not near(tensor(function(updates.clone(), 0.3)), expected):
        return wrong("0.3 of five clients is 1.5: round it down, so that one is left out.")
    return right("2, 4.33 and 6.67, with −90, 50 and −60 among the values.")


@exercise("write `paired`: how much better one strategy is than another, and how sure that is")
def paired(function: Callable[[pd.DataFrame, str, str], tuple[float, float]]) -> Verdict:
    """Judge a function of (last rounds, strategy, other) -> (mean difference, standard error)."""
    table = pd.DataFrame({"seed": [2, 0, 1, 0, 1, 2, 0], "strategy": list("aaabbbc")})
    table["accuracy"] = [0.86, 0.70, 0.78, 0.68, 0.77, 0.83, 0.1]
    got = tensor(function(table.copy(), "a", "b"), "two numbers")
    if got.numel() != 2:
        return wrong(f"expected two numbers, the mean difference and its error; got {got.tolist()}")
    difference, error = got.flatten().tolist()
    if math.isnan(difference):
        return wrong(
            "a mean of nan: pandas subtracts rows with the same *index*, and yours have none in "
            "common. Put the seed into the index of both, with `set_index` or `pivot`."
        )
    unit = 100 if math.isclose(abs(difference), 2, abs_tol=1e-6) else 1
    difference, error = difference / unit, error / unit
    if math.isclose(difference, -0.02, abs_tol=1e-6):
        return wrong("the sign: above 0 if the *first* strategy is better.")
    if not math.isclose(difference, 0.02, abs_tol=1e-6):
        return wrong(f"the differences are 2, 1 and 3 points; got a mean of {difference:.4f}.")
    if math.isclose(error, 0.01 / math.sqrt(3), abs_tol=1e-6):
        return right(
            "2.0 ± 0.6 points, though each strategy by itself moves by 16 points over the seeds: "
            "what a seed does to both cancels."
        )
    if math.isclose(error * unit, 0.01 / math.sqrt(3), abs_tol=1e-6):
        return wrong("the difference is in points, its error in shares: one unit for both.")
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
    told = ", ".join(f"{accuracy:.1%}" for accuracy in last)
    if min(last) < STANDS:
        return wrong(
            f"the last three rounds: {told}; each has to reach {STANDS:.0%}. Which combinations do "
            "not let a few updates decide, and how many may be hostile in a cohort of this size?"
        )
    return right(f"{run.name}: {told} in the last three rounds. {_bound(run)}")


def _bound(run: Run) -> str:
    """Return in what share of the rounds more clients are hostile than the combination stands."""
    setup, own = run.recipe, dict(run.recipe.parameters)
    bounds = {
        "krum": own.get("f"),
        "trimmed_mean": int(own.get("share", 0) * setup.cohort),
        "median": (setup.cohort - 1) // 2,
        "geometric_median": (setup.cohort - 1) // 2,
    }
    if (bound := bounds.get(setup.strategy)) is None:
        return "No bound says how many liars this stands."
    hostile = round(ATTACKERS * setup.clients)
    over = hypergeom.sf(bound, setup.clients, hostile, setup.cohort)
    if over < 1e-9:
        return f"It stands {bound} liars, and a cohort never has more."
    return (
        f"It stands {bound} liars; in {over:.0%} of the rounds a cohort has more, and that it held "
        "there was due to these liars, not to a bound."
    )


@exercise(
    "write `own_combination`: many updates become one change, and one liar cannot move it far"
)
def own_combination(function: Callable[[Tensor], Tensor]) -> Verdict:
    """Judge a function of updates (K, d) that returns (d,), by what must hold of it."""
    generator = torch.Generator().manual_seed(7)
    middle = torch.tensor([3.0, -1.0, 0.5, 2.0])
    crowd = middle + 0.3 * torch.randn(9, 4, generator=generator)

    def combined(updates: Tensor) -> Tensor:
        change = tensor(function(updates.clone()))
        if change.shape != middle.shape:
            raise Hint(f"expected shape (4,), one value a weight; got {tuple(change.shape)}.")
        if not change.isfinite().all():
            raise Hint("a value is not finite; is something divided by a length of 0?")
        return change

    for length in (1.0, 100.0):
        agreed = combined(length * middle.repeat(9, 1))
        if not near(agreed, length * middle, 1e-4):
            return wrong(
                f"nine clients all sent {(length * middle).tolist()}, and the change is "
                f"{[round(value, 3) for value in agreed.tolist()]}. Where all agree, do as they "
                "say; a limit has to come from the crowd itself, such as its median length."
            )
    change = combined(crowd)
    if not near(combined(crowd.flip(0)), change, 1e-4):
        return wrong("the same clients in another order give another change; who comes first?")
    spread = (crowd - crowd.mean(0)).norm(dim=1).max().item()
    if (away := (change - crowd.mean(0)).norm().item()) > spread:
        return wrong(
            f"nobody lies, and the change is {away:.2f} from the mean, farther than any client."
        )
    for place, lie in ((0, -1e6), (8, -1e6), (4, 1e6)):
        lied = crowd.clone()
        lied[place] = lie * middle
        if (away := (combined(lied) - change).norm().item()) > 3 * middle.norm():
            return wrong(
                f"one client of nine sent {lie:g} times what the others want, and moved the change "
                f"by {away:,.0f}. The longer a lie, the less it should count."
            )
    return right("it says what all say, in any order, and one liar moves it by a bounded way.")
