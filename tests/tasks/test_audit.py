"""The audit: its arithmetic, its sample, and that the data card says what it computes."""

from collections import Counter
from pathlib import Path

import pytest

from fedlab_helpers.tasks.reviews.audit import (
    DOMAINS,
    SAMPLE_SIZE,
    Judgement,
    draw_sample,
    fingerprint,
    inside_opposite,
    read_judgements,
    summary,
    wilson,
)
from fedlab_helpers.tasks.reviews.corpus import Review, load_reviews

CARD = Path(__file__).resolve().parents[2] / "data" / "README.md"


@pytest.fixture(scope="module")
def reviews():
    return load_reviews()


def test_wilson_against_a_published_case():
    # Newcombe (1998, Statistics in Medicine 17, 857-872), table I, method 3: 81 of 263, 0 of 20.
    share = wilson(81, 263)
    assert (round(share.low, 4), round(share.high, 4)) == (0.2553, 0.3662)
    none = wilson(0, 20)
    assert (none.low, round(none.high, 4)) == (0, 0.1611)
    assert str(share) == "81 of 263: 30.8% (95% interval 25.5% to 36.6%)"


@pytest.mark.parametrize(("count", "total"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_impossible_counts(count, total):
    with pytest.raises(ValueError, match="must "):
        wilson(count, total)


def test_judgements_are_of_the_sample_that_was_drawn(reviews):
    judgements = read_judgements()
    drawn = [fingerprint(review.text) for review in draw_sample(reviews)]
    assert list(judgements) == drawn
    assert len(judgements) == SAMPLE_SIZE
    assert {judged.domain for judged in judgements.values()} == set(DOMAINS)
    assert {judged.label for judged in judgements.values()} == {0, 1, None}


def test_fingerprints_differ_between_reviews(reviews):
    assert len({fingerprint(review.text) for review in reviews}) == len(reviews)


def test_data_card_says_what_is_computed(reviews):
    assert summary(reviews, read_judgements()) in CARD.read_text(encoding="utf-8")


def test_summary_of_a_case_worked_by_hand():
    reviews = [Review("甲", 0, "hotel"), Review("乙", 1, "book"), Review("丙甲", 1, "laptop")]
    judgements = {
        fingerprint("甲"): Judgement("hotel", 0),
        fingerprint("乙"): Judgement("book", 0),
        fingerprint("丙甲"): Judgement("other", None),
    }
    text = summary(reviews, judgements)
    assert "| hotel | 1 | 0 | 1 |" in text
    assert "| other | 0 | 0 | 1 | 0 | 1 |" in text
    assert "agrees with the judged one: 2 of 3" in text
    assert "contradicts what the text says: 1 of 3" in text
    assert "does not say which label is right: 1 of 3" in text
    assert "among texts that do say: 1 of 2" in text
    assert "1 stand inside a review of the other label (0 of 6 characters or more)" in text


def test_summary_refuses_a_judgement_of_an_unknown_text():
    with pytest.raises(ValueError, match="fingerprint of none of the reviews"):
        summary([Review("甲", 0, "hotel")], {fingerprint("乙"): Judgement("hotel", 0)})


def test_inside_opposite_looks_at_the_other_label_only():
    texts = [("早餐单调", 0), ("位置好，早餐单调", 1), ("位置好", 1), ("不好", 0)]
    reviews = [Review(text, label, "hotel") for text, label in texts]
    assert inside_opposite(reviews) == reviews[:1]


def test_the_card_counts_labels_as_the_corpus_does(reviews):
    kept = Counter(review.label for review in reviews)
    assert f"| kept | {kept[0]:,} | {kept[1]:,} | {len(reviews):,} |" in CARD.read_text("utf-8")
