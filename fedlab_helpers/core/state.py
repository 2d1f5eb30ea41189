"""Arithmetic on model states: `State` maps a parameter's name to its tensor."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from fedlab_helpers.core.require import is_number, require

State = dict[str, Tensor]
Rows = Mapping[str, Tensor]  # tensor name -> which of its rows a state holds, (k,) int64


def of_model(model: nn.Module) -> State:
    """Return a copy of the model's state: `model.state_dict()` hands out the live tensors, which
    change under the hands of whoever keeps them as soon as the model trains on."""
    return clone(model.state_dict())


def buffer_names(model: nn.Module) -> frozenset[str]:
    """Return the names in the model's state that are no parameters: running statistics, masks, …

    They are no weights: a server's step, momentum or noise must not move a variance below zero.
    """
    weights = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return frozenset(model.state_dict().keys() - weights)


def clone(state: Mapping[str, Tensor]) -> State:
    """Return a state whose tensors share no memory with the given ones."""
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def to_device(state: State, device: torch.device | str) -> State:
    """Return the state on `device`; tensors that are there already are not copied."""
    return {name: tensor.to(device) for name, tensor in state.items()}


def subtract(left: State, right: State) -> State:
    """Return `left - right`, tensor by tensor."""
    require_same_shapes(left, right)
    return {name: left[name] - right[name] for name in left}


def add(left: State, right: State, scale: float = 1.0) -> State:
    """Return `left + scale * right`, tensor by tensor; a counter stays a counter."""
    require_same_shapes(left, right)
    return {
        name: tensor + scale * right[name]
        if tensor.is_floating_point()
        else (tensor + scale * right[name].double()).round().to(tensor.dtype)
        for name, tensor in left.items()
    }


def zeros_like(state: State) -> State:
    """Return a state of zeros with the same names, shapes, dtypes and devices."""
    return {name: torch.zeros_like(tensor) for name, tensor in state.items()}


def flatten(state: State) -> Tensor:
    """Return all values as one float64 vector, in the order of the names in the dictionary."""
    return torch.cat([tensor.detach().double().flatten() for tensor in state.values()])


def norm(state: State) -> float:
    """Return the Euclidean norm of all values taken as one vector, summed in float64."""
    squares = [tensor.detach().double().square().sum() for tensor in state.values()]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0


def all_finite(state: State) -> bool:
    """Return whether no value is NaN or infinite."""
    return all(map(_finite, state.values()))


def _finite(tensor: Tensor) -> bool:
    values = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    # The least and the largest are NaN where any is; ten times as fast as to ask each value.
    return not values.numel() or all(math.isfinite(end) for end in values.aminmax())


def require_same_shapes(left: State, right: State, what: str = "states") -> None:
    """Raise a ValueError that names the first tensor in which two states do not match."""
    odd = sorted(left.keys() ^ right.keys())
    require(not odd, what, odd, "the same names in both, not in one of the two only")
    for name, tensor in left.items():
        came, expected = tuple(tensor.shape), tuple(right[name].shape)
        require(came == expected, f"{what}: {name!r}", came, f"equal shapes, {expected}")


class RunningMean:
    """A weighted mean that takes states one at a time, so that only one need be in memory.

    Sums are in float64 and rounded once, when `result` is asked for.

    Args:
        base: the state an absent row counts as, and what gives names, shapes and dtypes: zeros
            where changes are averaged, the global weights where whole weights are.
        per_row: False: a client that did not send a row counts with `base`'s row. True: each
            row is divided by the weight of the clients that sent it.
    """

    def __init__(self, base: State, per_row: bool = False):
        self.base, self.per_row, self.weight = base, per_row, 0.0
        self.sums = {n: torch.zeros_like(t, dtype=torch.float64) for n, t in base.items()}
        self.row_weight: dict[str, Tensor] = {}

    def add(self, state: State, weight: float, rows: Rows | None = None) -> None:
        """Add one state, shaped like `base`, with its weight, a finite number not below 0; tensors
        named in `rows` hold these rows only, (k,) int64 without repeats. Raises ValueError where
        names, shapes, devices or weight do not fit."""
        rows = rows or {}
        like = {
            name: tensor.new_empty(len(rows[name]), *tensor.shape[1:]) if name in rows else tensor
            for name, tensor in self.base.items()
        }
        require_same_shapes(state, like, "mean")
        require(is_number(weight, 0), "weight", weight, "a finite number not below 0")
        for name, tensor in state.items():
            came, here = tensor.device, self.sums[name].device
            require(came == here, f"mean: the device of {name!r}", came, f"{here}; see `to_device`")
            if name in rows:
                self._add_rows(name, tensor, weight, rows[name])
                continue
            values = tensor if tensor.is_floating_point() else tensor.double()
            self.sums[name].add_(values, alpha=weight)
            if name in self.row_weight:
                self.row_weight[name] += weight
        self.weight += weight

    def _add_rows(self, name: str, tensor: Tensor, weight: float, rows: Tensor) -> None:
        if name not in self.row_weight:  # what came before this update held every row
            total = self.sums[name]
            self.row_weight[name] = total.new_full((len(total),), self.weight)
        self.sums[name].index_add_(0, rows, tensor.double(), alpha=weight)
        self.row_weight[name].index_add_(0, rows, rows.new_ones(rows.shape).double(), alpha=weight)

    def result(self) -> State:
        """Return the mean, with the dtypes of `base`. Raises ValueError if the weights added so
        far sum to zero."""
        if not self.weight > 0:
            raise ValueError("mean: the weights sum to 0, so there is nothing to average")
        return {name: self._mean(name).to(self.base[name].dtype) for name in self.base}

    def _mean(self, name: str) -> Tensor:
        base, total = self.base[name], self.sums[name]
        if name not in self.row_weight:
            mean = total / self.weight
            return mean if base.is_floating_point() else mean.round()
        seen = self.row_weight[name].view(-1, *[1] * (total.dim() - 1))
        if self.per_row:
            return torch.where(seen > 0, total / seen.clamp_min(1e-300), base.double())
        return (total + (self.weight - seen) * base.double()) / self.weight


def weighted_mean(states: Iterable[State], weights: Iterable[float]) -> State:
    """Return the weighted mean of states of equal shapes, summed in float64, rounded once.

    Raises ValueError where they do not match in number or shape, there is none, a weight is
    negative, or all are zero.
    """
    states, weights = list(states), list(weights)
    require(len(states) == len(weights) > 0, "weights", len(weights), "one weight for each state")
    mean = RunningMean(zeros_like(states[0]))
    for state, weight in zip(states, weights, strict=True):
        mean.add(state, weight)
    return mean.result()
