"""Checks of notebook 13: other sequences."""

from collections.abc import Callable, Sequence

import numpy as np
from sklearn.metrics import roc_auc_score

from fedlab_helpers.core.objective import NOT_ASKED
from fedlab_helpers.lessons.checks.verdict import (
    Hint,
    Verdict,
    exercise,
    near,
    number,
    right,
    tensor,
    whole,
    wrong,
)

_GAP = float("nan")


def _list(got: object) -> list:
    if isinstance(got, np.ndarray) or hasattr(got, "tolist"):
        got = got.tolist()
    if not isinstance(got, list | tuple):
        raise Hint(f"return a list; got {got!r:.60}")
    return list(got)


@exercise("write `fill_from_before`: gaps filled without looking ahead")
def fill_from_before(function: Callable[[list[float], int], Sequence[float]]) -> Verdict:
    """Judge a function of (values with NaN, limit) -> the values, gaps filled from before."""
    cases = {
        "a gap of one": ([1.0, _GAP, 3.0], 2, [1.0, 1.0, 3.0]),
        "a gap of three, limit 2": ([1.0, _GAP, _GAP, _GAP, 5.0], 2, [1.0, 1.0, 1.0, _GAP, 5.0]),
        "a gap at the beginning": ([_GAP, 2.0, _GAP], 1, [_GAP, 2.0, 2.0]),
        "two gaps": ([1.0, _GAP, 2.0, _GAP, _GAP], 1, [1.0, 1.0, 2.0, 2.0, _GAP]),
    }
    for name, (values, limit, expected) in cases.items():
        given = list(values)
        got = _list(function(given, limit))
        if not np.array_equal(given, values, equal_nan=True):
            return wrong("your function changed the list that it was given; work on a copy.")
        if len(got) != len(expected):
            return wrong(f"{name}: return as many values as came; got {len(got)}.")
        found = tensor(got).numpy()
        if np.array_equal(found, expected, equal_nan=True):
            continue
        if name == "a gap of one" and found[1] in (2.0, 3.0):
            return wrong("what fills the gap was read later: at that time nobody knew it.")
        if name.startswith("a gap of three") and found[3] == 1.0:
            return wrong("an old value stands in for at most `limit` readings in a row.")
        return wrong(f"{name}: {values} with limit {limit} gave {got}.")
    return right("now a test cannot know more than a sensor did.")


@exercise("write `auc`: how often a case is ranked above another")
def auc(function: Callable[[list[float], list[int]], float]) -> Verdict:
    """Judge a function of (scores, labels of 0 and 1) -> the area under the ROC curve."""
    rng = np.random.default_rng(0)
    cases = [([3.0, 2.0, 1.0], [1, 0, 1]), ([1.0, 1.0, 0.0], [1, 0, 0])]
    cases += [([5.0, 4.0, 1.0], [1, 1, 0]), ([0.0, 2.0], [1, 0])]
    cases += [(rng.integers(0, 6, 40).astype(float).tolist(), rng.integers(0, 2, 40).tolist())]
    for scores, labels in cases:
        got, expected = number(function(list(scores), list(labels))), roc_auc_score(labels, scores)
        if near(got, expected):
            continue
        told = f"scores {scores}, labels {labels}" if len(scores) < 5 else "forty customers"
        ill, well = ([v for v, y in zip(scores, labels, strict=True) if y == of] for of in (1, 0))
        pairs = np.subtract.outer(ill, well)
        if any(near(got, ties.mean()) for ties in (pairs > 0, pairs >= 0)):
            return wrong(f"{told}: a pair with equal scores counts one half.")
        if near(got, 1 - expected):
            return wrong(f"{told}: the other way round. A case should have the higher score.")
        return wrong(f"{told}: got {got:.3f}, was {expected:.3f}.")
    return right("it asks for the order only: adding 100 to every score changes nothing.")


@exercise("write `own_rows`: the rows of the table that a client trains")
def own_rows(
    function: Callable[[list[list[int]], list[list[int]]], Sequence[int]],
) -> Verdict:
    """Judge a function of (words read, words asked for) -> the rows, ascending."""
    no = NOT_ASKED
    cases = {
        "one sentence": ([[5, 9, 7]], [[9, 7, 12]], [0, 5, 7, 9, 12]),
        "padding": ([[5, 0]], [[6, no]], [0, 5, 6]),
        "a word that is not asked for": ([[5, 2]], [[no, 8]], [0, 2, 5, 8]),
        "two sentences": ([[4, 4], [3, 0]], [[4, 6], [4, no]], [0, 3, 4, 6]),
    }
    for name, (read, asked, expected) in cases.items():
        got = [whole(each) for each in _list(function(read, asked))]
        if got == expected:
            continue
        if None in got:
            return wrong("return whole numbers: the rows.")
        if no in got:
            return wrong(f"{name}: {no} says that nothing is asked; it is no row.")
        if sorted(set(got)) == expected:
            return wrong(f"{name}: each row once, ascending; got {got}.")
        if set(expected) - set(got) == {0}:
            return wrong(f"{name}: row 0, the padding, is always there.")
        if missing := set(expected) - set(got):
            scored = missing & {word for sentence in asked for word in sentence}
            why = "asked for is scored, too" if scored else "that is read is looked up"
            return wrong(f"{name}: {sorted(missing)} is missing; a word {why}.")
        return wrong(f"{name}: read {read}, asked {asked}: got {got}.")
    return right("all other words a client neither trains nor sends, nor learns about.")


@exercise("write `alarms`: where a turbine begins to fall short")
def alarms(
    function: Callable[[list[float], list[float], float, int], Sequence[int]],
) -> Verdict:
    """Judge a function of (expected, measured, limit, readings) -> where alarms begin."""
    short = [0.0, 0.0, 300.0, 300.0, 300.0, 0.0, 0.0, 0.0, 300.0, 300.0]
    gap = [0.0, 300.0, _GAP, 300.0, 300.0, 300.0]
    cases = {
        "two shortfalls": (short, 250.0, 2, [3, 9]),
        "a mean over three": (short, 250.0, 3, [4]),
        "too much power is no alarm": ([-400.0] * 6, 250.0, 2, []),
        "a missing reading": (gap, 250.0, 2, [4]),
        "an alarm on either side of a gap": ([300.0, 300.0, _GAP, 300.0, 300.0], 250.0, 2, [1, 4]),
        "a mean of exactly the limit": ([250.0] * 5, 250.0, 2, []),
        "one reading": ([300.0, 0.0, 300.0], 250.0, 1, [0, 2]),
    }
    for name, (shortfall, limit, readings, begins) in cases.items():
        expected = [1000.0] * len(shortfall)
        measured = [1000.0 - each for each in shortfall]
        got = [whole(each) for each in _list(function(expected, measured, limit, readings))]
        if got == begins:
            continue
        if name == "two shortfalls" and got == [3, 4, 9]:
            return wrong("an alarm that goes on is no new one: say where each begins.")
        if name == "two shortfalls" and got and got[0] == 2:
            return wrong("at reading 2 the mean of the last two is 150: not yet over 250.")
        if name == "a missing reading":
            return wrong("of a reading that is missing nothing is known; nor of a mean over it.")
        if name == "an alarm on either side of a gap":
            return wrong("where a reading is missing there is no alarm: the next one is new.")
        if name == "a mean of exactly the limit":
            return wrong("an alarm is where the mean *exceeds* the limit.")
        return wrong(f"{name}: a shortfall of {shortfall}: got {got}.")
    return right("with a model of the neighbours, this is a monitor for a turbine's first day.")
