"""How many updates become one change: means beside the weighted one."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.require import require_positive
from fedlab_helpers.core.state import RunningMean, State, norm


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
