"""How fast simulated clients are, and how much of its work each finishes before a deadline."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


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

    Raises:
        ValueError: a speed or the deadline is not a number above 0, or there is no speed.
    """

    steps_per_second: tuple[float, ...]
    deadline: float
    partial: bool = True

    def __post_init__(self):
        speeds = tuple(map(float, self.steps_per_second))  # also of an array, for a checkpoint
        object.__setattr__(self, "steps_per_second", speeds)
        object.__setattr__(self, "deadline", float(self.deadline))
        require_speeds("steps_per_second", speeds, len(speeds))
        if not self.deadline > 0:
            raise ValueError(f"deadline: got {self.deadline}, expected a number above 0, or inf")

    def steps(self, client: int, whole: int) -> int:
        """Return how many of its `whole` steps a client finishes by the deadline."""
        return math.floor(min(whole, self.steps_per_second[client] * self.deadline))

    def missed(self, client: int, whole: int) -> str | None:
        """Return why a client with `whole` steps to take is left out; None if it is not."""
        done = self.steps(client, whole)
        if done == whole or (self.partial and done >= 1):
            return None
        return f"missed the deadline (simulated): {done} of {whole} steps"

    def seconds(self, whole: Mapping[int, int]) -> float:
        """Return how long the server waits in a round: for the slowest, at most the deadline.

        Args:
            whole: the clients of the cohort, with the steps that each has to take.
        """
        return min(self.deadline, max(n / self.steps_per_second[c] for c, n in whole.items()))


def speeds(n_clients: int, rng: np.random.Generator, spread: float) -> tuple[float, ...]:
    """Return log-normal speeds, in steps a second, with median 1.

    Args:
        n_clients: how many.
        rng: decides the draw.
        spread: standard deviation of the speeds' natural logarithm; 0: all are equal. At 0.5 one
            client in six is slower than 0.6, and one in six faster than 1.65.

    Raises:
        ValueError: `spread` is negative or not finite, or there is no client.
    """
    if n_clients < 1:
        raise ValueError(f"n_clients: got {n_clients!r}, expected at least 1")
    if not 0 <= spread < math.inf:
        raise ValueError(f"spread: got {spread!r}, expected a finite number not below 0")
    return tuple(np.exp(spread * rng.standard_normal(n_clients)).tolist())


def require_speeds(name: str, given: Sequence[float], n_clients: int) -> None:
    """Raise a ValueError unless there is one finite speed above 0 for each client, at least one."""
    if len(given) != n_clients or not n_clients:
        expected = f"{n_clients}, one for each client" if n_clients else "at least one"
        raise ValueError(f"{name}: got {len(given)} speeds, expected {expected}")
    for speed in given:
        if not 0 < speed < math.inf:
            raise ValueError(f"{name}: got {speed!r}, expected finite numbers above 0")
