"""Run a study and keep its table: `python -m fedlab_helpers.studies baselines`.

Every finished run is written at once. Interrupt it when you like: the same command goes on with
the runs that are missing, and repeats none. `search` looks for designs instead: `search.py`.
"""

import argparse
import itertools
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from fedlab_helpers.core.require import require_count
from fedlab_helpers.studies import STUDIES, load
from fedlab_helpers.studies.results import RESULTS, Row, read_own, versions, write

if TYPE_CHECKING:  # nobody waits for torch to be told what there is
    from fedlab_helpers.studies.study import Settings, Study


class NotKeptError(ValueError):
    """What a run measured is in another file than its table."""


Keep = Callable[[dict[str, Any], list[Row]], None]


def run_study(study: "Study", folder: Path = RESULTS, jobs: int = 1) -> Path:
    """Measure the runs of a study that its table does not hold yet; return the table's path.

    Args:
        study: what to measure.
        folder: where `<study>.csv` is, or will be.
        jobs: runs that are measured side by side, each in a process of its own if there are more
            than one. Interrupted, these end at once.

    Raises:
        ValueError: the file there holds something else, or has other columns than this study
            writes.
        NotKeptError: what was measured could not be written there; it is in a file beside it.
    """
    path = folder / f"{study.name}.csv"
    others = (path.with_stem(f"{path.stem}_{number}") for number in itertools.count(2))
    beside = next(other for other in others if not other.exists())
    done = {study.key(row) for row in _rows(study, path)}
    missing = [settings for settings in study.runs if study.key(settings) not in done]

    def keep(settings: "Settings", rows: list[Row]) -> None:
        try:
            try:
                _add(study, path, settings, rows)
            except KeyboardInterrupt:
                _add(study, path, settings, rows)  # the run has finished
                raise
        except (ValueError, OSError) as error:
            _add(study, beside, settings, rows)
            raise NotKeptError(f"{error}\nWhat was measured is in {beside}") from error
        bar.update()

    with tqdm(total=len(missing), desc=study.name, unit="run", file=sys.stdout) as bar:
        if jobs > 1 and missing:
            _side_by_side(study, missing, jobs, keep)
        else:
            for settings in missing:
                keep(settings, study.rows(settings))
    return path


def _rows(study: "Study", path: Path) -> list[Row]:
    """Return the rows of a table that a study can go on with; else raise ValueError: each is of one
    of its runs and there once, and at the end stand the columns of the versions."""
    rows, runs = _written(study, path), {study.key(run) for run in study.runs}
    anew = "move the table away to begin a new one"
    if rows and list(rows[0])[-len(versions()) :] != [*versions()]:
        raise ValueError(f"{path}: columns {[*rows[0]]}, expected {[*versions()]} last; {anew}")
    seen: set[tuple[str, ...]] = set()
    for number, row in enumerate(rows, start=1):
        told = f"{path}: row {number}, of {', '.join(study.key(row))}: "
        if study.key(row) not in runs:
            raise ValueError(f"{told}no run of {study.name!r} has these settings; {anew}")
        if tuple(row.values()) in seen:
            raise ValueError(f"{told}it is there twice; take one of the two out")
        seen.add(tuple(row.values()))
    return rows


def _written(study: "Study", path: Path) -> list[Row]:
    return read_own(path, study.name, list(study.runs[0]))


def _add(study: "Study", path: Path, settings: "Settings", rows: list[Row]) -> None:
    """Write what a run measured to the table as it is by now, in the order of the study: side by
    side, runs finish in any order."""
    place = {study.key(run): number for number, run in enumerate(study.runs)}
    others = [row for row in _written(study, path) if study.key(row) != study.key(settings)]
    new = [{"study": study.name, **settings, **row, **versions()} for row in rows]
    table = sorted(others + new, key=lambda row: place.get(study.key(row), -1))
    if table:  # else the only runs so far had broken down before their first row
        write(path, table)


def _side_by_side(study: "Study", missing: "Sequence[Settings]", jobs: int, keep: Keep) -> None:
    """Hand each run to `keep` as it finishes. On Ctrl-C, too, what has finished is kept; what has
    not is ended."""
    others = set(active_children())
    context, ignore = get_context("spawn"), (signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(jobs, context, signal.signal, ignore) as pool:
        runs = {pool.submit(study.rows, settings): settings for settings in missing}
        try:
            for run in as_completed(runs):
                keep(runs[run], run.result())
                del runs[run]
        except BaseException:
            for worker in set(active_children()) - others:
                worker.kill()
            pool.shutdown(cancel_futures=True)
            for run, settings in runs.items():
                if not (run.cancelled() or run.exception()):
                    with suppress(ValueError, OSError):  # the others, too
                        keep(settings, run.result())
            raise


def main(arguments: Iterable[str] | None = None) -> int:
    """Run the studies named on the command line; return the exit status."""
    arguments = sys.argv[1:] if arguments is None else [*arguments]
    if arguments[:1] == ["search"]:
        from fedlab_helpers.studies import search

        return search.main(arguments[1:])
    parser = argparse.ArgumentParser(prog="python -m fedlab_helpers.studies")
    parser.add_argument("study", choices=sorted(STUDIES), nargs="+")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="where the tables are")
    parser.add_argument("--jobs", type=int, default=1, help="runs measured side by side")
    chosen = parser.parse_args(arguments)
    studies = [load(name) for name in chosen.study]
    try:
        require_count(jobs=chosen.jobs)
        chosen.folder.mkdir(parents=True, exist_ok=True)
        for study in studies:  # all of them, before hours go into the first
            _rows(study, chosen.folder / f"{study.name}.csv")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    # A plain `kill` ends as Ctrl-C does: what was started side by side must not outlive it.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for study in studies:
            print(run_study(study, chosen.folder, chosen.jobs))
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on from the runs that are finished.")
        return 130
    except (NotKeptError, OSError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
