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
    They are no weights: a server's step or noise must not move a variance below zero."""
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
        if tensor.is_floating_point() or tensor.is_complex()
        else (tensor + scale * right[name].double()).round().to(tensor.dtype)
        for name, tensor in left.items()
    }


def zeros_like(state: State) -> State:
    """Return a state of zeros with the same names, shapes, dtypes and devices."""
    return {name: torch.zeros_like(tensor) for name, tensor in state.items()}


def flatten(state: State) -> Tensor:
    """Return all values as one float64 vector, in the order of the names in the dictionary."""
    return torch.cat([_real(tensor).double().flatten() for tensor in state.values()])


def norm(state: State) -> float:
    """Return the Euclidean norm of all values taken as one vector, summed in float64."""
    squares = [_real(tensor).double().square().sum() for tensor in state.values()]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0


def all_finite(state: State) -> bool:
    """Return whether no value is NaN or infinite."""
    return all(map(_finite, state.values()))


def _finite(tensor: Tensor) -> bool:
    values = _real(tensor)
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

    Sums are in float64 and rounded once, when the mean is asked for. Of a tensor that comes in rows
    only, the sums lie in the order in which rows came first: memory grows with these, not with it.

    Args:
        base: the state an absent row counts as, and what gives names, shapes and dtypes: zeros
            where changes are averaged, the global weights where whole weights are.
        per_row: False: a client that did not send a row counts with `base`'s row. True: each
            row is divided by the weight of the clients that sent it.
    """

    def __init__(self, base: State, per_row: bool = False):
        self.base, self.per_row, self.weight = base, per_row, 0.0
        self.sums, self.row_weight, self.places = {}, {}, {}  # the last: row -> place, or -1

    def add(self, state: State, weight: float, rows: Rows | None = None) -> None:
        """Add one state, shaped like `base`, with its weight, a finite number not below 0; tensors
        named in `rows` hold these rows only, (k,) int64 without repeats. Raises ValueError where
        names, shapes, devices or weight do not fit."""
        rows = rows or {}
        like = {n: t[: len(rows[n])] if n in rows else t for n, t in self.base.items()}
        require_same_shapes(state, like, "mean")
        require(is_number(weight, 0), "weight", weight, "a finite number not below 0")
        for name, tensor in state.items():
            came, here = tensor.device, self.base[name].device
            require(came == here, f"mean: the device of {name!r}", came, f"{here}; see `to_device`")
            values = tensor if tensor.is_floating_point() else tensor.to(_wide(tensor))
            if name in rows:
                at = self._places(name, rows[name])
                self.sums[name].index_add_(0, at, values.to(_wide(tensor)), alpha=weight)
                self.row_weight[name].index_add_(0, at, at.new_ones(len(at)).double(), alpha=weight)
                continue
            if name in self.places:  # its other rows get places, too
                self._places(name, torch.arange(len(tensor), device=here))
                values = values[self.places[name].argsort()]
                self.row_weight[name] += weight
            elif name not in self.sums:
                self.sums[name] = torch.zeros_like(self.base[name], dtype=_wide(tensor))
            self.sums[name].add_(values, alpha=weight)
        self.weight += weight

    def _places(self, name: str, rows: Tensor) -> Tensor:
        """Return where the sums of these rows are; one that is new gets the next place."""
        base = self.base[name]
        if name not in self.sums:  # memory that is not written to is not taken
            self.sums[name] = torch.empty_like(base, dtype=_wide(base))
            self.places[name] = rows.new_full((len(base),), -1)
            self.row_weight[name] = rows.new_empty(0, dtype=torch.float64)
        elif name not in self.places:  # what came before this update held every row
            self.places[name] = torch.arange(len(base), device=base.device)
            self.row_weight[name] = rows.new_full((len(base),), self.weight, dtype=torch.float64)
        place, before = self.places[name], self.row_weight[name]
        new = rows[place[rows] < 0]
        self.row_weight[name] = torch.cat([before, before.new_zeros(len(new))])
        place[new] = torch.arange(len(before), len(before) + len(new), device=place.device)
        self.sums[name][len(before) : len(before) + len(new)] = 0
        return place[rows]

    def result(self) -> State:
        """Return the mean, with the dtypes of `base`. Raises ValueError if the weights added so
        far sum to zero."""
        mean, rows = self.by_rows()
        return mean | {n: self.base[n].index_copy(0, at, mean[n]) for n, at in rows.items()}

    def by_rows(self) -> tuple[State, dict[str, Tensor]]:
        """Return `result`, but of a tensor that came in rows only, just the rows that came, and
        which these are, ascending, (k,) int64: the others are as in `base`."""
        if not self.weight > 0:
            raise ValueError("mean: the weights sum to 0, so there is nothing to average")
        rows = {name: (place >= 0).nonzero()[:, 0] for name, place in self.places.items()}
        return {n: self._mean(n, rows.get(n)).to(t.dtype) for n, t in self.base.items()}, rows

    def _mean(self, name: str, rows: Tensor | None) -> Tensor:
        base, total = self.base[name], self.sums[name]
        if rows is None:
            mean = total / self.weight
            return mean if base.is_floating_point() or base.is_complex() else mean.round()
        at = self.places[name][rows]
        base, total, seen = base[rows], total[at], self.row_weight[name][at]
        seen = seen.view(-1, *[1] * (total.dim() - 1))
        base = base.to(total.dtype)
        if self.per_row:
            return torch.where(seen > 0, total / seen.clamp_min(1e-300), base)
        return (total + (self.weight - seen) * base) / self.weight


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.complex128 if tensor.is_complex() else torch.float64


def weighted_mean(states: Iterable[State], weights: Iterable[float]) -> State:
    """Return the weighted mean of states of equal shapes, summed in float64, rounded once. Raises
    ValueError where numbers or shapes do not match, a weight is negative, or all are zero."""
    states, weights = list(states), list(weights)
    require(len(states) == len(weights) > 0, "weights", len(weights), "one weight for each state")
    mean = RunningMean(zeros_like(states[0]))
    for state, weight in zip(states, weights, strict=True):
        mean.add(state, weight)
    return mean.result()
