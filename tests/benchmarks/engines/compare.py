"""One workload on four engines, side by side: python tests/benchmarks/engines/compare.py

- here: this package, clients in two threads of one process;
- flower_nodes: Flower's simulation engine with this package's apps, those of notebook 12;
- flower_own: Flower's simulation engine as its tutorials write it, with its own FedAvg;
- pfl_own: Apple's pfl on two processes.

Model, clients, batches, optimiser and rounds are the same; so are the cohorts, but for flower_own,
which draws its own. The engines take turns. Starting, loading, and the first two rounds of each run
are left out. Memory is measured in runs of its own: the peak, over all processes of an engine, of
the sum of their proportional set sizes (Linux only).

It needs pfl, which needs a Python below 3.13:

    pip install -e ".[simulation]" "pfl[pytorch]==0.6.0"

Nothing else should be running. The table goes to data/results/engines.csv, repeat by repeat: the
same command goes on where it was interrupted.
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
from importlib.metadata import version
from pathlib import Path

import psutil
from workload import CASES, WORKERS

from fedlab_helpers import experiments, wire
from fedlab_helpers.network.processes import end_all

HERE = Path(__file__).resolve().parent
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={WORKERS}")
ENGINES = {
    "here": (),
    "flower_nodes": (),
    "flower_own": (),
    "pfl_own": TORCHRUN,
}
WARMUP = 2  # rounds
MARK = "FEDLAB_ENGINE"
MIB = 2**20


def marked(token: str) -> list[psutil.Process]:
    """Return an engine's processes: its daemons are not its children."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == token:
                found.append(process)
        except psutil.Error:
            continue
    return found


def resident(token: str) -> float:
    """Return the MiB of all processes of an engine, what they share counted once."""
    total = 0
    for process in marked(token):
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total / MIB


def play(engine: str, case: str, rounds: int, folder: Path, weigh: bool) -> dict:
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
        try:
            while weigh and process.poll() is None:
                peak = max(peak, resident(token))
            process.wait()
        finally:
            end_all(marked(token))
    if process.returncode or not out.exists():
        raise RuntimeError(f"{engine}: {(folder / f'{engine}.log').read_text()[-3000:]}")
    return json.loads(out.read_text()) | {"peak": peak}


def difference(one: Path, other: Path) -> str:
    """Return the largest difference between two models' weights; "" for other cohorts."""
    if other.stem == "flower_own":
        return ""
    a, b = (wire.dense().decode(path.read_bytes()) for path in (one, other))
    return f"{max(float((a[name] - b[name]).abs().max()) for name in a):.1e}"


def measure(case: str, repeat: int, rounds: int, weigh: bool) -> list[dict]:
    """Return a row for each engine."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for engine in ENGINES:
            found = play(engine, case, rounds, folder, weigh)
            seconds = "" if weigh else round(statistics.median(found["seconds"][WARMUP:]), 4)
            own = folder / f"{engine}.weights"
            rows.append(
                {
                    "clients": CASES[case][0],
                    "clients_per_round": CASES[case][1],
                    "engine": engine,
                    "repeat": repeat,
                    "rounds": rounds,
                    "seconds_a_round": seconds,
                    "peak_mib": round(found["peak"], 1) if weigh else "",
                    "accuracy": round(found["accuracy"], 4),
                    "weights_differ_by": difference(folder / "here.weights", own),
                    "flwr": version("flwr"),
                    "ray": version("ray"),
                    "pfl": version("pfl"),
                    **experiments.versions(),
                }
            )
            print({name: rows[-1][name] for name in list(rows[-1])[:9]}, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12, help="of each run")
    parser.add_argument("--repeats", type=int, default=3, help="timed; one more is for memory")
    parser.add_argument("--folder", type=Path, default=experiments.RESULTS)
    chosen = parser.parse_args()
    path = chosen.folder / "engines.csv"
    rows = experiments.read(path)
    done = {(int(row["clients"]), int(row["repeat"])) for row in rows}
    for case, repeat in itertools.product(CASES, range(chosen.repeats + 1)):
        if (CASES[case][0], repeat) not in done:
            rows += measure(case, repeat, chosen.rounds, weigh=repeat == chosen.repeats)
            experiments.write(path, rows)
    for case, engine in itertools.product(CASES, ENGINES):
        mine = [r for r in rows if (r["engine"], int(r["clients"])) == (engine, CASES[case][0])]
        seconds, peak = (
            statistics.median(float(row[name]) for row in mine if row[name])
            for name in ("seconds_a_round", "peak_mib")
        )
        print(f"{case} clients, {engine}: {seconds:.2f} s a round, {peak:.0f} MiB")


if __name__ == "__main__":
    main()
