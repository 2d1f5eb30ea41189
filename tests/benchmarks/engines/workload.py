"""What every engine is given: the same model, clients, batches, optimiser and number of rounds."""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fedlab_helpers.core import state, wire
from fedlab_helpers.core.compute import child_seed, numpy_rng, torch_rng
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.training import LocalConfig, evaluate
from fedlab_helpers.tasks.partition import Parts
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.model import SentimentLSTM
from fedlab_helpers.tasks.reviews.task import Task, load_task

CASES = {"20": (20, 10), "500": (500, 100), "check": (4, 4)}  # clients, clients a round
WORKERS = 2  # of every engine: processes, threads or actors, each with one thread for PyTorch


@dataclass(frozen=True, eq=False)
class Workload:
    """The training reviews dealt at random to clients that train for one epoch a round."""

    task: Task
    parts: Parts
    clients: list[EncodedReviews]
    plan: Plan

    def new_model(self) -> SentimentLSTM:
        """Return the model with its first weights."""
        return SentimentLSTM(len(self.task.vocab), pooling="mean", seed=0)

    def batches(self, number: int, client: int):
        """Return the batches of a client in round `number`, those of `fedlab_helpers`."""
        seed = child_seed(self.plan.seed, "local", number, client)
        size = self.plan.local.batch_size
        return self.clients[client].batches(size, torch_rng(seed, "order"))

    def train(self, model: nn.Module, number: int, client: int) -> None:
        """Train as PyTorch's tutorials do."""
        local = self.plan.local
        optimizer = torch.optim.Adam(model.parameters(), lr=local.lr)
        for batch in self.batches(number, client):
            loss = cross_entropy(model(batch.tokens, batch.lengths), batch.labels)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), local.max_grad_norm)
            optimizer.step()

    def report(self, out: Path, seconds: list[float], model: nn.Module) -> None:
        """Write the seconds of each round, and what came of them."""
        out.with_suffix(".weights").write_bytes(wire.dense().encode(state.of_model(model)))
        accuracy = evaluate(model, self.task.test).accuracy
        text = json.dumps({"seconds": seconds, "accuracy": accuracy})
        out.with_suffix(".tmp").write_text(text)
        out.with_suffix(".tmp").replace(out)


def workload(case: str, rounds: int) -> Workload:
    """Return the work of a case."""
    torch.set_num_threads(1)
    n_clients, cohort = CASES[case]
    task = load_task()
    parts = task.deal("iid", n_clients, numpy_rng(0, "partition"))
    local = LocalConfig(epochs=1, batch_size=32, lr=5e-3, max_grad_norm=1.0)
    plan = Plan(rounds, cohort, local=local, workers=WORKERS, seed=0)
    return Workload(task, parts, task.clients(parts), plan)


def arguments() -> tuple[str, int, Path]:
    """Return case, rounds, and the file for the report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("case", choices=CASES)
    parser.add_argument("rounds", type=int)
    parser.add_argument("out", type=Path)
    chosen = parser.parse_args()
    return chosen.case, chosen.rounds, chosen.out.resolve()
