"""Membership: each score, and how good it is, by hand."""

import numpy as np
import pytest
import torch
from leak_toys import examples
from scipy.stats import norm
from torch import nn

from fedlab_helpers.privacy.leaks import (
    auc,
    confidence,
    likelihood_ratio,
    touched_share,
    true_positives,
)


def test_the_share_of_distinct_words_that_were_touched():
    data = examples(([1, 2, 2, 3], 0), ([4], 1), ([1, 9], 0))
    assert touched_share(data, torch.tensor([1, 2, 3])).tolist() == [1, 0, 0.5]
    assert touched_share(data, torch.tensor([1, 50])).tolist() == pytest.approx([1 / 3, 0, 0.5])
    assert touched_share(data, torch.tensor([], dtype=torch.int64)).tolist() == [0, 0, 0]


class Said(nn.Module):
    """Its logits are a table's row, told by the first word."""

    def __init__(self, rows):
        super().__init__()
        self.rows = nn.Parameter(torch.tensor(rows))

    def forward(self, tokens, lengths):
        return self.rows[tokens[:, 0]]


def test_confidence_is_the_lead_of_the_right_class_over_the_next():
    model = Said([[0.0, 0.0, 0.0], [3.0, 1.0, 2.5], [-1.0, 4.0, 0.0]])
    data = examples(([1], 0), ([1, 2], 1), ([2], 1), ([2], 0), ([0], 2))
    assert confidence(model, data).tolist() == pytest.approx([0.5, -2, 4, -5, 0])


SHADOWS = np.array([[4.0, 1.0], [6.0, 3.0], [1.0, 7.0], [1.0, 9.0]])
INSIDE = np.array([[True, False], [True, False], [False, True], [False, True]])


def test_the_likelihood_ratio_is_that_of_two_gaussians_with_a_common_variance():
    """In: means 5 and 8, variances 2 and 2. Out: means 1 and 2, variances 0 and 2."""
    seen = np.array([4.0, 2.5])
    expected = norm.logpdf(seen, [5, 8], 2**0.5) - norm.logpdf(seen, [1, 2], 1)
    assert likelihood_ratio(seen, SHADOWS, INSIDE) == pytest.approx(expected)
    assert expected[0] > 0 > expected[1]


@pytest.mark.parametrize("rows", [slice(1, None), slice(0, 3)])
def test_fewer_than_two_shadows_on_a_side_are_refused(rows):
    with pytest.raises(ValueError, match=r"inside: got .*in and out of two or more"):
        likelihood_ratio(np.zeros(2), SHADOWS[rows], INSIDE[rows])


def test_auc_by_hand():
    member = np.array([True, True, False, False])
    assert auc(member, np.array([4, 3, 2, 1])) == 1
    assert auc(member, np.array([4, 2, 3, 1])) == 0.75
    assert auc(member, np.array([1, 1, 1, 1])) == 0.5
    assert auc(member, np.array([3, 2, 2, 1])) == pytest.approx(3.5 / 4)


def test_members_found_before_too_many_strangers_are_accused():
    member = np.array([True] * 4 + [False] * 4)
    score = np.array([9, 8, 5, 1, 7, 6, 3, 2])
    found = [true_positives(member, score, share) for share in (0, 0.25, 0.49, 0.5, 1)]
    assert found == [0.5, 0.5, 0.5, 0.75, 1]
    assert true_positives(member, score) == 0.5
    assert true_positives(member, -score) == 0.25


def test_a_score_that_says_nothing_finds_as_many_as_it_accuses():
    member, score = np.array([True, False] * 100), np.arange(100).repeat(2)
    assert true_positives(member, score, 0.1) == pytest.approx(0.1)
    assert true_positives(member, score) == pytest.approx(0.01)
