"""The checks of notebook 13: right answers pass, mistakes get hints, stubs are not yet."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from verdicts import refused

from fedlab_helpers.lessons.checks import sequences as checks

GAP = math.nan


def fill_from_before(values, limit):
    filled, last, age = [], GAP, 0
    for value in values:
        last, age = (last, age + 1) if math.isnan(value) else (value, 0)
        filled.append(last if age <= limit else GAP)
    return filled


def auc(scores, labels):
    ill = [s for s, y in zip(scores, labels, strict=True) if y]
    well = [s for s, y in zip(scores, labels, strict=True) if not y]
    won = sum((a > b) + (a == b) / 2 for a in ill for b in well)
    return won / len(ill) / len(well)


def own_rows(read, asked):
    rows = {0}
    for sentence in (*read, *asked):
        rows |= {word for word in sentence if word >= 0}
    return sorted(rows)


def alarms(expected, measured, limit, readings):
    short, begins, before = np.subtract(expected, measured), [], False
    for now in range(readings - 1, len(short)):
        alarm = bool(short[now + 1 - readings : now + 1].mean() > limit)
        if alarm and not before:
            begins.append(now)
        before = alarm
    return begins


def auc_of_ranks(scores, labels):
    order, y = pd.Series(scores).rank(), torch.tensor(labels).bool().numpy()
    ill = int(y.sum())
    return torch.tensor((order[y].sum() - ill * (ill + 1) / 2) / ill / (len(y) - ill))


def alarms_of_pandas(expected, measured, limit, readings):
    short = pd.Series(expected) - pd.Series(measured)
    alarm = short.rolling(readings).mean() > limit
    return np.flatnonzero(alarm & ~alarm.shift(fill_value=False))


RIGHT = {
    "fill_from_before": [
        fill_from_before,
        lambda values, limit: pd.Series(values).ffill(limit=limit),
        lambda values, limit: pd.Series(values).ffill(limit=limit).to_numpy(),
        lambda values, limit: torch.tensor(fill_from_before(values, limit)),
        lambda values, limit: tuple(np.float32(v) for v in fill_from_before(values, limit)),
    ],
    "auc": [
        auc,
        auc_of_ranks,
        lambda scores, labels: roc_auc_score(labels, scores),
        lambda scores, labels: np.float32(auc(scores, labels)),
    ],
    "own_rows": [
        own_rows,
        lambda read, asked: np.array(own_rows(read, asked)),
        lambda read, asked: torch.tensor(own_rows(read, asked)),
        lambda read, asked: tuple(own_rows(read, asked)),
        lambda read, asked: np.unique(
            [0, *np.ravel(read), *(w for r in asked for w in r if w > 0)]
        ),
    ],
    "alarms": [
        alarms,
        alarms_of_pandas,
        lambda *a: torch.tensor(alarms(*a)),
        lambda *a: tuple(alarms(*a)),
    ],
}
EACH = [(name, way) for name, ways in RIGHT.items() for way in range(len(ways))]
NONSENSE = [
    None, "some text", 3, GAP, [], {}, {0, 5}, [None], [[1, 2], [3]], ["a"], object(), len,
    np.zeros((2, 2)), torch.zeros(0), torch.zeros(2, 3), iter([1]), 10**400,
]  # fmt: skip


@pytest.mark.parametrize(("name", "way"), EACH)
def test_right_answers_pass_in_whatever_numbers(name, way):
    verdict = getattr(checks, name)(RIGHT[name][way])
    assert verdict.passed, verdict


@pytest.mark.parametrize("name", RIGHT)
def test_stubs_are_not_yet(name):
    def stub(*_):
        raise NotImplementedError

    check = getattr(checks, name)
    for answer in (stub, None, ...):
        assert not check(answer).started
        assert not check(answer).passed


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("answer", NONSENSE, ids=lambda answer: type(answer).__name__)
def test_nonsense_is_refused(name, answer):
    refused(getattr(checks, name)(lambda *_: answer))


@pytest.mark.parametrize("name", RIGHT)
def test_who_forgets_to_return_is_told(name):
    assert "None" in getattr(checks, name)(lambda *_: None).message


def test_an_answer_that_raises_is_told_what():
    refused(checks.auc(lambda scores: 0.5), "raised TypeError")


def interpolated(values, limit):
    return pd.Series(values).interpolate(limit=limit)


def without_a_limit(values, limit):
    return pd.Series(values).ffill()


def in_place(values, limit):
    values[:] = fill_from_before(values, limit)
    return values


def one_too_long(values, limit):
    return fill_from_before(values, limit + 1)


def from_both_sides(values, limit):
    return pd.Series(values).ffill(limit=limit).bfill(limit=1)


def zero_at_first(values, limit):
    filled = fill_from_before(values, limit)
    return [0.0 if math.isnan(values[0]) else filled[0], *filled[1:]]


def test_filling():
    check = checks.fill_from_before
    refused(check(interpolated), "read later")
    refused(check(lambda v, n: pd.Series(v).bfill(limit=n)), "read later")
    refused(check(without_a_limit), "at most `limit` readings in a row")
    refused(check(one_too_long), "at most `limit` readings in a row")
    refused(check(in_place), "work on a copy")
    refused(check(lambda v, n: [x for x in v if x == x]), "as many values as came", "got 2")
    refused(check(lambda v, n: list(v)), "a gap of one")
    refused(check(lambda v, n: np.nan_to_num(v)), "a gap of one")
    refused(check(from_both_sides), "a gap of three, limit 2")
    refused(check(zero_at_first), "a gap at the beginning")


def pairs(scores, labels, wins):
    ill = [s for s, y in zip(scores, labels, strict=True) if y]
    well = [s for s, y in zip(scores, labels, strict=True) if not y]
    return float(np.mean([wins(a, b) for a in ill for b in well]))


def accuracy(scores, labels):
    return np.mean((np.array(scores) > 1.5) == np.array(labels))


def only_of_few(scores, labels):
    return auc(scores, labels) if len(scores) < 5 else 0.5


def test_ranking():
    check = checks.auc
    refused(check(lambda s, y: pairs(s, y, lambda a, b: a > b)), "counts one half")
    refused(check(lambda s, y: pairs(s, y, lambda a, b: a >= b)), "counts one half")
    refused(check(lambda s, y: 1 - auc(s, y)), "the other way round")
    refused(check(accuracy), "was 0.500")
    refused(check(lambda s, y: 100 * auc(s, y)), "got 50.000, was 0.500")
    refused(check(lambda s, y: [0.5, 0.5]), "one number")
    refused(check(only_of_few), "forty customers")


def all_that_stands_there(read, asked):
    return sorted({0, *(word for sentence in (*read, *asked) for word in sentence)})


def test_rows():
    check = checks.own_rows
    refused(check(lambda r, a: own_rows(r, [])), "[12] is missing", "asked for is scored, too")
    refused(check(lambda r, a: own_rows([], a)), "[5] is missing", "that is read is looked up")
    refused(check(lambda r, a: own_rows(r, a)[1:]), "row 0, the padding, is always there")
    refused(check(lambda r, a: own_rows(r, a)[::-1]), "each row once, ascending")
    refused(check(lambda r, a: sorted([0, *own_rows(r, a)])), "each row once, ascending")
    refused(check(all_that_stands_there), "-100 says that nothing is asked")
    refused(check(lambda r, a: set(own_rows(r, a))), "return a list")
    refused(check(lambda r, a: [x + 0.5 for x in own_rows(r, a)]), "whole numbers")
    refused(check(lambda r, a: list(range(20))), "got [0, 1")


def each_alarm(expected, measured, limit, readings):
    short = pd.Series(np.subtract(expected, measured))
    return np.flatnonzero(short.rolling(readings).mean() > limit)


def of_differences(expected, measured, limit, readings):
    return alarms(np.abs(np.subtract(expected, measured)), [0.0] * len(expected), limit, readings)


def missing_is_short(expected, measured, limit, readings):
    return alarms(expected, np.nan_to_num(measured, nan=0.0), limit, readings)


def missing_is_left_out(expected, measured, limit, readings):
    there = [at for at, power in enumerate(measured) if not math.isnan(power)]
    begins = alarms([expected[at] for at in there], [measured[at] for at in there], limit, readings)
    return [there[at] for at in begins]


def goes_on_over_a_gap(expected, measured, limit, readings):
    short = pd.Series(np.subtract(expected, measured)).rolling(readings).mean().dropna()
    alarm = short > limit
    return short.index[alarm & ~alarm.shift(fill_value=False)].tolist()


def test_alarms():
    check = checks.alarms
    refused(check(goes_on_over_a_gap), "the next one is new")
    at_the_limit = lambda e, m, limit, n: alarms(e, m, limit - 1e-9, n)  # noqa: E731
    refused(check(at_the_limit), "*exceeds*")
    refused(check(each_alarm), "say where each begins")
    refused(check(lambda e, m, limit, n: [2, 8]), "mean of the last two is 150")
    refused(check(lambda e, m, limit, n: alarms(m, e, limit, n)), "two shortfalls", "got []")
    refused(check(of_differences), "too much power is no alarm")
    refused(check(missing_is_short), "of a reading that is missing nothing is known")
    refused(check(missing_is_left_out), "nor of a mean over it")
    refused(check(lambda e, m, limit, n: alarms(e, m, limit, 2)), "a mean over three")
    refused(check(lambda *a: [n + 0.5 for n in alarms(*a)]), "two shortfalls")


@given(st.lists(st.sampled_from([GAP, 1.0, 2.0, 3.0]), max_size=12), st.integers(1, 4))
def test_the_right_answer_is_that_of_pandas(values, limit):
    own, theirs = fill_from_before(values, limit), pd.Series(values, dtype=float).ffill(limit=limit)
    assert np.array_equal(own, theirs, equal_nan=True)
