"""A task from a reader's own file: three parts that share nothing, vocabulary of the first."""

from dataclasses import replace

import pytest

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.tasks import partition
from fedlab_helpers.tasks.reviews import words
from fedlab_helpers.tasks.reviews.task import DEALS, load_task


@pytest.fixture
def task(tmp_path, monkeypatch):
    monkeypatch.setattr(words, "_cache", lambda: words.TokenCache("test", tmp_path))
    rows = [f"房间{i}很好,1,hotel\n书{i}不好,0,book\n" for i in range(20)]
    path = tmp_path / "mine.csv"
    path.write_text("words,mark,where\n" + "".join(rows), encoding="utf-8")
    return load_task(path, text="words", label="mark", domain="where", min_count=1, max_len=3)


def test_parts_share_no_review_and_tensors_follow_the_reviews(task):
    parts = (task.train_reviews, task.validation_reviews, task.test_reviews)
    assert len(set().union(*parts)) == sum(map(len, parts)) == 40
    encoded = (task.train, task.validation, task.test)
    for reviews, tensors in zip(parts, encoded, strict=True):
        assert tensors.labels.tolist() == [review.label for review in reviews]
        assert tensors.tokens.shape[1] <= 3


def test_vocabulary_knows_training_words_only(task):
    known = set(task.vocab.words[2:])
    assert known == {w for r in task.train_reviews for w in words.tokenize(r.text)}


def test_clients_hold_the_reviews_of_their_part(task):
    parts = partition.by_domain(task.domains, 4, numpy_rng(0))
    for part, client in zip(parts, task.clients(parts), strict=True):
        assert len({task.domains[i] for i in part}) == 1
        assert client.tokens.equal(task.train.tokens[part])


@pytest.fixture
def wide_task(task):
    """The reviews of the small task eighty times over, so that every client can have its twenty."""
    reviews = task.train_reviews * 80
    data = task.train.subset(list(range(len(task.train))) * 80)
    return replace(task, train_reviews=reviews, train=data)


def test_deals_are_those_of_the_partitions(wide_task):
    labels, domains = wide_task.train.labels, wide_task.domains
    dealt = {kind: wide_task.deal(kind, 4, numpy_rng(5), alpha=0.3) for kind in DEALS}
    rng = [numpy_rng(5) for _ in DEALS]
    by_hand = {
        "iid": partition.iid(labels, 4, rng[0]),
        "dirichlet": partition.dirichlet(labels, 4, rng[1], 0.3, 20),
        "shards": partition.shards(labels, 4, rng[2], 1),
        "quantity": partition.quantity(labels, 4, rng[3], 1.0, 20),
        "by_domain": partition.by_domain(domains, 4, rng[4]),
        "domain_dirichlet": partition.dirichlet(domains, 4, rng[5], 0.3, 20),
        "mixture": partition.mixture(
            labels, 4, rng[6], 0.5, lambda *args: partition.dirichlet(*args, alpha=0.3)
        ),
    }
    assert dealt.keys() == by_hand.keys()
    for kind, parts in by_hand.items():
        assert [p.tolist() for p in dealt[kind]] == [p.tolist() for p in parts], kind


def test_an_unknown_deal_is_refused_by_name(task):
    with pytest.raises(ValueError, match=r"kind: got 'fair'.*by_domain.*shards"):
        task.deal("fair", 4, numpy_rng(0))
