"""Strategies that are means: by what each client, each step, each row or each layer is weighted."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch

from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.require import require, require_positive
from fedlab_helpers.core.state import RunningMean, State, clone, norm
from fedlab_helpers.core.strategy import Mean, Strategy
from fedlab_helpers.strategies.registry import registered

BY_EXAMPLES, UNIFORM = Mean("examples"), Mean("uniform")


@dataclass(frozen=True)
class WeightedMean:
    """The mean of the clients' changes, weighted by what each update tells.

    Args:
        by: "inverse_loss": 1 over the training loss of the last local epoch, at most 1,000;
            "norm": the norm of the change ("gradient-based"), so that who has most to say counts
            most. Where nobody moved, the change is zero.
    """

    by: Literal["inverse_loss", "norm"]
    per_row = False
    linear = True

    def __post_init__(self):
        fine = self.by in ("inverse_loss", "norm")
        require(fine, "by", self.by, "'inverse_loss' or 'norm'")

    @property
    def changes_only(self) -> bool:
        """Whether the length of a change counts."""
        return self.by == "norm"

    def __call__(self, base: State, updates: Iterable[Update]) -> State:
        mean, seen, far = RunningMean(base), False, self.by == "norm"
        for update in updates:
            weight = norm(update.delta) if far else 1 / max(update.losses[-1], 1e-3)
            mean.add(update.delta, weight, update.touched_rows)
            seen = True
        return clone(base) if seen and not mean.weight else mean.result()


@dataclass(frozen=True)
class NormalizedMean:
    """FedNova: the mean of changes per step, times the mean number of steps.

    Wang et al. 2020, arXiv:2007.07481, equation 4 for plain SGD, where a client's normalised
    vector a_i has as many ones as it took steps: with weights p_i = n_i / n,
    sum_i p_i Δ_i / τ_i, times sum_i p_i τ_i. A client that takes more steps no longer pulls the
    model to its own optimum. With Adam, whose steps do not add up that way, dividing by their
    number is a rule of thumb.
    """

    changes_only = True
    per_row = False
    linear = True

    def __call__(self, base: State, updates: Iterable[Update]) -> State:
        mean, steps, examples = RunningMean(base), 0, 0
        for update in updates:
            taken = max(1, update.steps)
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
    changes_only = True
    per_row = False

    def __post_init__(self):
        require_positive(epsilon=self.epsilon)

    def __call__(self, base: State, updates: Iterable[Update]) -> State:
        updates = list(updates)
        combined = {}
        for name in base:
            norms = [norm({name: update.delta[name]}) for update in updates]
            shares = torch.tensor(norms, dtype=torch.float64, device="cpu").softmax(0).tolist()
            mean = RunningMean({name: base[name]})
            for update, share in zip(updates, shares, strict=True):
                rows = {n: r for n, r in update.touched_rows.items() if n == name}
                mean.add({name: update.delta[name]}, share, rows)
            combined[name] = mean.result()[name] * self.epsilon
        return combined


@registered()
def fedavg(sends: Literal["change", "weights"] = "change") -> Strategy:
    """FedAvg: the mean of the clients, weighted by their numbers of examples."""
    return Strategy(sends=sends)


@registered()
def uniform() -> Strategy:
    """The plain mean: a client with ten reviews counts as much as one with a thousand."""
    return Strategy(UNIFORM)


@registered()
def rowwise() -> Strategy:
    """FedAvg with each embedding row averaged over the clients that touched it."""
    return Strategy(Mean(per_row=True))


@registered()
def inverse_loss() -> Strategy:
    """Clients with a small training loss count more."""
    return Strategy(WeightedMean("inverse_loss"))


@registered()
def by_norm() -> Strategy:
    """Clients whose weights moved far count more."""
    return Strategy(WeightedMean("norm"))


@registered(server_rate=False, epsilon=(0.1, 4.0))
def fedatt(epsilon: float = Attentive.epsilon) -> Strategy:
    """FedAtt: in each layer, clients that moved it far count more."""
    return Strategy(Attentive(epsilon))


@registered(for_sgd=True)
def fednova() -> Strategy:
    """FedNova: changes are averaged per step, so that unequal work does not tilt them."""
    return Strategy(NormalizedMean())
