"""The checks of notebook 02: right answers pass, typical wrong ones get a hint that fits."""

from collections import Counter

import pytest
import torch

from fedlab_helpers.lessons.checks import chinese_text as checks
from fedlab_helpers.tasks.reviews.words import Vocabulary


def assert_hint(verdict, hint):
    assert verdict.started
    assert not verdict.passed
    assert hint in verdict.message


def test_padded_ids():
    assert checks.padded_ids([6, 1, 1, 3, 0, 0]).passed
    assert checks.padded_ids(torch.tensor([6, 1, 1, 3, 0, 0])).passed
    assert not checks.padded_ids(None).started


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ([6, 1, 1, 3], "4 ids; pad to 6"),
        ([6, 1, 1, 3, 0, 0, 0], "7 ids"),
        ([0, 0, 6, 1, 1, 3], "on the left"),
        ([6, 1, 1, 3, 1, 1], "no word at all"),
        ([6, 0, 0, 3, 0, 0], "no word. 不"),
        ([6, 4, 1, 3, 0, 0], "不 is not among"),
        ([6, 1, 7, 3, 0, 0], "干净 occurs once"),
        ([5, 1, 1, 2, 0, 0], "look up 房间"),
        (["房间", "不", "干净", "。", "", ""], "ValueError"),
    ],
)
def test_padded_ids_hints(answer, hint):
    assert_hint(checks.padded_ids(answer), hint)


def inside(outputs, lengths):
    return (torch.arange(outputs.shape[1]) < lengths[:, None]).unsqueeze(-1)


def by_product(outputs, lengths):
    return (outputs * inside(outputs, lengths)).sum(1) / lengths[:, None]


def by_fill(outputs, lengths):
    kept = outputs.masked_fill(~inside(outputs, lengths), 0)
    return kept.sum(1) / lengths[:, None]


def by_loop(outputs, lengths):
    return torch.stack([row[:n].mean(0) for row, n in zip(outputs, lengths, strict=True)])


def test_masked_mean_passes_each_way_to_write_it_and_knows_the_stub():
    for function in (by_product, by_fill, by_loop):
        assert checks.masked_mean(function).passed
    assert "0 times NaN" in checks.masked_mean(by_product).message
    assert "even NaN" in checks.masked_mean(by_fill).message
    assert not checks.masked_mean(lambda outputs, lengths: None).started
    assert not checks.masked_mean(None).started


@pytest.mark.parametrize(
    ("function", "hint"),
    [
        (lambda o, n: o.mean(1), "the padding is in this mean"),
        (lambda o, n: (o * inside(o, n)).sum(1), "this is the sum"),
        (lambda o, n: (o * inside(o, n)).mean(1), "number of columns"),
        (lambda o, n: o[torch.arange(len(n)), n - 1], "at the last word"),
        (lambda o, n: o.sum(1) / n[:, None], "still in the sum"),
        (lambda o, n: by_product(o, n - 1), "which of them are words"),
        (lambda o, n: by_loop(o, (n + 1).clamp(max=4)), "review of length 1 gives"),
        (lambda o, n: by_product(o, n).mean(0), "shape (3, 2)"),
        (lambda o, n: (o * inside(o, n)).sum(1) / n, "RuntimeError"),
    ],
)
def test_masked_mean_hints(function, hint):
    assert_hint(checks.masked_mean(function), hint)


COUNTS = [
    Counter({"很": 5, "书": 4, "作者": 3, "版": 2, "抑郁症": 1, "字": 1}),
    Counter({"很": 3, "房间": 9, "作者": 1, "版": 2, "前台": 2, "字": 1}),
    Counter({"很": 2, "键盘": 3, "前台": 1, "电池": 2, "字": 1, "风扇": 3}),
]
SENT = [Counter({w: n for w, n in client.items() if n > 1}) for client in COUNTS]


def test_withheld():
    verdict = checks.withheld(Vocabulary.from_counts(SENT), COUNTS)
    assert verdict.passed
    assert "9 words instead of 11" in verdict.message
    assert "7 words that one client alone names, not 6" in verdict.message
    assert not checks.withheld(None, COUNTS).started


@pytest.mark.parametrize(
    ("vocab", "hint"),
    [
        (Vocabulary.from_counts(COUNTS), "nothing was withheld"),
        (
            Vocabulary.from_counts(
                [Counter({w: n for w, n in client.items() if n > 2}) for client in COUNTS]
            ),
            "used twice, too",
        ),
        (Vocabulary.from_counts([Counter(client.keys()) for client in SENT]), "count of 1"),
        (Vocabulary.from_counts([c - Counter(c.keys()) for c in COUNTS]), "one too low"),
        (Vocabulary.from_counts(SENT, min_count=1), "another min_count"),
        (Vocabulary(["键盘"]), "3 words, expected 9"),
        (SENT, "expected a Vocabulary, got a list"),
    ],
)
def test_withheld_hints(vocab, hint):
    assert_hint(checks.withheld(vocab, COUNTS), hint)


RIGHT = [False, True, False, True, False]


def test_leaks():
    assert checks.leaks(RIGHT).passed
    assert not checks.leaks([None] * 5).started
    assert not checks.leaks([*RIGHT[:4], None]).started


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (0, "on one side only"),
        (1, "whose texts"),
        (2, "choose by"),
        (3, "no longer a test"),
        (4, "were counted"),
    ],
)
def test_leaks_hints(number, hint):
    verdicts = [not v if place == number else v for place, v in enumerate(RIGHT)]
    verdict = checks.leaks(verdicts)
    assert_hint(verdict, hint)
    assert f"number {number + 1}" in verdict.message


def test_leaks_wants_five_booleans():
    assert_hint(checks.leaks(RIGHT[:4]), "4 verdicts")
    assert_hint(checks.leaks(["no", *RIGHT[1:]]), "write True or False")
