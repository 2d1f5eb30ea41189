"""Checks of notebook 16: design under budgets."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from fedlab_helpers.lessons.checks.verdict import (
    Hint,
    Verdict,
    exercise,
    near,
    number,
    right,
    wrong,
)
from fedlab_helpers.studies.briefs import BRIEFS
from fedlab_helpers.studies.design import Outcome
from fedlab_helpers.studies.results import half_width

_RNG = np.random.default_rng(16)


@exercise("write `megabytes_up`: what a client will send, before anything is run")
def megabytes_up(function: Callable[[int, int, int, int, int], float]) -> Verdict:
    """Judge a function of values, bits, rounds, cohort and clients -> MB of a client."""
    for values, bits, rounds, cohort, clients in (
        (1_000_000, 32, 10, 20, 20),
        (250_000, 8, 16, 5, 20),
        (30_000, 4, 15, 40, 200),
        (1_000_000, 32, 3, 5, 20),
    ):
        expected = values * bits / 8 / 1e6 * rounds * cohort / clients
        got = number(function(values, bits, rounds, cohort, clients))
        if got is None:
            return wrong("return a number: the megabytes.")
        slips = {
            "eight bits are a byte.": expected * 8,
            "a client takes part in cohort / clients of the rounds only.": expected
            * clients
            / cohort,
            "a megabyte is 1,000,000 bytes.": expected * 1e6,
            "that is what all clients send together.": expected * clients,
            "on average: a share of a round counts, too.": values
            * bits
            / 8e6
            * (rounds * cohort // clients),
        }
        if near(got, expected):
            continue
        hints = [hint for hint, slip in slips.items() if near(got, slip)]
        return wrong(hints[0] if hints else f"got {got:.4g}, expected {expected:.4g}.")
    return right("many designs can be crossed out with this line, and nobody trained.")


@exercise("write `losing`: the share of clients that would do better alone")
def losing(function: Callable[[Sequence[float], Sequence[float], bool], float]) -> Verdict:
    """Judge a function of scores, scores alone, whether higher is better -> a share."""
    for up in (True, False):
        for count in (1, 4, 9):
            ours, alone = _RNG.integers(0, 4, count) / 4, _RNG.integers(0, 4, count) / 4
            worse = ours < alone if up else ours > alone
            got = number(function(ours.tolist(), alone.tolist(), up))
            if got is None:
                return wrong("return a number from 0 to 1.")
            if near(got, worse.mean()):
                continue
            return wrong(_about(got, ours, alone, up, worse))
    return right("a mean that rises can still leave some behind; the share says how many.")


def _about(got: float, ours: np.ndarray, alone: np.ndarray, up: bool, worse: np.ndarray) -> str:
    slips = {
        "who is level does not lose.": (worse | (ours == alone)).mean(),
        "that is a count; return a share of the clients.": worse.sum(),
        "of an error, less is better: look at the third argument.": (
            (ours < alone) if not up else (ours > alone)
        ).mean(),
    }
    hints = [hint for hint, slip in slips.items() if near(got, slip)]
    told = f"scores {ours.tolist()}, alone {alone.tolist()}, higher is better: {up}"
    return hints[0] if hints else f"{told}: got {got:.3g}, expected {worse.mean():.3g}."


@exercise("write `standing`: ahead, level or behind a design that was run three times")
def standing(function: Callable[[float, Sequence[float], bool], str]) -> Verdict:
    """Judge a function of a score, a design's scores, whether higher is better -> a word."""
    told = 'return "ahead", "level" or "behind"'
    for scores in ([0.80, 0.82, 0.84], [11.0, 11.4, 11.1], [0.5, 0.5, 0.5], [70.0, 75.0]):
        mean, half = sum(scores) / len(scores), half_width(scores)
        for step in (-1.5, -0.6, 0.0, 0.6, 1.5):
            for up in (True, False):
                wide = half * (len(scores) + 1) ** 0.5
                own = mean + step * (wide or 0.1)
                gain = (own - mean) * (1 if up else -1)
                level = abs(gain) <= wide
                expected = "level" if level else "ahead" if gain > 0 else "behind"
                got = function(own, list(scores), up)
                if got not in ("ahead", "level", "behind"):
                    return wrong(f"{told}; got {got!r}.")
                if got == expected:
                    continue
                if expected == "level":
                    why = "one more run of it might well have said so: look at the interval."
                elif got == "level":
                    why = "that is farther than one more run of it would go: look at the interval."
                else:
                    why = "of an error, less is better: look at the third argument."
                return wrong(f"{own:.4g} against {scores}: {why}")
    return right("one run against three: what is within their spread, nobody knows.")


@exercise("compose a design for the hotels that misses no budget; put its outcome in `my_outcome`")
def hotel_design(mine: Outcome) -> Verdict:
    """Judge what `measure` returned for the brief of the hotels."""
    if not isinstance(mine, Outcome):
        raise Hint('`my_outcome` is what `measure("hotels", my_design)` returns.')
    if mine.brief is not BRIEFS["hotels"]:
        return wrong(f"this is no outcome of the brief of the hotels, but of {mine.brief.name!r}.")
    if mine.missed:
        lines = {line.budget: line for line in mine.lines}
        told = [f"{n}: {lines[n].got:.3g} of {lines[n].limit:g}" for n in mine.missed]
        return wrong(f"it misses {'; '.join(told)}.")
    if math.isnan(mine.score):
        return wrong("its score is no number.")
    alone = sum(mine.alone.values()) / len(mine.alone)
    if mine.score <= alone:
        return wrong(
            f"all budgets are met, but {mine.score:.1%} is no more than {alone:.1%} alone."
        )
    return right(f"all {len(mine.lines)} budgets are met, and {mine.score:.1%} is more than alone.")
