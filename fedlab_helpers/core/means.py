"""How many updates become one change: means."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch

from fedlab_helpers.core.state import RunningMean, State, norm
from fedlab_helpers.core.strategy import require_positive
from fedlab_helpers.core.updates import Update

_WEIGHTS = {
    "examples": lambda update: update.examples,
    "uniform": lambda update: 1,
    "inverse_loss": lambda update: 1 / max(update.losses[-1], 1e-3),
    "norm": lambda update: norm(update.delta),
}


@dataclass(frozen=True)
class Mean:
    """The weighted mean of the clients' changes.

    Args:
        weights: "examples": n_k / n, as in FedAvg (McMahan et al. 2017, arXiv:1602.05629,
            Algorithm 1); "uniform": each client counts the same; "inverse_loss": by 1 over its
            training loss of the last local epoch, at most 1,000; "norm": by the norm of its
            change ("gradient-based"), so that who has most to say counts most.
        per_row: divide each embedding row by the weight of the clients whose reviews contain
            that word, not by everybody's: a rare word's row is then not diluted by the zeros of
            clients that never saw it. An update that is sent whole counts as touching every row.
    """

    weights: Literal["examples", "uniform", "inverse_loss", "norm"] = "examples"
    per_row: bool = False

    def __post_init__(self):
        if self.weights not in _WEIGHTS:
            raise ValueError(f"weights: got {self.weights!r}, expected one of {sorted(_WEIGHTS)}")

    def __call__(self, base: State, updates: Iterable[Update]) -> State:
        """Return the mean; updates are taken one at a time."""
        mean = RunningMean(base, self.per_row)
        for update in updates:
            mean.add(update.delta, _WEIGHTS[self.weights](update), update.touched_rows)
        return mean.result()


@dataclass(frozen=True)
class NormalizedMean:
    """FedNova: the mean of changes per step, times the mean number of steps.

    Wang et al. 2020, arXiv:2007.07481, equation 4 for plain SGD, where a client's normalised
    vector a_i has as many ones as it took steps: with weights p_i = n_i / n,
    sum_i p_i Δ_i / τ_i, times sum_i p_i τ_i. A client that takes more steps no longer pulls the
    model to its own optimum. With Adam, whose steps do not add up that way, dividing by their
    number is a rule of thumb.
    """

    per_row: bool = False

    def __call__(self, base: State, updates: Iterable[Update]) -> State:
        """Return the normalised mean; updates are taken one at a time."""
        mean, steps, examples = RunningMean(base, self.per_row), 0, 0
        for update in updates:
            taken = max(1, update.steps)
            # The weight stays n_i, so that rows are counted as in a mean.
            change = {name: tensor / taken for name, tensor in update.delta.items()}
            mean.add(change, update.examples, update.touched_rows)
            steps += update.examples * taken
            examples += update.examples
        return {name: tensor * (steps / examples) for name, tensor in mean.result().items()}


@dataclass(frozen=True)
class Attentive:
    """FedAtt: each layer's mean is weighted by a softmax over the norms of the clients' changes.

    Ji et al. 2019, arXiv:1812.07108, equations 3 to 5 (with the 2-norm), made for recurrent
    language models: for each tensor, w ← w + ε sum_k softmax_k(‖Δ_k‖) Δ_k. Who moved a layer far
    counts more in that layer.

    Args:
        epsilon: the step, 1.2 in the paper.
    """

    epsilon: float = 1.2
    per_row = False

    def __post_init__(self):
        require_positive(epsilon=self.epsilon)

    def __call__(self, base: State, updates: Iterable[Update]) -> State:
        """Return the attentive mean; all updates are held at once."""
        updates = list(updates)
        combined = {}
        for name in base:
            norms = [norm({name: update.delta[name]}) for update in updates]
            shares = torch.tensor(norms, dtype=torch.float64).softmax(0).tolist()
            mean = RunningMean({name: base[name]})
            for update, share in zip(updates, shares, strict=True):
                rows = {n: r for n, r in update.touched_rows.items() if n == name}
                mean.add({name: update.delta[name]}, share, rows)
            combined[name] = mean.result()[name] * self.epsilon
        return combined
