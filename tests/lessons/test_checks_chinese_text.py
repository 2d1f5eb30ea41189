"""The checks of notebook 02: right answers pass, typical wrong ones get a hint that fits."""

import re
import unicodedata
from collections import Counter

import numpy as np
import torch
from verdicts import refused

from fedlab_helpers.lessons.checks import chinese_text as checks
from fedlab_helpers.tasks.reviews.words import Vocabulary


def test_padded_ids():
    assert checks.padded_ids([6, 1, 1, 3, 0, 0]).passed
    for form in (torch.tensor, np.array, tuple, lambda ids: [np.int32(i) for i in ids]):
        assert checks.padded_ids(form([6, 1, 1, 3, 0, 0])).passed
    for answer, hint in {
        (6, 1, 1, 3): "4 ids; pad to 6",
        (6, 1, 1, 3, 0, 0, 0): "7 ids",
        (0, 0, 6, 1, 1, 3): "on the left",
        (6, 1, 1, 3, 1, 1): "no word at all",
        (6, 0, 0, 3, 0, 0): "no word. 不",
        (6, 4, 1, 3, 0, 0): "不 is not among",
        (6, 1, 7, 3, 0, 0): "干净 occurs once",
        (5, 1, 1, 2, 0, 0): "look up 房间",
        ("房间", "不", "干净", "。", "", ""): "'房间' is no id",
    }.items():
        refused(checks.padded_ids(answer), hint)


def inside(outputs, lengths):
    return (torch.arange(outputs.shape[1]) < lengths[:, None]).unsqueeze(-1)


def by_product(outputs, lengths):
    return (outputs * inside(outputs, lengths)).sum(1) / lengths[:, None]


def by_fill(outputs, lengths):
    kept = outputs.masked_fill(~inside(outputs, lengths), 0)
    return kept.sum(1) / lengths[:, None]


def by_loop(outputs, lengths):
    return torch.stack([row[:n].mean(0) for row, n in zip(outputs, lengths, strict=True)])


def by_numpy(outputs, lengths):
    return np.stack([row[:n].mean(0) for row, n in zip(outputs.numpy(), lengths, strict=True)])


def test_masked_mean_passes_each_way_to_write_it_and_knows_the_stub():
    wide = lambda outputs, lengths: by_fill(outputs.double(), lengths)  # noqa: E731
    rows = lambda outputs, lengths: list(by_loop(outputs, lengths))  # noqa: E731
    lists = lambda outputs, lengths: by_numpy(outputs, lengths).tolist()  # noqa: E731
    for function in (by_product, by_fill, by_loop, by_numpy, wide, rows, lists):
        assert checks.masked_mean(function).passed
    refused(checks.masked_mean(lambda o, n: by_numpy(o, n) * 2), "which of them are words")
    refused(checks.masked_mean(lambda o, n: o.double().mean(1)), "padding is in this mean")
    refused(checks.masked_mean(lambda o, n: "mean"), "got str")
    assert "0 times NaN" in checks.masked_mean(by_product).message
    assert "even NaN" in checks.masked_mean(by_fill).message
    assert not checks.masked_mean(lambda outputs, lengths: None).started
    wrong = {
        "the padding is in this mean": lambda o, n: o.mean(1),
        "this is the sum": lambda o, n: (o * inside(o, n)).sum(1),
        "number of columns": lambda o, n: (o * inside(o, n)).mean(1),
        "at the last word": lambda o, n: o[torch.arange(len(n)), n - 1],
        "still in the sum": lambda o, n: o.sum(1) / n[:, None],
        "which of them are words": lambda o, n: by_product(o, n - 1),
        "review of length 1 gives": lambda o, n: by_loop(o, (n + 1).clamp(max=4)),
        "shape (3, 2)": lambda o, n: by_product(o, n).mean(0),
        "RuntimeError": lambda o, n: (o * inside(o, n)).sum(1) / n,
    }
    for hint, function in wrong.items():
        refused(checks.masked_mean(function), hint)


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
    longer = [Counter({w: n for w, n in client.items() if n > 2}) for client in COUNTS]
    wrong = {
        "nothing was withheld": Vocabulary.from_counts(COUNTS),
        "used twice, too": Vocabulary.from_counts(longer),
        "count of 1": Vocabulary.from_counts([Counter(client.keys()) for client in SENT]),
        "one too low": Vocabulary.from_counts([c - Counter(c.keys()) for c in COUNTS]),
        "another min_count": Vocabulary.from_counts(SENT, min_count=1),
        "3 words, expected 9": Vocabulary(["键盘"]),
        "expected a Vocabulary, got a list": SENT,
    }
    for hint, vocab in wrong.items():
        refused(checks.withheld(vocab, COUNTS), hint)


RIGHT = [False, True, False, True, False]


def test_leaks():
    assert checks.leaks(RIGHT).passed
    assert not checks.leaks([None] * 5).started
    assert not checks.leaks([*RIGHT[:4], None]).started
    thoughts = "on one side only", "whose texts", "choose by", "no longer a test", "were counted"
    for number, thought in enumerate(thoughts):
        turned = [verdict != (place == number) for place, verdict in enumerate(RIGHT)]
        refused(checks.leaks(turned), f"number {number + 1}", thought)
    refused(checks.leaks(RIGHT[:4]), "4 verdicts")
    refused(checks.leaks(["no", *RIGHT[1:]]), "write True or False")
    assert checks.leaks(np.array(RIGHT)).passed


def mended(text):
    text = unicodedata.normalize("NFKC", text).replace("。", ".")
    return re.sub(r"\d{7,}", "#", "".join(text.split()).rstrip("."))


def test_a_normaliser_is_judged_by_its_properties():
    named = lambda text: mended(text).replace("#", "号码")  # noqa: E731  # "number"
    lower = lambda text: mended(text).lower()  # noqa: E731
    for function in (mended, lower, named, lambda text: mended(text).replace("!", "")):
        assert checks.normaliser(function).passed
    assert not checks.normaliser(lambda text: ...).started
    bare = lambda text: re.sub(r"[^\w#]", "", mended(text))  # noqa: E731
    narrow = lambda text: unicodedata.normalize("NFKC", text)  # noqa: E731
    wrong = {
        "run of digits": lambda text: "".join(narrow(text).split()).rstrip("."),
        "13800000000": lambda text: re.sub(r"\d{7,}", "#", text.replace(" ", "")) + "13800000000",
        "smiley": bare,
        "不 is a word": lambda text: mended(text).replace("不", ""),
        "short numbers": lambda text: re.sub(r"\d+", "#", mended(text)),
        "letters are words": lambda text: re.sub(r"[A-Za-z]", "", mended(text)),
        "twice changes": lambda text: mended(text) + "!",
        "full-width letters": lambda t: re.sub(r"\d{7,}", "#", t.replace(" ", "").strip("。.")),
        "a blank:": lambda text: re.sub(r"[\d ]{7,}", "#", narrow(text).replace("。", ".")),
        "return a text": lambda text: mended(text).encode(),
        "Chinese character was lost": lambda text: mended(text)[:3],
        "full stop at the end": lambda text: mended(text).replace(".", ""),
        "five digits": lambda text: re.sub(r"\d{5,}", "#", mended(text)),
        "no statement": lambda text: mended(text).rstrip("!?"),
    }
    for hint, function in wrong.items():
        hint = "Chinese character" if hint == "不 is a word" else hint
        refused(checks.normaliser(function), hint)
