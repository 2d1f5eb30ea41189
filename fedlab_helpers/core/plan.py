"""What is to happen in a run, apart from model, data and strategy; and simulated speeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from fedlab_helpers.core import compute
from fedlab_helpers.core.require import require, require_count, require_share
from fedlab_helpers.core.training import LocalConfig

Sampling = Literal["fixed", "poisson"]


@dataclass(frozen=True)
class Pace:
    """Simulated speeds, and how long the server waits in a round. Only the clock is simulated.

    Stragglers with their partial work kept are what FedProx was made for (Li et al. 2020,
    arXiv:1812.06127, section 5.2).

    Args:
        steps_per_second: each client's speed in optimiser steps a second.
        deadline: seconds that the server waits; inf: for everybody.
        partial: a client that runs late sends what it has after the steps it finished, at least
            one; False: it is left out, and does not train.
    """

    steps_per_second: tuple[float, ...]
    deadline: float
    partial: bool = True

    def __post_init__(self):
        speeds = tuple(map(float, self.steps_per_second))  # also of an array, for a checkpoint
        object.__setattr__(self, "steps_per_second", speeds)
        object.__setattr__(self, "deadline", float(self.deadline))
        require_speeds("steps_per_second", speeds, len(speeds))
        require(self.deadline > 0, "deadline", self.deadline, "a number above 0, or inf")

    def steps(self, client: int, whole: int) -> int:
        """Return how many of its `whole` steps a client finishes by the deadline."""
        return math.floor(min(whole, self.steps_per_second[client] * self.deadline))

    def missed(self, client: int, whole: int) -> str | None:
        """Return why a client with `whole` steps to take is left out; None if it is not."""
        done = self.steps(client, whole)
        if done == whole or (self.partial and done >= 1):
            return None
        return f"missed the deadline (simulated): {done} of {whole} steps"


def require_speeds(name: str, given: Sequence[float], n_clients: int) -> None:
    """Raise a ValueError unless there is one finite speed above 0 for each client, at least one."""
    if len(given) != n_clients or not n_clients:
        expected = f"{n_clients}, one for each client" if n_clients else "at least one"
        raise ValueError(f"{name}: got {len(given)} speeds, expected {expected}")
    for speed in given:
        require(0 < speed < math.inf, name, speed, "finite numbers above 0")


@dataclass(frozen=True)
class Plan:
    """What is to happen, apart from model, data and strategy.

    Args:
        rounds: how many.
        clients_per_round: size of the cohort drawn each round; None: every client. With
            `sampling` "poisson" it is the expected size.
        local: how a client trains.
        seed: decides cohorts, order of examples, dropout masks, and who drops out.
        workers: clients that train side by side; "auto": one for each CPU. Changes no bit.
        evaluate_every: the global model is evaluated after every so many rounds, and the last.
        dropout_rate: probability that a client of the cohort drops out: it never answers.
        pace: simulated speeds of the clients and a deadline; None: each does all its work.
        sampling: "fixed": a cohort of this size, drawn without replacement. "poisson": each client
            by its own coin, so that a cohort may be of any size, and empty; what noise protects
            best (see `privacy.budget`).
    """

    rounds: int
    clients_per_round: int | None = None
    local: LocalConfig = field(default_factory=LocalConfig)
    seed: int = 0
    workers: int | str = "auto"
    evaluate_every: int = 1
    dropout_rate: float = 0.0
    pace: Pace | None = None
    sampling: Sampling = "fixed"

    def __post_init__(self):
        require_count(rounds=self.rounds, evaluate_every=self.evaluate_every)
        if self.clients_per_round is not None:
            require_count(clients_per_round=self.clients_per_round)
        require_share(dropout_rate=self.dropout_rate)
        ways = get_args(Sampling)
        require(self.sampling in ways, "sampling", self.sampling, f"one of {ways}")
        compute.worker_count(self.workers)

    @classmethod
    def fedsgd(cls, rounds: int, lr: float, **others) -> "Plan":
        """Return FedSGD as a plan: each client takes one plain gradient step on all it holds.

        McMahan et al. 2017, arXiv:1602.05629, section 2: E = 1 and B = infinity.
        """
        step = LocalConfig(epochs=1, batch_size=None, lr=lr, optimizer="sgd", max_grad_norm=None)
        return cls(rounds, local=step, **others)
