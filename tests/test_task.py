"""A task from a reader's own file: three parts that share nothing, vocabulary of the first."""

import pytest

from fedlab_helpers import partition, text
from fedlab_helpers.devices import numpy_rng
from fedlab_helpers.task import load_task


@pytest.fixture
def task(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "_cache", lambda: text.TokenCache("test", tmp_path))
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
    assert known == {w for r in task.train_reviews for w in text.tokenize(r.text)}


def test_clients_hold_the_reviews_of_their_part(task):
    parts = partition.by_domain(task.domains, 4, numpy_rng(0))
    for part, client in zip(parts, task.clients(parts), strict=True):
        assert len({task.domains[i] for i in part}) == 1
        assert client.tokens.equal(task.train.tokens[part])
