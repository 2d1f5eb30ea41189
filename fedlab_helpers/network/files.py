"""What each node owns, as files."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from fedlab_helpers.tasks.reviews.corpus import Review


def write_reviews(
    folder: Path, owned: Iterable[Sequence[Review]], classes: Sequence[str] | None = None
) -> list[Path]:
    """Write the reviews of each node to a CSV file, columns "text" and "label".

    Args:
        folder: made if it is not there.
        owned: the reviews of each node.
        classes: what they are called, by number, as in the job; None: their numbers are written.

    Returns:
        The files: reviews0.csv, reviews1.csv, …
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for client, reviews in enumerate(owned):
        files.append(folder / f"reviews{client}.csv")
        with files[-1].open("w", encoding="utf-8", errors="ignore", newline="") as file:
            rows = (
                (review.text, review.label if classes is None else classes[review.label])
                for review in reviews
            )
            csv.writer(file).writerows([("text", "label"), *rows])
    return files
