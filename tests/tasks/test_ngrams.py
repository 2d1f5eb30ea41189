"""The n-gram: by hand, and as probabilities."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys import VOCABULARY, make_reviews

from fedlab_helpers.tasks.next_word import next_words
from fedlab_helpers.tasks.ngrams import NGram, asked_places
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews

# 2 3 2 3, and 2 4: after 2 comes 3 twice and 4 once, after 3 comes 2 once.
DATA = next_words(
    EncodedReviews(
        torch.tensor([[2, 3, 2, 3], [2, 4, 0, 0]]), torch.tensor([4, 2]), torch.tensor([0, 0])
    )
)
ALONE = (np.array([0, 0, 1, 2, 1]) + 0.5) / 6.5  # of 3, 2, 3 and 4, and half a time each word


def entries(model):
    """Return how many counts a model holds."""
    return sum(len(counter) for level in model.counts for counter in level.values())


def test_of_order_one_it_is_counts():
    model = NGram(DATA, 5, 1)
    assert model.probabilities([]).tolist() == pytest.approx(ALONE.tolist())
    assert model.probabilities([3, 2]).tolist() == pytest.approx(ALONE.tolist())
    assert entries(model) == 3


def test_a_bigram_by_hand():
    model = NGram(DATA, 5, 2, 0.5)
    after_2 = 0.5 * 2 / 3 * ALONE + np.array([0, 0, 0, 1.5, 0.5]) / 3
    after_3 = 0.5 * 1 / 1 * ALONE + np.array([0, 0, 0.5, 0, 0]) / 1
    for words, chances in (([2], after_2), ([9, 2], after_2), ([3], after_3), ([4], ALONE)):
        assert model.probabilities(words).tolist() == pytest.approx(chances.tolist())
    assert entries(model) == 3 + 3


def test_a_trigram_by_hand():
    model = NGram(DATA, 5, 3, 0.5)
    after_2 = 0.5 * 2 / 3 * ALONE + np.array([0, 0, 0, 1.5, 0.5]) / 3
    after_3_2 = 0.5 * 1 / 1 * after_2 + np.array([0, 0, 0, 0.5, 0]) / 1
    assert model.probabilities([3, 2]).tolist() == pytest.approx(after_3_2.tolist())
    assert model.probabilities([4, 2]).tolist() == pytest.approx(after_2.tolist())
    assert model.probabilities([2]).tolist() == pytest.approx(after_2.tolist())
    assert entries(model) == 3 + 3 + 2  # 2 3 -> 2, 3 2 -> 3


@given(
    seed=st.integers(0, 50),
    order=st.integers(1, 4),
    discount=st.sampled_from([0.1, 0.75, 0.99]),
    words=st.lists(st.integers(0, VOCABULARY - 1), max_size=6),
)
def test_probabilities_sum_to_one_and_none_is_zero(seed, order, discount, words):
    model = NGram(next_words(make_reviews(8, seed)), VOCABULARY, order, discount)
    chances = model.probabilities(words)
    assert chances.sum() == pytest.approx(1)
    assert chances.min() > 0
    if len(words) >= order - 1:
        longer = model.probabilities([5, *words])
        assert longer.tolist() == chances.tolist()  # it looks no further back


def test_it_answers_what_is_asked_in_order():
    data = next_words(make_reviews(9, 1), skip=[5, 6])
    model, places = NGram(data, VOCABULARY, 2), asked_places(data)
    answers = model.answer(data)
    assert answers.shape == (data.asked, 1, VOCABULARY)
    assert places.asked == len(places) == data.asked
    row, step = (data.targets != -100).nonzero().unbind(1)
    for place, (r, s) in enumerate(zip(row.tolist(), step.tolist(), strict=True)):
        assert places.targets[place, 0] == data.targets[r, s]
        words = data.inputs[0][r, : s + 1].tolist()
        torch.testing.assert_close(
            answers[place, 0].double().exp(), torch.from_numpy(model.probabilities(words))
        )


def test_it_is_judged_as_any_model():
    places, model = asked_places(DATA), NGram(DATA, 5, 2, 0.5)
    figures = DATA.objective.metrics(DATA.objective.judge(model.answer(DATA), places.targets))
    chances = [model.probabilities(words)[next_] for words, next_ in
               (([2], 3), ([3], 2), ([2], 3), ([2], 4))]  # fmt: skip
    assert figures["loss"] == pytest.approx(-np.log(chances).mean())
    assert figures["recall@1"] == 0.75
    assert figures["recall@3"] == 1.0


def test_what_is_not_asked_is_not_counted():
    data = next_words(make_reviews(9, 1), skip=[5, 6, 7])
    model = NGram(data, VOCABULARY, 1)
    assert {5, 6, 7}.isdisjoint(model.counts[0][()])
    assert sum(model.counts[0][()].values()) == data.asked


def test_nothing_counted_is_even_chances():
    assert NGram(DATA.subset([]), 4, 3).probabilities([1, 2]).tolist() == [0.25] * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 0}, "order: got 0, expected an integer of at least 1"),
        ({"vocab_size": 0}, "vocab_size: got 0"),
        ({"vocab_size": 4}, "data: got 'word 4', expected words below vocab_size=4"),
        ({"discount": 0.0}, "discount: got 0.0, expected a number above 0 and below 1"),
        ({"discount": 1.0}, "discount: got 1.0"),
    ],
)
def test_what_makes_no_ngram_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        NGram(**{"data": DATA, "vocab_size": 5, **options})
