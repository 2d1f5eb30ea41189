"""How good the inferred domains and the labels are, from a sample that was read and judged.

`python -m fedlab_helpers.tasks.reviews.audit` prints the tables of the data card.
"""

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np

from fedlab_helpers.tasks.reviews.corpus import Review, load_reviews

DOMAINS = ("hotel", "book", "laptop", "other")
JUDGEMENTS = Path(__file__).resolve().parents[3] / "data" / "domain_audit.csv"
SAMPLE_SIZE, SAMPLE_SEED = 300, 2012
ITEM = re.compile(r"\d{1,2}\s*[、.．)）](?!\d)")  # not 15.4 inches
MOBILE = re.compile(r"(?<!\d)1[3-9]\d{9}(?!\d)")


@dataclass(frozen=True)
class Judgement:
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
    if not 0 <= count <= total or total == 0:
        raise ValueError(f"count={count}, total={total}: expected 0 <= count <= total, total > 0")
    z = 1.959964  # the 97.5% point of the normal distribution
    share = count / total
    middle = share + z**2 / (2 * total)
    half = z * sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    scale = 1 + z**2 / total
    return Share(count, total, max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale))


def fingerprint(text: str) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of the text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def draw_sample(reviews: Sequence[Review]) -> list[Review]:
    """Return the simple random sample of the cleaned reviews that was read."""
    rng = np.random.default_rng(SAMPLE_SEED)
    return [reviews[i] for i in rng.choice(len(reviews), SAMPLE_SIZE, replace=False)]


def read_judgements(path: Path = JUDGEMENTS) -> dict[str, Judgement]:
    """Return the judgements by the fingerprint of the text they are about."""
    with path.open(encoding="utf-8", newline="") as lines:
        return {
            row["text_sha256"]: Judgement(
                row["domain"], None if row["label"] == "unclear" else int(row["label"])
            )
            for row in csv.DictReader(lines)
        }


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
    missing = sorted(judgements.keys() - by_print.keys())
    if missing:
        raise ValueError(f"judgements: {missing[0]} is the fingerprint of none of the reviews")
    pairs = [(by_print[key], judgement) for key, judgement in judgements.items()]
    corpus = Counter((review.domain, ("negative", "positive")[review.label]) for review in reviews)
    confusion = Counter((judged.domain, review.domain) for review, judged in pairs)
    return "\n\n".join(
        (
            "Cleaned reviews by inferred domain and label:",
            _table("domain", DOMAINS, ("negative", "positive"), corpus),
            "The sample, judged domain (rows) against inferred domain (columns):",
            _table("judged", DOMAINS, DOMAINS, confusion),
            _agreement(pairs),
            "Among all cleaned reviews:",
            _flaws(reviews),
        )
    )


def _agreement(pairs: Sequence[tuple[Review, Judgement]]) -> str:
    total = len(pairs)
    told = [(review.label, judged.label) for review, judged in pairs if judged.label is not None]
    domain = sum(review.domain == judged.domain for review, judged in pairs)
    against = sum(given != read for given, read in told)
    return "\n".join(
        (
            f"- Inferred domain agrees with the judged one: {wilson(domain, total)}.",
            f"- Label contradicts what the text says: {wilson(against, total)}.",
            f"- Text does not say which label is right: {wilson(total - len(told), total)}.",
            f"- Label contradicts the text, among texts that do say: {wilson(against, len(told))}.",
        )
    )


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


def _table(
    corner: str,
    rows: Sequence[str],
    columns: Sequence[str],
    counts: Counter[tuple[str, str]],
) -> str:
    lines = [[corner, *columns, "all"], ["---"] + ["---:"] * (len(columns) + 1)]
    for row in rows:
        cells = [counts[row, column] for column in columns]
        lines.append([row, *(f"{cell:,}" for cell in (*cells, sum(cells)))])
    totals = [sum(counts[row, column] for row in rows) for column in columns]
    lines.append(["all", *(f"{cell:,}" for cell in (*totals, sum(totals)))])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    print(summary(load_reviews(), read_judgements()))
