"""One workload on several engines, side by side: python tests/benchmarks/engines/compare.py

- here: this package, clients in two threads of one process;
- here_dense: the same with whole updates, which trains the whole table of words as others do;
- flower_nodes: Flower's simulation engine with this package's apps, those of notebook 14;
- flower_own: Flower's simulation engine as its tutorials write it, with its own FedAvg;
- pfl_own: Apple's pfl on two processes.

Model, clients, batches, optimiser and rounds are the same; so are the cohorts, but for flower_own,
which draws its own. First comes a check: one round of all of four clients must end in the same
weights everywhere. Then the engines take turns, in an order that rotates, on the same two cores.
Starting, loading, and the first two rounds of each run are left out. Memory is measured in a run of
its own: the peak, loading included, of the sum of the proportional set sizes of an engine's
processes (Linux only); the script that starts Flower does not count, for it is ours.

It needs pfl, which needs a Python below 3.13:

    pip install -e ".[simulation]" "pfl[pytorch]==0.6.0"

Nothing else should be running. The table goes to data/results/engines.csv, run by run: the same
command goes on where it was interrupted. `--engines here_dense pfl_own` takes these alone, into
another `--folder`.

Some engines alone go to another folder; data/results/engines_again.csv was made so.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import psutil
from workload import CASES, WORKERS

from fedlab_helpers.core import wire
from fedlab_helpers.network.processes import end_marked, marked
from fedlab_helpers.studies import results

HERE = Path(__file__).resolve().parent
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={WORKERS}")
ENGINES = {  # with what Python starts them
    "here": (),
    "here_dense": (),
    "flower_nodes": (),
    "flower_own": (),
    "pfl_own": TORCHRUN,
}
LAUNCHED = ("flower_nodes", "flower_own")  # by a script of ours that waits while Flower works
WARMUP = 2  # rounds
TOLERANCE = 1e-5  # of weights after one round: sums are taken in another order
MARK = "FEDLAB_ENGINE"
MIB = 2**20
KEY = ("clients", "engine", "repeat")


def resident(token: str, without: int | None) -> float:
    """Return the MiB of all processes of an engine but one, what they share counted once."""
    total = 0
    for process in marked(token, MARK):
        try:
            total += process.memory_full_info().pss if process.pid != without else 0
        except psutil.Error:
            continue
    return total / MIB


def run_engine(engine: str, case: str, rounds: int, folder: Path, weigh: bool = False) -> dict:
    """Run an engine in processes of its own; return what it reports, and its peak if asked for."""
    token, out = uuid.uuid4().hex, folder / f"{engine}.json"
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    own = {MARK: token, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *ENGINES[engine], str(HERE / f"{engine}.py"), case, str(rounds)]
    peak = 0.0
    with (folder / f"{engine}.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, str(out)], env=os.environ | own, stdout=log, stderr=log
        )
        without = process.pid if engine in LAUNCHED else None
        try:
            while weigh and process.poll() is None:
                peak = max(peak, resident(token, without))
            process.wait()
        finally:
            end_marked(token, MARK)
    if process.returncode or not out.exists():
        raise RuntimeError(f"{engine}: {(folder / f'{engine}.log').read_text()[-3000:]}")
    return json.loads(out.read_text()) | {"peak_mib": round(peak, 1) if weigh else ""}


def difference(one: Path, other: Path) -> float:
    """Return the largest difference between two models' weights."""
    a, b = (wire.dense().decode(path.read_bytes()) for path in (one, other))
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def check(engines: list[str]) -> None:
    """Require that the engines do the same work.

    Raises:
        RuntimeError: one ends in other weights.
    """
    with tempfile.TemporaryDirectory() as name:
        for engine in dict.fromkeys(("here", *engines)):
            run_engine(engine, "check", 1, Path(name))
            off = difference(*(Path(name) / f"{each}.weights" for each in ("here", engine)))
            print(f"check: {engine} differs by {off:.1e}", flush=True)
            if off > TOLERANCE:
                raise RuntimeError(f"{engine}: weights differ by {off:.1e} after one round")


def row(case: str, engine: str, repeat: str, rounds: int) -> dict:
    """Measure one run."""
    with tempfile.TemporaryDirectory() as name:
        found = run_engine(engine, case, rounds, Path(name), weigh=repeat == "memory")
    seconds = found["seconds"][WARMUP:]
    timed = repeat != "memory"
    return {
        **dict(zip(KEY, (CASES[case][0], engine, repeat), strict=True)),
        "clients_per_round": CASES[case][1],
        "rounds": rounds,
        "seconds_a_round": round(statistics.median(seconds), 4) if timed else "",
        "mean_seconds": round(statistics.mean(seconds), 4) if timed else "",
        "peak_mib": found["peak_mib"],
        "accuracy": round(found["accuracy"], 4),
        **{name: version(name) for name in ("flwr", "ray", "pfl")},
        "cores": len(psutil.Process().cpu_affinity()),
        **results.versions(),
    }


def schedule(names: list[str], repeats: int) -> Iterator[tuple[str, str, str]]:
    """Yield case, engine and repeat of each run, engines in rotating order."""
    for case in ("20", "500"):
        for number in range(repeats):
            for place in range(len(names)):
                yield case, names[(place + number) % len(names)], str(number)
        yield from ((case, engine, "memory") for engine in names)


def summary(rows: list[dict], engines: list[str]) -> None:
    """Print medians over the runs, and from where to where they reach."""
    for case, engine in itertools.product(("20", "500"), engines):
        mine = [r for r in rows if (r["engine"], str(r["clients"])) == (engine, case)]
        seconds = sorted(float(r["seconds_a_round"]) for r in mine if r["seconds_a_round"] != "")
        (peak,) = (float(r["peak_mib"]) for r in mine if r["peak_mib"] != "")
        middle, least, most = statistics.median(seconds), seconds[0], seconds[-1]
        times = f"{middle:.2f} s a round ({least:.2f} to {most:.2f})"
        print(f"{case} clients, {engine}: {times}, {peak:,.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10, help="of each run")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each engine")
    parser.add_argument("--folder", type=Path, default=results.RESULTS)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    chosen = parser.parse_args()
    if set(chosen.engines) != set(ENGINES) and chosen.folder == results.RESULTS:
        parser.error("--engines: the published table holds all of them; give another --folder")
    ours = psutil.Process()
    ours.cpu_affinity(ours.cpu_affinity()[:WORKERS])  # inherited by all that is started
    path = chosen.folder / "engines.csv"
    rows = results.read(path)
    done = {tuple(str(row[name]) for name in KEY) for row in rows}
    if not rows:
        check(chosen.engines)
    place = {run: number for number, run in enumerate(schedule(chosen.engines, chosen.repeats))}
    for run in place:
        if run not in done:
            rows.append(row(*run, chosen.rounds))
            rows.sort(key=lambda r: place.get(tuple(str(r[name]) for name in KEY), len(place)))
            results.write(path, rows)
            print({name: rows[-1][name] for name in list(rows[-1])[:9]}, flush=True)
    summary(rows, chosen.engines)


if __name__ == "__main__":
    main()
