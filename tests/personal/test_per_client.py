"""One model, many clients: each is judged on reviews like its own."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlab_helpers.core.examples import Examples
from fedlab_helpers.personal.per_client import kinds, own_accuracy, score
from fedlab_helpers.tasks.objectives import NUMBERS
from fedlab_helpers.tasks.reviews.corpus import Review

TEST = ["hotel 0", "hotel 0", "book 1", "book 1", "book 1", "book 1"]
CORRECT = [True, False, True, True, True, False]  # 1/2 of the hotels, 3/4 of the books


def test_a_kind_is_domain_and_label():
    reviews = [Review("很好", 1, "hotel"), Review("不好", 0, "book")]
    assert kinds(reviews).tolist() == ["hotel 1", "book 0"]


def test_by_hand():
    """Hotels only; books only; one hotel and three books: 1/4 · 1/2 + 3/4 · 3/4."""
    train = np.array(["hotel 0", "book 1", "book 1", "book 1"])
    parts = [np.array([0]), np.array([1, 3]), np.arange(4)]
    assert own_accuracy(CORRECT, TEST, parts, train).tolist() == [0.5, 0.75, 0.6875]


@given(st.data())
def test_a_client_like_the_test_reviews_sees_their_accuracy(data):
    names = data.draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=20))
    correct = data.draw(st.lists(st.booleans(), min_size=len(names), max_size=len(names)))
    (own,) = own_accuracy(correct, names, [np.arange(len(names))], names)
    assert own == pytest.approx(np.mean(correct))


def test_what_cannot_be_judged_is_refused_by_name():
    train = np.array(["hotel 0", "laptop 1"])
    with pytest.raises(ValueError, match="held: got 'laptop 1', expected kinds of which there are"):
        own_accuracy(CORRECT, TEST, [np.array([0]), np.array([1])], train)
    with pytest.raises(ValueError, match="held: got 0, expected at least one example"):
        own_accuracy(CORRECT, TEST, [np.array([], dtype=int)], train)


def test_answers_are_judged_by_the_objectives_own_measure():
    numbers = Examples((torch.zeros(2, 1),), torch.tensor([3.0, 2.0]), NUMBERS)
    assert score(torch.tensor([1.0, 2.0]), numbers) == pytest.approx(2**0.5)
    classes = Examples((torch.zeros(2, 1),), torch.tensor([1, 0]))
    assert score(torch.tensor([[0.0, 1.0], [0.0, 1.0]]), classes) == 0.5
