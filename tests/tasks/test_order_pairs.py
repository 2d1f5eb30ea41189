"""The order pairs: a bag of words cannot tell the two sentences of any pair apart."""

from collections import Counter

import numpy as np
import torch

from fedlab_helpers.studies.study import task
from fedlab_helpers.tasks.reviews.order_pairs import order_pairs, ordered
from fedlab_helpers.tasks.reviews.words import tokenize


def test_the_sentences_of_a_pair_hold_the_same_known_words_in_another_order():
    for pair in order_pairs():
        positive, negative = tokenize(pair.positive), tokenize(pair.negative)
        assert Counter(positive) == Counter(negative), pair
        assert positive != negative
        assert all(word in task().vocab for word in positive), pair


def test_there_are_enough_pairs_in_both_directions_of_each_kind():
    pairs = order_pairs()
    ways = Counter(pair.direction for pair in pairs)
    assert len(pairs) >= 40
    assert ways["last"] == ways["first"] == len(pairs) / 2
    kinds = Counter((pair.kind, pair.direction) for pair in pairs)
    assert all(kinds[kind, "last"] == kinds[kind, "first"] for kind, _ in kinds)
    assert len({text for pair in pairs for text in pair[2:4]}) == 2 * len(pairs)
    assert all(pair.positive_english and pair.negative_english for pair in pairs)


def test_alike_but_for_rounding_is_a_tie():
    assert ordered([1.0, 0.0, 2.0], [0.0, 1.0, 2.0 + 1e-7]).tolist() == [1, 0, 0.5]
    assert np.mean(ordered(torch.tensor([1.0]), torch.tensor([3.0]))) == 0
