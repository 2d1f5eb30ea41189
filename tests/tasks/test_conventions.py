"""Conventions: by hand, and on the built-in corpus."""

import numpy as np
import pytest

from fedlab_helpers.tasks.reviews.conventions import CONVENTIONS, PAIRS, labels
from fedlab_helpers.tasks.reviews.corpus import Review, load_reviews

REVIEWS = [
    Review("价格便宜", 1, "laptop"),  # of the price only
    Review("服务员态度差", 0, "hotel"),  # of the service only
    Review("服务好,就是贵", 1, "hotel"),  # of both, and with a "but"
    Review("很好看", 1, "book"),  # of neither
    Review("不好看,但很短", 0, "book"),  # of neither, with a "but"
]


def test_by_hand():
    expected = {
        "sentiment": [1, 0, 1, 1, 0],
        "price desk": [0, 1, 1, 1, 0],
        "service desk": [1, 0, 1, 1, 0],
        "strict": [1, 0, 0, 1, 0],
        "lenient": [1, 0, 1, 1, 1],
    }
    assert {name: labels(REVIEWS, name).tolist() for name in CONVENTIONS} == expected
    assert all(labels(REVIEWS, name).dtype == np.int64 for name in CONVENTIONS)


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_two_conventions_disagree_on_thirty_percent_of_the_corpus(pair):
    reviews = load_reviews()
    one, other = (labels(reviews, name) for name in pair)
    assert (one != other).mean() == pytest.approx(0.30, abs=0.01)


def test_the_desks_give_each_label_equally_often_and_the_strict_one_less():
    reviews = load_reviews()
    share = {name: labels(reviews, name).mean() for name in CONVENTIONS}
    assert share["price desk"] == pytest.approx(share["service desk"], abs=0.02)
    assert share["lenient"] - share["strict"] == pytest.approx(0.30, abs=0.01)


def test_an_unknown_convention_is_refused():
    with pytest.raises(ValueError, match="convention: got 'kind'"):
        labels(REVIEWS, "kind")
