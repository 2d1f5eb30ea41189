"""How good the inferred domains and the labels are, from a sample that was read and judged.

`python -m fedlab_helpers.tasks.reviews.audit` prints the tables of the data card.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from fedlab_helpers.tasks.reviews.corpus import Review, load_reviews
from fedlab_helpers.tasks.reviews.labels import BUILT_IN

DOMAINS = ("hotel", "book", "laptop", "other")
JUDGEMENTS = Path(__file__).resolve().parents[3] / "data" / "domain_audit.csv"
SAMPLE_SIZE, SAMPLE_SEED = 300, 2012
ITEM = re.compile(r"\d{1,2}\s*[、.．)）](?!\d)")  # not 15.4 inches
MOBILE = re.compile(r"(?<!\d)1[3-9]\d{9}(?!\d)")


class Judgement(NamedTuple):
    """What one reading of a review, without its label and its inferred domain, found in it."""

    domain: str
    label: int | None  # None: the text alone does not say


@dataclass(frozen=True)
class Share:
    """A share with its 95% confidence interval, all between 0 and 1."""

    count: int
    total: int
    low: float
    high: float

    def __str__(self) -> str:
        return (
            f"{self.count} of {self.total}: {self.count / self.total:.1%} "
            f"(95% interval {self.low:.1%} to {self.high:.1%})"
        )


def wilson(count: int, total: int) -> Share:
    """Return count / total with the 95% interval of Wilson (1927, JASA 22, 209-212)."""
    return Share(count, total, *binomtest(count, total).proportion_ci(method="wilson"))


def fingerprint(text: str) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of the text in UTF-8."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def draw_sample(reviews: Sequence[Review]) -> list[Review]:
    """Return the simple random sample of the cleaned reviews that was read."""
    rng = np.random.default_rng(SAMPLE_SEED)
    return [reviews[i] for i in rng.choice(len(reviews), SAMPLE_SIZE, replace=False)]


def read_judgements(path: Path = JUDGEMENTS) -> dict[str, Judgement]:
    """Return the judgements by the fingerprint of the text they are about."""
    table = pd.read_csv(path, dtype=str)
    labels = [None if label == "unclear" else int(label) for label in table["label"]]
    return dict(zip(table["text_sha256"], map(Judgement, table["domain"], labels), strict=True))


def inside_opposite(reviews: Sequence[Review]) -> list[Review]:
    """Return the reviews whose whole text stands inside a review of the other label.

    reviews: of two labels, 0 and 1, no text twice.
    """
    joined = ["\n".join(r.text for r in reviews if r.label == label) for label in (0, 1)]
    return [review for review in reviews if review.text in joined[1 - review.label]]


def summary(reviews: Sequence[Review], judgements: dict[str, Judgement]) -> str:
    """Return the measured part of the data card, in Markdown.

    reviews: the cleaned built-in corpus. judgements: by `fingerprint` of the text.
    Raises ValueError where a judged text is not among the reviews.
    """
    by_print = {fingerprint(review.text): review for review in reviews}
    if missing := sorted(judgements.keys() - by_print.keys()):
        raise ValueError(f"judgements: {missing[0]} is the fingerprint of none of the reviews")
    pairs = [(by_print[key], judgement) for key, judgement in judgements.items()]
    corpus = [(review.domain, BUILT_IN[review.label]) for review in reviews]
    confusion = [(judged.domain, review.domain) for review, judged in pairs]
    return f"""Cleaned reviews by inferred domain and label:

{_table("domain", corpus, BUILT_IN)}

The sample, judged domain (rows) against inferred domain (columns):

{_table("judged", confusion, DOMAINS)}

{_agreement(pairs)}

Among all cleaned reviews:

{_flaws(reviews)}"""


def _agreement(pairs: Sequence[tuple[Review, Judgement]]) -> str:
    total = len(pairs)
    told = [(review.label, judged.label) for review, judged in pairs if judged.label is not None]
    domain = sum(review.domain == judged.domain for review, judged in pairs)
    against = sum(given != read for given, read in told)
    return f"""- Inferred domain agrees with the judged one: {wilson(domain, total)}.
- Label contradicts what the text says: {wilson(against, total)}.
- Text does not say which label is right: {wilson(total - len(told), total)}.
- Label contradicts the text, among texts that do say: {wilson(against, len(told))}."""


def _flaws(reviews: Sequence[Review]) -> str:
    texts = [review.text for review in reviews]
    inside = inside_opposite(reviews)
    bare = {re.sub(r"[\W_]", "", text) for text in texts}
    longer = sum(len(review.text) >= 6 for review in inside)
    counts = {
        "begin with an item number, such as 2、": sum(bool(ITEM.match(text)) for text in texts),
        "begin with 宾馆反馈 (a hotel's reply)": sum(t.startswith("宾馆反馈") for t in texts),
        "begin with 补充点评 (a later addition)": sum(t.startswith("补充点评") for t in texts),
        "hold fewer than 10 characters": sum(len(text) < 10 for text in texts),
        "repeat another one but for punctuation, blanks and signs": len(texts) - len(bare),
        f"stand inside a review of the other label ({longer} of 6 characters or more)": len(inside),
        "hold a mobile phone number": sum(bool(MOBILE.search(text)) for text in texts),
    }
    return "\n".join(f"- {count:,} {what}." for what, count in counts.items())


def _table(corner: str, pairs: Sequence[tuple[str, str]], columns: Sequence[str]) -> str:
    """Return how often each (domain, column) occurs, with totals, in Markdown."""
    counts = pd.crosstab(*zip(*pairs, strict=True)).reindex(
        index=DOMAINS, columns=columns, fill_value=0
    )
    counts["all"] = counts.sum(axis=1)
    counts.loc["all"] = counts.sum()
    lines = [[corner, *counts], ["---", *("---:" for _ in counts)]]
    lines += [[name, *(f"{count:,}" for count in row)] for name, *row in counts.itertuples()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    print(summary(load_reviews(), read_judgements()))
