"""The measured tables of the series, as files: read, and replaced at once."""

import csv
import os
import platform
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import stdev
from typing import Any

Row = dict[str, Any]
RESULTS = Path(__file__).resolve().parents[2] / "data" / "results"


def read(path: Path) -> list[Row]:
    """Return the rows of a table, values as text; none where there is no such file."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_own(path: Path, study: str, settings: Sequence[str]) -> list[Row]:
    """Return the rows that a study has written to its table, each with these settings.

    Raises:
        ValueError: the file holds something else, which must not be written over.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            rows, columns = list(table), table.fieldnames
    except FileNotFoundError:
        return []
    except (UnicodeDecodeError, csv.Error):
        rows, columns = [], ["no table"]
    ours = columns is None or columns[: len(settings) + 1] == ["study", *settings]
    whole = all(r.get("study") == study and None not in (*r, *r.values()) for r in rows)
    if not (ours and whole):
        raise ValueError(
            f"{path}: got a file with something else than rows of the study {study!r}; move it "
            "away, or choose another folder"
        )
    return rows


def write(path: Path, rows: Sequence[Row]) -> None:
    """Replace a table at once, so that whoever is interrupted leaves the rows that it had.

    Raises:
        ValueError: the rows differ in their columns.
    """
    columns = list(rows[0])
    if odd := next((row for row in rows if list(row) != columns), None):
        raise ValueError(
            f"{path}: columns {columns} in the table, {list(odd)} in a new row; move the table "
            "away to begin a new one"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
        new = Path(folder) / path.name
        with new.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(new, path)


def half_width(values: Sequence[float]) -> float:
    """Return half of the 95% interval of a mean over seeds, by Student's t: what ± is. A spread of
    three seeds is thus drawn wide, as it should be: its own size is hardly known."""
    from scipy.stats import t  # nobody who reads a table waits for it

    count = len(values)
    return float(t.ppf(0.975, count - 1) * stdev(map(float, values)) / count**0.5)


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    packages = {name.replace("-", "_"): version(name) for name in ("torch", "fedlab-helpers")}
    return {"python": platform.python_version(), **packages, "machine": platform.machine()}
