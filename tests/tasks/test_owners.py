"""Owners, their parts as one, and what a model is worth to them."""

import math

import pytest
import torch

from fedlab_helpers import Examples
from fedlab_helpers.tasks.objectives import NEXT_TOKEN, NUMBERS, RISK
from fedlab_helpers.tasks.owners import Owner, score, together

ONE = Examples((torch.ones(2, 3),), torch.tensor([1.0, math.nan]), NUMBERS)
LENGTHS = torch.ones(2, dtype=torch.int64)


def risks(logits, targets):
    """Return what the objective says of these answers."""
    return RISK.judge(torch.tensor(logits), torch.tensor(targets))


@pytest.mark.parametrize("part", ["train", "validation", "test"])
@pytest.mark.parametrize("data", [ONE.subset([]), ONE.subset([1])], ids=["none", "none asked"])
def test_an_owner_of_whom_a_part_asks_nothing_is_refused_by_name(part, data):
    parts = {"train": ONE, "validation": ONE, "test": ONE} | {part: data}
    came = f"Ada: {part}: got '{len(data)} examples of which nothing is asked'"
    with pytest.raises(ValueError, match=came):
        Owner("Ada", **parts)


def test_parts_are_put_together_in_their_order():
    other = Examples((torch.zeros(1, 3),), torch.tensor([5.0]), NUMBERS)
    both = together([ONE, other, ONE.subset([])])
    assert both.inputs[0].tolist() == [[1.0] * 3, [1.0] * 3, [0.0] * 3]
    assert both.targets[[0, 2]].tolist() == [1.0, 5.0]
    assert both.asked == 2
    assert together([both]).objective is both.objective


def test_parts_that_are_padded_stay_so():
    padded = Examples((torch.ones(2, 3), LENGTHS), torch.ones(2), NUMBERS, padded=True)
    both = together([padded, padded])
    assert both.padded
    assert both.inputs[1].tolist() == [1] * 4


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (ONE.of(ONE.inputs, ONE.targets.double()), r"parts: shapes behind N: .*\(\) torch.float64"),
        (Examples((torch.ones(2, 4),), torch.ones(2), NUMBERS), r"shapes behind N: .*\(4,\)"),
        (Examples((torch.ones(2, 3), LENGTHS), torch.ones(2), NUMBERS), r"\(\) torch.int64"),
        (Examples((torch.ones(2, 3),), torch.ones(2), RISK), r"parts: asked: got \[Risk"),
    ],
)
def test_parts_that_do_not_fit_each_other_are_refused(other, message):
    with pytest.raises(ValueError, match=message):
        together([ONE, other])


def test_padded_parts_and_others_are_not_mixed():
    inputs = (torch.ones(2, 3), LENGTHS)
    plain, padded = (Examples(inputs, torch.ones(2), NUMBERS, padded=p) for p in (False, True))
    with pytest.raises(ValueError, match="parts: got 'padded ones and others'"):
        together([plain, padded])


def test_no_part_and_no_owner_are_refused():
    with pytest.raises(ValueError, match="parts: got 0, expected at least one"):
        together([])
    with pytest.raises(ValueError, match="rows: got 0, expected those of at least one owner"):
        score(RISK, [])


def test_a_pooled_auc_is_not_the_mean_of_the_owners():
    """Both order their own rightly; together, the first one's healthy stand above the other's ill:
    of the four pairs of ill and healthy, one is wrong."""
    rows = [risks([3.0, 2.0], [1.0, 0.0]), risks([1.0, 0.0], [1.0, 0.0])]
    figures = score(RISK, rows)
    assert figures["own"]["auc"] == figures["worst"]["auc"] == 1.0
    assert figures["pooled"]["auc"] == 0.75


def test_an_owner_of_one_class_counts_in_what_is_pooled_only():
    rows = [risks([3.0, 2.0], [1.0, 0.0]), risks([9.0], [0.0]), risks([1.0, 2.0], [1.0, 0.0])]
    figures = score(RISK, rows)
    assert figures["own"]["auc"] == 0.5  # of 1 and 0
    assert figures["worst"]["auc"] == 0.0
    assert figures["pooled"]["auc"] == pytest.approx(2 / 6)  # 3 is above 2 and 2, 1 above none
    single = [RISK.metrics(row)["loss"] for row in rows]
    assert figures["own"]["loss"] == pytest.approx(sum(single) / 3)
    assert figures["worst"]["loss"] == max(single)
    assert figures["pooled"]["loss"] == pytest.approx(float(torch.cat(rows)[:, 0].mean()))


@pytest.mark.filterwarnings("error")
def test_a_measure_that_nobody_has_is_not_known():
    figures = score(RISK, [risks([1.0], [1.0]), risks([2.0], [1.0])])
    assert all(math.isnan(figures[by]["auc"]) for by in ("own", "worst", "pooled"))
    assert figures["own"]["loss"] > 0


def test_the_worst_error_is_the_largest():
    rows = [NUMBERS.judge(torch.tensor(e), torch.zeros(len(e))) for e in ([3.0], [1.0, 1.0, 1.0])]
    figures = score(NUMBERS, rows)
    assert figures["worst"]["rmse"] == 3.0
    assert figures["own"]["mae"] == 2.0  # owners alike
    assert figures["pooled"]["mae"] == 1.5  # by what they are asked


def test_the_worst_recall_is_the_smallest():
    logits = torch.eye(3)[None]
    rows = [NEXT_TOKEN.judge(logits, torch.tensor([t])) for t in ([0, 1, 2], [0, 0, 0])]
    assert score(NEXT_TOKEN, rows)["worst"]["recall@1"] == pytest.approx(1 / 3)
