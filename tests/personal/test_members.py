"""Clients with reviews of their own to train on, to choose by, and to be tested on."""

from collections import Counter

import numpy as np
import pytest
import torch

from fedlab_helpers.core.examples import Examples
from fedlab_helpers.personal.members import PARTITIONS, deal
from fedlab_helpers.personal.per_client import OwnTest
from fedlab_helpers.tasks.objectives import NUMBERS
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews


def own_test(labels, weights, kinds) -> OwnTest:
    n = len(labels)
    reviews = EncodedReviews(
        torch.ones(n, 1, dtype=torch.int64), torch.ones(n, dtype=torch.int64), torch.tensor(labels)
    )
    return OwnTest(reviews, np.array(weights), np.array(kinds))


# Half of the client's reviews are hotels (two asked, both of label 0), half are books.
SMALL = own_test([0, 0, 1, 1], [0.25, 0.25, 0.4, 0.1], ["hotel", "hotel", "book", "book"])
RIGHT = np.array([True, False, True, False])


def test_scores_by_hand():
    assert SMALL.accuracy(RIGHT) == pytest.approx(0.65)
    assert SMALL.balanced_accuracy(RIGHT) == pytest.approx((0.5 + 0.8) / 2)
    assert SMALL.majority == pytest.approx(0.5)
    assert SMALL.right(torch.tensor([[1.0, 0], [0, 1], [0, 1], [1, 0]])).tolist() == RIGHT.tolist()


def test_the_standard_error_by_hand():
    """Differences 1, 0 in hotels and 1, -1 in books: variances 1/2 and 2, each halved by n = 2,
    times the squared share 1/4."""
    error = SMALL.standard_error(np.array([1.0, 0, 1, -1]))
    assert error == pytest.approx(np.sqrt(0.25 * 0.25 + 0.25 * 1.0))
    assert SMALL.standard_error(np.zeros(4)) == 0


def test_who_always_says_the_same_has_the_majoritys_accuracy_and_one_half_balanced():
    skewed = own_test([0, 1, 1], [0.2, 0.4, 0.4], ["a", "b", "b"])
    always = np.array([False, True, True])
    assert skewed.accuracy(always) == pytest.approx(skewed.majority) == pytest.approx(0.8)
    assert skewed.balanced_accuracy(always) == 0.5
    one_class = own_test([1, 1], [0.5, 0.5], ["a", "a"])
    assert np.isnan(one_class.balanced_accuracy(np.array([True, False])))


def test_equal_answers_have_equal_accuracies_whatever_is_summed_up():
    rng = np.random.default_rng(0)
    many = own_test([0] * 1389, np.full(1389, 1 / 1389), ["a"] * 1389)
    right = np.arange(1389) < 1000
    assert len({many.accuracy(rng.permutation(right)) for _ in range(50)}) == 1


def test_right_and_wrong_are_of_classes_only():
    data = Examples((torch.zeros(4, 3),), torch.rand(4), NUMBERS)
    numbers = OwnTest(data, SMALL.weights, SMALL.kinds)
    with pytest.raises(ValueError, match="right: needs a class for each example"):
        numbers.right(torch.rand(4, 1))


@pytest.mark.parametrize("kind", PARTITIONS)
def test_a_deal_gives_every_review_to_one_client_once(kind, small_task):
    members, newcomers = deal(small_task, kind, 0, clients=4, newcomers=2)
    assert (len(members), len(newcomers)) == (4, 2)
    parts = [part for m in members + newcomers for part in (m.train, m.validation)]
    dealt = Counter(tuple(row) for part in parts for row in part.tokens.tolist())
    pool = [small_task.train, small_task.validation]
    assert dealt == Counter(tuple(row) for part in pool for row in part.tokens.tolist())
    for member in members + newcomers:
        n = len(member.train) + len(member.validation)
        assert len(member.validation) == max(4, round(n / 8))
        assert member.test.weights.sum() == pytest.approx(1)
        assert len(member.test.data) == len(member.test.weights) == len(member.test.kinds)


@pytest.mark.parametrize("kind", PARTITIONS[:3])
def test_a_test_weighs_each_kind_as_the_client_holds_it(small_task, kind):
    for member in deal(small_task, kind, 1, clients=4, newcomers=2)[0]:
        own = torch.cat([member.train.labels, member.validation.labels]).double()
        asked = member.test.weights[member.test.data.labels.numpy() == 1].sum()
        assert asked == pytest.approx(own.mean().item())


def test_by_domain_asks_about_that_domain_only_with_all_its_test_reviews(small_task):
    members, newcomers = deal(small_task, "by_domain", 0, clients=4, newcomers=2)
    domains = Counter(review.domain for review in small_task.test_reviews)
    for member in members + newcomers:
        assert {kind.split()[0] for kind in member.test.kinds} == {member.domain}
        assert len(member.test.data) == domains[member.domain]
    assert {m.domain for m in newcomers} == {"book", "hotel"}


def test_two_conventions_are_half_of_the_clients_each_and_label_tests_too(small_task):
    members, newcomers = deal(small_task, "strictness", 0, clients=8, newcomers=4)
    assert Counter(m.convention for m in members) == {"strict": 4, "lenient": 4}
    assert {m.convention for m in newcomers} == {"strict", "lenient"}
    # The small task's texts are numbers: nothing to disagree about.
    assert torch.equal(members[0].test.data.labels, small_task.test.labels)


def test_a_seed_decides_the_deal_and_an_unknown_kind_is_refused(small_task):
    one, again, other = (deal(small_task, "by_domain", seed, clients=4)[0] for seed in (0, 0, 1))
    assert torch.equal(one[0].train.tokens, again[0].train.tokens)
    assert not torch.equal(one[0].train.tokens, other[0].train.tokens)
    with pytest.raises(ValueError, match="kind: got 'iid', expected one of"):
        deal(small_task, "iid", 0)


def test_who_would_have_nothing_to_learn_from_is_refused(small_task):
    """240 and 60 reviews are dealt: four each are all that a client needs to choose by."""
    with pytest.raises(ValueError, match="clients: the reviews of one: got 4, expected more than"):
        deal(small_task, "strictness", 0, clients=75)
    ours, _ = deal(small_task, "strictness", 0, clients=60, newcomers=0)
    assert all(len(member.train) == 1 for member in ours)
