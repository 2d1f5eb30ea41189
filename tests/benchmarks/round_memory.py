"""What more clients cost in memory: python tests/benchmarks/round_memory.py

The same reviews dealt to 50 clients and to 1,000; every client takes part in every round. Each
case runs in processes of its own; what counts is the peak of resident memory during the rounds
above what stood before the first. The table goes to data/results/round_memory.csv.
"""

import argparse
import multiprocessing
import os
import statistics
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import psutil
from round_speed import federation

from fedlab_helpers import strategies
from fedlab_helpers.core import rounds as federated
from fedlab_helpers.studies import results
from fedlab_helpers.tasks.reviews.model import SentimentLSTM

CLIENTS = (50, 1000)
REVIEWS = 14_000
WORKERS = 2
MIB = 2**20


def peak_growth(n_clients: int, rounds: int) -> float:
    """Return by how many MiB resident memory grew at most during the rounds."""
    words, clients = federation(n_clients, REVIEWS // n_clients)
    plan = federated.Plan(rounds, workers=WORKERS, seed=0)
    memory = psutil.Process(os.getpid()).memory_info
    before = peak = memory().rss
    finished = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not finished.wait(0.002):
            peak = max(peak, memory().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    model = SentimentLSTM(words, seed=0)
    for record in federated.rounds(model, clients, strategies.fedavg(), plan):
        assert not record.left_out
    finished.set()
    watcher.join()
    return (peak - before) / MIB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=results.RESULTS)
    chosen = parser.parse_args()
    rows = []
    context = multiprocessing.get_context("spawn")
    for repeat in range(chosen.repeats):
        for n_clients in CLIENTS:
            with ProcessPoolExecutor(1, mp_context=context) as fresh:
                grown = fresh.submit(peak_growth, n_clients, chosen.rounds).result()
            rows.append(
                {"clients": n_clients, "repeat": repeat, "peak_growth_mib": round(grown, 1)}
            )
            print(rows[-1], flush=True)
    results.write(
        chosen.folder / "round_memory.csv", [{**row, **results.versions()} for row in rows]
    )
    few, many = (
        statistics.median(row["peak_growth_mib"] for row in rows if row["clients"] == n)
        for n in CLIENTS
    )
    print(f"{CLIENTS[0]} clients: {few:.0f} MiB; {CLIENTS[1]}: {many:.0f} MiB; {many / few:.2f} x")


if __name__ == "__main__":
    main()
