"""Arithmetic on model states: `State` maps a parameter's name to its tensor."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from fedlab_helpers.core.require import is_number, require

State = dict[str, Tensor]
Rows = Mapping[str, Tensor]  # tensor name -> which of its rows a state holds, (k,) int64


def of_model(model: nn.Module) -> State:
    """Return a copy of the model's state.

    `model.state_dict()` hands out the live tensors: kept without this copy, they change under
    the hands of whoever keeps them as soon as the model trains on.
    """
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
    """Return `left + scale * right`, tensor by tensor."""
    require_same_shapes(left, right)
    return {name: _add(left[name], right[name], scale) for name in left}


def _add(left: Tensor, right: Tensor, scale: float) -> Tensor:
    if left.is_floating_point():
        return left + scale * right
    return (left + scale * right.double()).round().to(left.dtype)  # a counter stays a counter


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
    return all(bool(torch.isfinite(tensor).all()) for tensor in state.values())


def require_same_shapes(left: State, right: State) -> None:
    """Raise a ValueError that names the first tensor in which two states do not match."""
    if left.keys() != right.keys():
        odd = sorted(left.keys() ^ right.keys())
        raise ValueError(f"states: these names are in one of the two states only: {odd}")
    for name, tensor in left.items():
        if tensor.shape != right[name].shape:
            shapes = f"{tuple(tensor.shape)} and {tuple(right[name].shape)}"
            raise ValueError(f"states: {name!r} has shapes {shapes}; they must be equal")


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
        self.sums = {
            name: torch.zeros_like(tensor, dtype=torch.float64) for name, tensor in base.items()
        }
        self.row_weight: dict[str, Tensor] = {}

    def add(self, state: State, weight: float, rows: Rows | None = None) -> None:
        """Add one state with its weight.

        Args:
            state: tensors shaped like `base`; those named in `rows` hold only these rows.
            weight: not negative.
            rows: for each row-sparse tensor, the unique rows it holds, (k,) int64.

        Raises:
            ValueError: names, shapes or devices do not fit `base`, or the weight is negative or
                infinite.
        """
        rows = rows or {}
        self._require_fit(state, rows)
        fine = is_number(weight) and weight >= 0
        require(fine, "weight", weight, "a finite number not below 0")
        for name, tensor in state.items():
            if name in rows:
                self._add_rows(name, tensor, weight, rows[name])
            else:
                values = tensor if tensor.is_floating_point() else tensor.double()
                self.sums[name].add_(values, alpha=weight)
                if name in self.row_weight:
                    self.row_weight[name] += weight
        self.weight += weight

    def _require_fit(self, state: State, rows: Rows) -> None:
        if state.keys() != self.base.keys():
            odd = sorted(state.keys() ^ self.base.keys())
            raise ValueError(f"mean: these names are in one of the two states only: {odd}")
        for name, tensor in state.items():
            came, shape = tuple(tensor.shape), tuple(self.base[name].shape)
            if name in rows:
                shape = (len(rows[name]), *shape[1:])
            if came != shape:
                raise ValueError(f"mean: {name!r} has shape {came}, expected {shape}")
            if tensor.device != self.sums[name].device:
                raise ValueError(
                    f"mean: {name!r} is on {tensor.device}, expected {self.sums[name].device}: "
                    "bring all states to one device first, with `to_device`"
                )

    def _add_rows(self, name: str, tensor: Tensor, weight: float, rows: Tensor) -> None:
        if name not in self.row_weight:
            # What came before this update held every row.
            total = self.sums[name]
            self.row_weight[name] = total.new_full((len(total),), self.weight)
        self.sums[name].index_add_(0, rows, tensor.double(), alpha=weight)
        self.row_weight[name].index_add_(0, rows, rows.new_ones(rows.shape).double(), alpha=weight)

    def result(self) -> State:
        """Return the mean, with the dtypes of `base`.

        Raises:
            ValueError: the weights added so far sum to zero.
        """
        if not self.weight > 0:
            raise ValueError("mean: the weights sum to 0, so there is nothing to average")
        return {name: self._mean(name).to(self.base[name].dtype) for name in self.base}

    def _mean(self, name: str) -> Tensor:
        if name not in self.row_weight:
            mean = self.sums[name] / self.weight
            return mean if self.base[name].is_floating_point() else mean.round()
        base, total = self.base[name].double(), self.sums[name]
        seen = self.row_weight[name].view(-1, *[1] * (total.dim() - 1))
        if self.per_row:
            return torch.where(seen > 0, total / seen.clamp_min(1e-300), base)
        return (total + (self.weight - seen) * base) / self.weight


def weighted_mean(states: Iterable[State], weights: Iterable[float]) -> State:
    """Return the weighted mean of states of equal shapes, summed in float64, rounded once.

    Raises:
        ValueError: there is no state, the weights do not match them in number, are negative,
            or sum to zero.
    """
    states, weights = list(states), list(weights)
    require(len(states) == len(weights) > 0, "weights", len(weights), "one weight for each state")
    mean = RunningMean(zeros_like(states[0]))
    for state, weight in zip(states, weights, strict=True):
        mean.add(state, weight)
    return mean.result()
