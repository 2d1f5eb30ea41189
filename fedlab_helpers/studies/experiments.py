"""Run a study and keep its table: `python -m fedlab_helpers.studies.experiments baselines`.

Every finished run is written at once. Interrupt it when you like: the same command goes on with
the runs that are missing, and repeats none.
"""

import argparse
import csv
import os
import platform
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

from fedlab_helpers.studies import STUDIES, Row, Settings, Study

RESULTS = Path(__file__).resolve().parents[2] / "data" / "results"


def run_study(study: Study, folder: Path = RESULTS, jobs: int = 1) -> Path:
    """Measure the runs of a study that its table does not hold yet; return the table's path.

    Args:
        study: what to measure.
        folder: where `<study>.csv` is, or will be.
        jobs: runs that are measured side by side, each in a process of its own if there are more
            than one.

    Raises:
        ValueError: the table there has other columns than this study writes.
    """
    path = folder / f"{study.name}.csv"
    rows = read(path)
    done = {_key(row, study) for row in rows}
    missing = [settings for settings in study.runs if _key(settings, study) not in done]
    place = {_key(settings, study): i for i, settings in enumerate(study.runs)}
    measured = _measured(study, missing, jobs)
    for settings, new in tqdm(
        measured, desc=study.name, unit="run", file=sys.stdout, total=len(missing)
    ):
        rows += [{"study": study.name, **settings, **row, **versions()} for row in new]
        # Side by side, runs finish in any order; the table is in the order of the study.
        rows.sort(key=lambda row: place.get(_key(row, study), -1))
        write(path, rows)
    return path


def _measured(
    study: Study, missing: Sequence[Settings], jobs: int
) -> Iterator[tuple[Settings, list[Row]]]:
    """Yield the settings and the rows of each run, as runs finish."""
    if jobs == 1:
        for settings in missing:
            yield settings, list(study.measure(settings))
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        runs = {pool.submit(study.measure, settings): settings for settings in missing}
        try:
            for run in as_completed(runs):
                yield runs[run], list(run.result())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


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
    parser = argparse.ArgumentParser(prog="python -m fedlab_helpers studies")
    parser.add_argument("study", choices=sorted(STUDIES), nargs="+")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="where the tables are")
    parser.add_argument("--jobs", type=int, default=1, help="runs measured side by side")
    chosen = parser.parse_args(arguments)
    try:
        for name in chosen.study:
            print(run_study(STUDIES[name], chosen.folder, chosen.jobs))
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on from the runs that are finished.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
