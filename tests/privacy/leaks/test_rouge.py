"""ROUGE-L of a few sentences, counted by hand."""

import pytest
from hypothesis import given
from leak_toys import sentences

from fedlab_helpers.privacy.leaks import rouge_l


@pytest.mark.parametrize(
    ("reference", "found", "score"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], 1),
        ([1, 2, 3, 4], [5, 6, 7], 0),
        ([1, 2, 3, 4], [4, 3, 2, 1], 1 / 4),
        ([1, 2, 3, 4], [1, 9, 3, 4], 3 / 4),
        ([1, 2, 3, 4], [1, 4], 2 / 3),  # precision 1, recall 1/2
        ([1, 1, 2], [1, 2, 1, 2], 6 / 7),
        ("police killed the gunman".split(), "police kill the gunman".split(), 3 / 4),
        ("police killed the gunman".split(), "the gunman kill police".split(), 1 / 2),
        ([1], [], 0),
        ([], [], 0),
    ],
)
def test_by_hand(reference, found, score):
    assert rouge_l(reference, found) == pytest.approx(score)


@given(sentences(8, range(4)), sentences(8, range(4)))
def test_it_is_the_same_both_ways_and_read_backwards(one, other):
    assert rouge_l(one, other) == rouge_l(other, one) == rouge_l(one[::-1], other[::-1])
    assert rouge_l(one, one) == 1
