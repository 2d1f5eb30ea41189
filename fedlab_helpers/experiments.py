"""Run a study and keep its table: `python -m fedlab_helpers.experiments baselines`.

Every finished run is written at once. Interrupt it when you like: the same command goes on with
the runs that are missing, and repeats none.
"""

import argparse
import csv
import os
import platform
import sys
import tempfile
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

from tqdm import tqdm

from fedlab_helpers.studies import STUDIES, Row, Settings, Study

RESULTS = Path(__file__).resolve().parents[1] / "data" / "results"


def run_study(study: Study, folder: Path = RESULTS) -> Path:
    """Measure the runs of a study that its table does not hold yet; return the table's path.

    Args:
        study: what to measure.
        folder: where `<study>.csv` is, or will be.

    Raises:
        ValueError: the table there has other columns than this study writes.
    """
    path = folder / f"{study.name}.csv"
    rows = read(path)
    done = {_key(row, study) for row in rows}
    missing = [settings for settings in study.runs if _key(settings, study) not in done]
    for settings in tqdm(missing, desc=study.name, unit="run", file=sys.stdout):
        measured = study.measure(settings)
        rows += [{"study": study.name, **settings, **row, **versions()} for row in measured]
        write(path, rows)
    return path


def read(path: Path) -> list[Row]:
    """Return the rows of a table, values as text; none where there is no such file."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: Sequence[Row]) -> None:
    """Replace a table at once, so that an interrupted run leaves the rows it had.

    Raises:
        ValueError: the rows differ in their columns.
    """
    columns = list(rows[0])
    if odd := next((row for row in rows if list(row) != columns), None):
        raise ValueError(
            f"{path}: columns {columns} in the table, {list(odd)} in a new row; move "
            "the table away to begin a new one"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, newline="", encoding="utf-8", suffix=".tmp", delete=False
    ) as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    packages = {name.replace("-", "_"): version(name) for name in ("torch", "fedlab-helpers")}
    return {"python": platform.python_version(), **packages, "machine": platform.machine()}


def _key(row: Settings, study: Study) -> tuple[str, ...]:
    values = (row.get(name) for name in study.runs[0])
    return tuple("" if value is None else str(value) for value in values)  # as csv writes them


def main(arguments: Iterable[str] | None = None) -> int:
    """Run the studies named on the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m fedlab_helpers.experiments")
    parser.add_argument("study", choices=sorted(STUDIES), nargs="+")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="where the tables are")
    chosen = parser.parse_args(arguments)
    try:
        for name in chosen.study:
            print(run_study(STUDIES[name], chosen.folder))
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on from the runs that are finished.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
