"""What federation costs in time: python tests/benchmarks/round_speed.py

A federated round (clients in two threads; weights and updates encoded, decoded, averaged) against
two single-thread processes that train the same batches with no federation at all: a plain PyTorch
loop over one model with a dense embedding and one optimiser, half of the clients each. The two
sides take turns, round by round, in one run; the ratio of a round is federated / plain, and the
median over the rounds is reported. The whole built-in corpus is used: nothing is tested on it.

Nothing else should be running. The table goes to data/results/round_speed.csv.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from fedlab_helpers import strategies
from fedlab_helpers.core import rounds as federated
from fedlab_helpers.core.compute import child_seed, numpy_rng, torch_rng
from fedlab_helpers.studies import experiments
from fedlab_helpers.tasks import partition
from fedlab_helpers.tasks.reviews.corpus import load_reviews
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews, encode_reviews
from fedlab_helpers.tasks.reviews.model import SentimentLSTM
from fedlab_helpers.tasks.reviews.words import Vocabulary, tokenize_all

CASES = {  # clients, reviews of each, clients a round
    "20 x 320": (20, 320, 10),
    "500 x 28": (500, 28, 100),
}
PROCESSES = 2
LR, BATCH_SIZE, MAX_NORM = 5e-3, 32, 1.0  # the defaults of LocalConfig


def federation(n_clients: int, size: int) -> tuple[int, list[EncodedReviews]]:
    """Return the size of the vocabulary, and the reviews of each client."""
    reviews = load_reviews()
    vocab = Vocabulary.build(tokenize_all([review.text for review in reviews]))
    reviews = encode_reviews(reviews, vocab).subset(range(n_clients * size))
    parts = partition.iid(reviews.labels, n_clients, numpy_rng(0, "partition"))
    return len(vocab), [reviews.subset(part) for part in parts]


def plain_training(pipe: Connection, case: str) -> None:
    """In a process of its own: for each job, train the batches of these clients of this round."""
    torch.set_num_threads(1)
    words, clients = federation(*CASES[case][:2])
    model = SentimentLSTM(words, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    pipe.send("ready")
    while job := pipe.recv():
        number, cohort = job
        for client in cohort:
            order = torch_rng(child_seed(0, "local", number, client), "order")
            for batch in clients[client].batches(BATCH_SIZE, order):
                loss = cross_entropy(model(batch.tokens, batch.lengths), batch.labels)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
                optimizer.step()
        pipe.send("done")


def seconds_of_plain(pipes: list[Connection], number: int, cohort: tuple[int, ...]) -> float:
    """Return the wall time until all processes have trained their share of a cohort."""
    began = time.perf_counter()
    for place, pipe in enumerate(pipes):
        pipe.send((number, cohort[place :: len(pipes)]))
    for pipe in pipes:
        pipe.recv()
    return time.perf_counter() - began


def measure(case: str, rounds: int, pipes: list[Connection]) -> Iterator[tuple[float, float]]:
    """Yield the seconds of each round: federated, and plain on the same batches."""
    n_clients, size, cohort = CASES[case]
    words, clients = federation(n_clients, size)
    plan = federated.Plan(rounds + 1, cohort, workers=PROCESSES, seed=0)
    for pipe in pipes:
        pipe.recv()
    model = SentimentLSTM(words, seed=0)
    for record in federated.rounds(model, clients, strategies.fedavg(), plan):
        assert record.examples == cohort * size, record.left_out
        plain = seconds_of_plain(pipes, record.round, record.cohort)
        if record.round > 1:  # the first warms both up
            yield record.seconds, plain


def compare(case: str, rounds: int) -> list[dict]:
    """Return the table's rows of one case, one a round."""
    context = multiprocessing.get_context("spawn")  # threads and fork do not mix
    pipes, workers = [], []
    for _ in range(PROCESSES):
        here, there = context.Pipe()
        pipes.append(here)
        workers.append(context.Process(target=plain_training, args=(there, case), daemon=True))
        workers[-1].start()
    measured = tqdm(measure(case, rounds, pipes), total=rounds, desc=case)
    rows = [
        {"case": case, "repeat": repeat, "federated_s": federated_s, "plain_s": plain_s}
        for repeat, (federated_s, plain_s) in enumerate(measured)
    ]
    for pipe, worker in zip(pipes, workers, strict=True):
        pipe.send(None)
        worker.join()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30, help="timed rounds of each case")
    parser.add_argument("--folder", type=Path, default=experiments.RESULTS)
    chosen = parser.parse_args()
    rows = [row for case in CASES for row in compare(case, chosen.rounds)]
    experiments.write(
        chosen.folder / "round_speed.csv", [{**row, **experiments.versions()} for row in rows]
    )
    for case in CASES:
        mine = [row for row in rows if row["case"] == case]
        federated_s, plain_s = (
            statistics.median(row[name] for row in mine) for name in ("federated_s", "plain_s")
        )
        ratios = sorted(row["federated_s"] / row["plain_s"] for row in mine)
        low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
        print(
            f"{case}: federated {federated_s:.3f} s, plain {plain_s:.3f} s a round; "
            f"ratio {statistics.median(ratios):.2f} (half of the rounds in {low:.2f} to {high:.2f})"
        )


if __name__ == "__main__":
    main()
