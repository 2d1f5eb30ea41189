"""Partitions: every example has one owner, whatever the shares are."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from fedlab_helpers.core.examples import Examples
from fedlab_helpers.tasks.partition import (
    Dealt,
    by_domain,
    describe,
    dirichlet,
    iid,
    mixture,
    quantity,
    shards,
)

quick = settings(max_examples=30)
LABELS = st.lists(st.integers(0, 3), min_size=1, max_size=60)
SEEDS = st.integers(0, 1000)


def rng(seed=0):
    return np.random.default_rng(seed)


def assert_partition(parts, n_clients, n_examples):
    """Check that each index has one owner, and that lists ascend, in the dtype of indices."""
    assert len(parts) == n_clients
    assert sorted(np.concatenate(parts).tolist()) == list(range(n_examples))
    for part in parts:
        assert part.dtype == np.int64
        assert part.tolist() == sorted(part.tolist())


def sizes(parts):
    return [len(part) for part in parts]


@quick
@given(labels=LABELS, seed=SEEDS, data=st.data())
def test_iid_deals_everything_in_sizes_that_differ_by_one_at_most(labels, seed, data):
    n_clients = data.draw(st.integers(1, len(labels)))
    parts = iid(labels, n_clients, rng(seed))
    assert_partition(parts, n_clients, len(labels))
    assert max(sizes(parts)) - min(sizes(parts)) <= 1


@quick
@given(labels=LABELS, seed=SEEDS, alpha=st.floats(1e-6, 1e6), data=st.data())
def test_dirichlet_deals_everything_and_meets_the_least_size(labels, seed, alpha, data):
    n_clients = data.draw(st.integers(1, len(labels)))
    least = data.draw(st.integers(1, len(labels) // n_clients))
    parts = dirichlet(labels, n_clients, rng(seed), alpha, least)
    assert_partition(parts, n_clients, len(labels))
    assert min(sizes(parts)) >= least


@quick
@given(labels=LABELS, seed=SEEDS, data=st.data())
def test_by_domain_gives_each_client_one_domain_and_each_domain_a_client(labels, seed, data):
    names = np.array(["book", "hotel", "laptop", "other"])[labels]
    n_clients = data.draw(st.integers(len(set(labels)), len(labels)))
    parts = by_domain(names, n_clients, rng(seed))
    assert_partition(parts, n_clients, len(labels))
    owned = [set(names[part]) for part in parts]
    assert all(len(domains) == 1 for domains in owned)
    assert [domain for (domain,) in owned] == sorted(domain for (domain,) in owned)
    for name in set(names):
        of_one = [len(part) for part, domains in zip(parts, owned, strict=True) if name in domains]
        assert of_one
        assert max(of_one) - min(of_one) <= 1


@pytest.mark.parametrize(
    "deal",
    [
        lambda rng: iid([0, 1] * 50, 7, rng),
        lambda rng: dirichlet([0, 1] * 50, 7, rng, alpha=1.0),
        lambda rng: by_domain(["book", "hotel"] * 50, 7, rng),
        lambda rng: shards([0, 1] * 50, 7, rng),
        lambda rng: quantity([0, 1] * 50, 7, rng),
        lambda rng: mixture([0, 1] * 50, 7, rng, 0.3, iid),
    ],
)
def test_the_generator_decides(deal):
    first, again, other = (deal(rng(seed)) for seed in (5, 5, 6))
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    assert not all(np.array_equal(*pair) for pair in zip(first, other, strict=True))


def positive_shares(parts, labels):
    return np.array([np.mean(np.asarray(labels)[part]) for part in parts])


def test_dirichlet_deals_the_examples_of_a_class_at_random():
    """A corpus is often sorted, by date or by product: neighbours must not stay together."""
    first, second = dirichlet([0] * 100, 2, rng(), alpha=1e6)
    assert min(first[-1], second[-1]) > 90


def test_small_alpha_gives_most_of_a_class_to_one_client():
    labels = [0, 1] * 1000
    shares = []
    for seed in range(20):
        for part in dirichlet(labels, 10, rng(seed), alpha=0.01):
            shares.append(np.bincount(np.asarray(labels)[part], minlength=2) / 1000)
    largest = np.reshape(shares, (20, 10, 2)).max(1)
    assert largest.mean() > 0.8
    skew = [
        positive_shares(dirichlet(labels, 10, rng(1), alpha), labels).std()
        for alpha in (0.1, 1.0, 100.0)
    ]
    assert skew[0] > skew[1] > skew[2]


def test_by_domain_gives_clients_in_proportion():
    domains = ["hotel"] * 60 + ["book"] * 30 + ["laptop"] * 10
    parts = by_domain(domains, 10, rng())
    assert [domains[part[0]] for part in parts] == ["book"] * 3 + ["hotel"] * 6 + ["laptop"]
    assert sizes(parts) == [10] * 10


@quick
@given(labels=LABELS, seed=SEEDS, data=st.data())
def test_shards_deal_everything_and_few_labels_to_each(labels, seed, data):
    per_client = data.draw(st.integers(1, len(labels)))
    n_clients = data.draw(st.integers(1, len(labels) // per_client))
    parts = shards(labels, n_clients, rng(seed), per_client)
    assert_partition(parts, n_clients, len(labels))
    # A border between two labels can lie inside a shard: there are as many as labels, less one.
    for part in parts:
        assert len({labels[i] for i in part}) <= per_client + len(set(labels)) - 1


def test_one_shard_of_two_equal_labels_is_a_one_sided_client():
    labels = np.array([0, 1] * 40)
    parts = shards(labels, 8, rng(), per_client=1)
    assert [set(labels[part]) for part in parts].count({0}) == 4
    assert [set(labels[part]) for part in parts].count({1}) == 4
    assert sizes(parts) == [10] * 8


def test_shards_are_dealt_at_random():
    labels = np.array([0, 1] * 40)
    mixed = [len(set(labels[part])) for part in shards(labels, 10, rng(), per_client=2)]
    assert set(mixed) == {1, 2}  # in order, each client would get two shards of one label


@quick
@given(n=st.integers(1, 80), seed=SEEDS, exponent=st.floats(0, 50), data=st.data())
def test_quantities_fall_and_everybody_has_the_least(n, seed, exponent, data):
    n_clients = data.draw(st.integers(1, n))
    least = data.draw(st.integers(1, n // n_clients))
    parts = quantity([0] * n, n_clients, rng(seed), exponent, least)
    assert_partition(parts, n_clients, n)
    assert min(sizes(parts)) >= least
    first, *rest = sizes(parts)
    assert all(first >= size - 1 for size in rest)  # ends are rounded


def test_quantities_follow_the_power_law():
    assert sizes(quantity([0] * 1103, 3, rng(), exponent=1)) == [601, 301, 201]
    assert sizes(quantity([0] * 12, 4, rng(), exponent=0)) == [3, 3, 3, 3]


@quick
@given(labels=st.lists(st.integers(0, 1), min_size=20, max_size=60), seed=SEEDS)
def test_a_mixture_deals_everything(labels, seed):
    parts = mixture(labels, 4, rng(seed), 0.5, shards_of_one)
    assert_partition(parts, 4, len(labels))


def shards_of_one(labels, n_clients, rng):
    return shards(labels, n_clients, rng, per_client=1)


def test_a_mixture_goes_from_skewed_to_random():
    labels = np.array([0, 1] * 400)
    spread = [
        np.std([labels[part].mean() for part in mixture(labels, 8, rng(), share, shards_of_one)])
        for share in (0, 0.5, 1)
    ]
    assert spread[0] == 0.5
    assert 0.2 < spread[1] < 0.3
    assert spread[2] < 0.1


@pytest.mark.parametrize(
    ("deal", "message"),
    [
        (lambda: iid([0, 1], 0, rng()), "n_clients: got 0, expected an integer"),
        (lambda: iid([0, 1], 3, rng()), "3 clients with at least 1 .* need 3 examples, got 2"),
        (
            lambda: dirichlet([0, 1] * 5, 4, rng(), 1.0, min_size=3),
            "4 clients with at least 3 .* need 12 examples, got 10",
        ),
        (lambda: dirichlet([0, 1], 1, rng(), 0.0), "alpha: got 0.0, expected a finite"),
        (lambda: dirichlet([0, 1], 1, rng(), np.nan), "alpha: got nan, expected a finite"),
        (lambda: dirichlet([0, 1], 1, rng(), 1.0, 0), "min_size: got 0, expected an integer"),
        (
            lambda: by_domain(["a", "b", "c"], 2, rng()),
            r"got 2, expected at least one for each of the 3 domains \['a', 'b', 'c'\]",
        ),
        (lambda: shards([0, 1], 2, rng(), 0), r"per_client: got 0, expected an integer"),
        (lambda: shards([0, 1] * 3, 4, rng(), 2), r"4 clients .* 8 examples, got 6"),
        (lambda: quantity([0] * 9, 2, rng(), -1), r"exponent: got -1"),
        (lambda: quantity([0] * 9, 2, rng(), float("inf")), r"exponent: got inf"),
        (lambda: quantity([0] * 9, 2, rng(), 1, 5), r"10 examples, got 9"),
        (lambda: quantity([0] * 9, 2, rng(), 1, 0), r"min_size: got 0"),
        (lambda: mixture([0] * 9, 2, rng(), 1.5, iid), r"share: got 1\.5"),
        (lambda: mixture([0] * 9, 4, rng(), 0.9, iid), r"4 examples, got 1"),
        (lambda: mixture([], 4, rng(), 0.5, iid), r"4 examples, got 0"),
        (lambda: describe([], []), r"parts: sizes: got \[\], expected all above 0"),
        (lambda: describe([np.array([0]), np.array([], int)], [0]), r"sizes: got \[1, 0\]"),
    ],
)
def test_what_cannot_be_dealt_is_refused_with_its_numbers(deal, message):
    with pytest.raises(ValueError, match=message):
        deal()


# How unlike the clients are


def test_a_description_by_hand():
    parts = [np.array([0, 1]), np.array([2, 3])]
    table = describe(parts, [0, 0, 1, 1], ["book", "hotel", "book", "hotel"])
    assert table["size"].tolist() == [2, 2]
    assert table["label 0"].tolist() == [1, 0]
    assert table["domain hotel"].tolist() == [0.5, 0.5]
    assert table["domain divergence"].tolist() == [0, 0]
    # P = (1, 0), Q = (1/2, 1/2), M = (3/4, 1/4): (log2(4/3) + log2(2/3)/2 + log2(2)/2) / 2
    assert table["label divergence"].tolist() == pytest.approx([0.311278] * 2, abs=1e-6)
    assert "domain hotel" not in describe(parts, [0, 0, 1, 1])


@quick
@given(labels=LABELS, seed=SEEDS, data=st.data())
def test_divergence_agrees_with_scipy(labels, seed, data):
    n_clients = data.draw(st.integers(1, len(labels)))
    table = describe(dirichlet(labels, n_clients, rng(seed), 0.3), labels)
    names = [f"label {label}" for label in sorted(set(labels))]
    whole = [labels.count(label) / len(labels) for label in sorted(set(labels))]
    for _, row in table.iterrows():
        expected = jensenshannon(row[names].to_numpy(), whole, base=2) ** 2
        assert row["label divergence"] == pytest.approx(expected, abs=1e-9)
        assert -1e-12 <= row["label divergence"] <= 1


TARGETS = {
    "fractions": np.linspace(0, 1, 12),
    "float32": torch.zeros(12),
    "missing": [0, 1, float("nan")] * 4,
    "missing names": np.array(["hotel", None] * 6, dtype=object),
}
LOOKING = {
    "dirichlet": lambda labels: dirichlet(labels, 3, rng(0), 0.5),
    "shards": lambda labels: shards(labels, 3, rng(0)),
    "by_domain": lambda labels: by_domain(labels, 3, rng(0)),
    "mixture": lambda labels: mixture(labels, 3, rng(0), 0.5, shards),
    "describe": lambda labels: describe([np.arange(12)], labels),
}


@pytest.mark.parametrize("look", LOOKING.values(), ids=LOOKING.keys())
@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS.keys())
def test_numbers_and_gaps_are_no_classes(look, targets):
    with pytest.raises(ValueError, match=r"(labels|domains): got .* Bin a continuous target first"):
        look(targets)


@pytest.mark.parametrize("look", LOOKING.values(), ids=LOOKING.keys())
def test_several_targets_an_example_are_no_class(look):
    with pytest.raises(ValueError, match=r"shape: got \(\d+, 2\), expected one class an example"):
        look(np.zeros((12, 2), dtype=np.int64))


def test_what_looks_at_no_label_deals_numbers_too():
    targets = np.linspace(0, 1, 12)
    for deal in (iid, quantity):
        assert sorted(np.concatenate(deal(targets, 3, rng(0)))) == list(range(12))


@pytest.mark.parametrize("kind", [bool, np.int8, str, object, torch.tensor])
def test_classes_of_any_kind_are_dealt_alike(kind):
    labels = np.array([0, 1] * 6)
    same = kind(labels) if kind is torch.tensor else labels.astype(kind)
    expected = LOOKING["dirichlet"](labels)
    for got, part in zip(LOOKING["dirichlet"](same), expected, strict=True):
        assert got.tolist() == part.tolist()


@given(counts=st.lists(st.integers(1, 40), min_size=2, max_size=4), clients=st.integers(2, 5))
def test_clients_that_are_all_alike_are_zero_bits_apart(counts, clients):
    labels = np.repeat(np.arange(len(counts)), counts)
    parts = [np.arange(len(labels)) + i * len(labels) for i in range(clients)]
    table = describe(parts, np.tile(labels, clients))
    assert table["label divergence"].between(0, 1e-15).all()


def test_clients_are_put_together_when_they_are_asked_for():
    data = Examples((torch.arange(12).reshape(6, 2),), torch.arange(6) % 2)
    dealt = Dealt(data, iid(range(6), 4, np.random.default_rng(0)))
    assert len(dealt) == 4
    assert dealt.objective == data.objective
    listed = [data.subset(part) for part in dealt.parts]
    for one, other in zip(dealt, listed, strict=True):
        assert one.inputs[0].equal(other.inputs[0])
        assert one.targets.equal(other.targets)
    assert dealt[-1].targets.equal(listed[3].targets)
    with pytest.raises(IndexError):
        dealt[4]
