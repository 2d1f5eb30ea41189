"""How the cost of a round grows: python tests/benchmarks/growth.py

Two sweeps, `strategies.fedavg()` with touched rows. More clients: 100, 1,000, 10,000 and 100,000 of
12 to 28 reviews, 100 in a round, with the words of the reviews; the training reviews are dealt
again and again until all have some. More words: the same 20 clients of 320 reviews, 10 in a round,
with a table of 64 values a word; the words that occur are spread over the table.

Each case runs in a fresh process, which finds reviews and model in memory. `startup_s` is the time
until the first round begins; `seconds_a_round` the median over the rounds after the first, `least`
and `most` their extremes; `peak_mib` the peak of resident memory above the bare imports, model,
reviews and all (Linux); `table_mib` the size of the table of words. A case that the table holds
is not measured again.

Nothing else should be running. The table goes to data/results/growth.csv.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from fedlab_helpers import Plan, SentimentLSTM, load_task, rounds, strategies
from fedlab_helpers.studies import results
from fedlab_helpers.tasks.partition import Dealt
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews

FEW, SAME = "12 to 28", "320"
WORKERS, LENGTH = 2, 64
MIB = 2**20


def cases(words: int) -> list[dict]:
    """Return the settings of each case; `words` are those of the reviews."""
    clients = [(n, 100, words, FEW) for n in (100, 1_000, 10_000, 100_000)]
    tables = [(20, 10, n, SAME) for n in (words, 100_000, 1_000_000)]
    names = ("clients", "cohort", "words", "reviews_a_client")
    return [dict(zip(names, case, strict=True)) for case in clients + tables]


def deal(reviews: int, clients: int, each: str) -> list[np.ndarray]:
    """Return which reviews each client holds; once all are dealt, they are dealt anew."""
    rng, bounds = np.random.default_rng(0), [int(n) for n in each.split(" to ")]
    sizes = rng.integers(bounds[0], bounds[-1] + 1, clients)
    passes = [rng.permutation(reviews) for _ in range(-(-int(sizes.sum()) // reviews))]
    return np.split(np.concatenate(passes), np.cumsum(sizes))[:-1]


def spread(tokens: torch.Tensor, before: int, after: int) -> torch.Tensor:
    """Return ids of a larger vocabulary for those of a smaller one, in the same order; padding and
    the unknown word keep theirs."""
    drawn = np.random.default_rng(0).choice(after - 2, before - 2, replace=False) + 2
    return torch.from_numpy(np.concatenate([[0, 1], np.sort(drawn)]))[tokens]


def memory(name: str) -> float:
    """Return what Linux says of this process' resident memory, in MiB."""
    return int(re.search(name + r":\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def measure(file: Path, case: dict, repeats: int) -> dict:
    """Return what a case costs; `file` holds the training reviews, and how many words they have."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory("VmRSS")
    tokens, lengths, labels, words = torch.load(file)
    reviews = EncodedReviews(spread(tokens, words, case["words"]), lengths, labels)
    model = SentimentLSTM(case["words"], LENGTH, seed=0)
    plan = Plan(repeats + 1, case["cohort"], workers=WORKERS)
    began, seconds = time.perf_counter(), []
    clients = Dealt(reviews, deal(len(reviews), case["clients"], case["reviews_a_client"]))
    for record in rounds(model, clients, strategies.fedavg(), plan):
        assert not record.left_out, record.left_out
        if not seconds:
            startup = time.perf_counter() - began - record.seconds
        seconds.append(record.seconds)
    timed = seconds[1:]  # the first warms up
    return {
        "startup_s": round(startup, 4),
        "seconds_a_round": round(statistics.median(timed), 4),
        "least": round(min(timed), 4),
        "most": round(max(timed), 4),
        "peak_mib": round(memory("VmHWM") - before, 1),
        "table_mib": round(model.embedding.weight.nbytes / MIB, 1),
        "repeats": repeats,
        "cores": len(os.sched_getaffinity(0)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20, help="timed rounds of each case")
    parser.add_argument("--folder", type=Path, default=results.RESULTS)
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)  # reviews, and which case
    chosen = parser.parse_args()
    if chosen.case:
        file, number = chosen.case
        case = cases(torch.load(file)[-1])[int(number)]
        print(json.dumps(measure(Path(file), case, chosen.repeats)))
        return
    task, path = load_task(), chosen.folder / "growth.csv"
    all_cases, rows = cases(len(task.vocab)), results.read(path)
    known = [{name: row[name] for name in all_cases[0]} for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        file, train = Path(folder) / "reviews.pt", task.train
        torch.save((train.tokens, train.lengths, train.labels, len(task.vocab)), file)
        for number, case in enumerate(tqdm(all_cases)):
            if {name: str(value) for name, value in case.items()} in known:
                continue
            options = ["--repeats", str(chosen.repeats), "--case", str(file), str(number)]
            fresh = subprocess.run(
                [sys.executable, __file__, *options], stdout=subprocess.PIPE, text=True, check=True
            )
            figures = json.loads(fresh.stdout)
            rows.append(case | figures | results.versions())
            results.write(path, rows)
            tqdm.write(str(case | figures))


if __name__ == "__main__":
    main()
