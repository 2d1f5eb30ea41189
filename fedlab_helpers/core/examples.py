"""What a client learns from: inputs and targets, and batches of them."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from fedlab_helpers.core.objective import CLASSES, NOT_ASKED, Objective
from fedlab_helpers.core.require import require

_BATCHES_IN_POOL = 16  # padded examples are sorted by length within this many batches


class Batch(NamedTuple):
    """Some examples: what the model is called with, each (B, …), and what is asked, (B, …)."""

    inputs: tuple[Tensor, ...]
    targets: Tensor


@dataclass(frozen=True, eq=False)
class Examples:
    """Examples as tensors, one row each; a model is called as `model(*batch.inputs)`.

    Args:
        inputs: at least one tensor, each (N, …).
        targets: (N, …), as the objective says; refused if not.
        objective: what is asked, and how answers are judged; it travels with the data.
        padded: the last input is each example's number of steps, (N,) int64, and the first, (N, T,
            …), is padded on the right to T. A batch is then of similar lengths, and all inputs
            that have T steps, and targets that are asked at each, are cut to its longest; of
            these, what stands behind an example's end is not asked, whatever it is.
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor
    objective: Objective = CLASSES
    padded: bool = False

    _batch: ClassVar[type[Batch]] = Batch

    def __post_init__(self):
        self.checked()

    def checked(self) -> "Examples":
        """Return the examples. Raises ValueError if these tensors are none."""
        name, fine = type(self).__name__, not isinstance(self.inputs, Tensor)
        require(fine, f"{name}: inputs", "a tensor", "a tuple of them, such as (x,)")
        object.__setattr__(self, "inputs", tuple(self.inputs))
        columns = (*self.inputs, self.targets)
        if len(columns) < 2 or not all(isinstance(t, Tensor) and t.dim() for t in columns):
            kinds = [type(t).__name__ for t in columns]
            raise ValueError(f"{name}: got {kinds}, expected tensors (N, …), one input or more")
        shapes = [tuple(tensor.shape) for tensor in columns]
        if len({shape[0] for shape in shapes}) > 1:
            raise ValueError(f"{name}: shapes {shapes}, expected (N, …) with one N for all")
        self.objective.require(self.targets)
        if self.padded:
            self._require_lengths(name, shapes)
        return self

    def _require_lengths(self, name: str, shapes: list[tuple[int, ...]]) -> None:
        lengths, steps = self.inputs[-1], self.objective.each_step
        fits = len(shapes) > 2 and len(shapes[0]) > 1 and len(shapes[-2]) == 1
        if not fits or (steps and shapes[-1][1:2] != shapes[0][1:2]):
            asked = "(N, T, …)" if steps else "(N, …)"
            raise ValueError(f"{name}: shapes {shapes}, expected (N, T, …), (N,) and {asked}")
        require(lengths.dtype == torch.int64, f"{name}: lengths", lengths.dtype, "torch.int64")
        if len(self):
            low, high, width = *map(int, lengths.aminmax()), shapes[0][1]
            if not 1 <= low <= high <= width:
                wrong = f"lengths from {low} to {high}"
                raise ValueError(f"{name}: {wrong}, expected them in 1..{width}")
        if steps:
            behind = torch.arange(shapes[0][1], device=lengths.device) >= lengths[:, None]
            behind = behind.view(*behind.shape, *[1] * (self.targets.dim() - 2))
            nothing = torch.nan if self.targets.is_floating_point() else NOT_ASKED
            object.__setattr__(self, "targets", self.targets.masked_fill(behind, nothing))

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def asked(self) -> int:
        """How many targets count: the weight of these examples in a mean."""
        return self.objective.asked(self.targets)

    def only_asked(self) -> "Examples":
        """Return the examples of which something is asked; the others would make empty steps."""
        targets = self.targets.flatten(1) if self.targets.dim() > 1 else self.targets[:, None]
        asked = ~targets.isnan() if targets.is_floating_point() else targets != NOT_ASKED
        rows = asked.any(1)
        return self if bool(rows.all()) else self.subset(rows.nonzero()[:, 0])

    def with_inputs(self, *inputs: Tensor) -> "Examples":
        """Return the same examples seen in another way. Raises ValueError as a new one does."""
        return self.of(inputs, self.targets).checked()

    def with_targets(self, targets: Tensor) -> "Examples":
        """Return the same examples with something else asked. Raises ValueError likewise."""
        return self.of(self.inputs, targets).checked()

    def of(self, inputs: Iterable[Tensor], targets: Tensor) -> "Examples":
        """Return examples of this kind with tensors that are known to fit: nothing is checked."""
        other = copy.copy(self)
        object.__setattr__(other, "inputs", tuple(inputs))
        object.__setattr__(other, "targets", targets)
        return other

    def subset(self, indices: Sequence[int]) -> "Examples":
        """Return the examples at these positions, in this order, as a copy. Raises ValueError
        where these are no integers, e.g. a mask."""
        index = torch.as_tensor(indices, device=self.targets.device)
        whole = index.dtype != torch.bool and torch.can_cast(index.dtype, torch.int64)
        require(whole or not index.numel(), "indices", index.dtype, "the positions, as integers")
        index = index.long()
        return self.of((tensor[index] for tensor in self.inputs), self.targets[index])

    def to(self, device: str | torch.device) -> "Examples":
        """Return the examples on `device`."""
        return self.of((tensor.to(device) for tensor in self.inputs), self.targets.to(device))

    def by_length(self) -> Tensor:
        """Return the order in which there is least padding to compute, (N,) int64."""
        if self.padded:
            return self.inputs[-1].argsort(stable=True)
        return torch.arange(len(self), device=self.targets.device)

    def batches(
        self, batch_size: int | None, generator: torch.Generator | None = None
    ) -> Iterator[Batch]:
        """Yield every example once, `batch_size` at a time (None: all; below 1: ValueError). With a
        CPU generator they are shuffled, and padded ones put beside others of similar length, since
        an RNN also computes the padding; without, the order is kept."""
        fine = batch_size is None or batch_size >= 1
        require(fine, "batch_size", batch_size, "at least 1, or None")
        for index in self._index_batches(batch_size or max(1, len(self)), generator):
            yield self._batch(*self._cut(index))

    def _cut(self, index: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        inputs, targets = [tensor[index] for tensor in self.inputs], self.targets[index]
        if self.padded:
            width, longest = self.inputs[0].shape[1], int(inputs[-1].max())
            inputs = [t[:, :longest] if t.shape[1:2] == (width,) else t for t in inputs]
            targets = targets[:, :longest] if self.objective.each_step else targets
        return tuple(inputs), targets

    def _index_batches(self, size: int, generator: torch.Generator | None) -> list[Tensor]:
        if not len(self):
            return []
        device = self.targets.device
        if generator is None:
            return list(torch.arange(len(self), device=device).split(size))
        order = torch.randperm(len(self), generator=generator, device="cpu").to(device)
        if not self.padded:
            return list(order.split(size))
        lengths = self.inputs[-1]
        batches = [
            batch
            for pool in order.split(size * _BATCHES_IN_POOL)
            for batch in pool[lengths[pool].argsort(stable=True)].split(size)
        ]
        shuffled = torch.randperm(len(batches), generator=generator, device="cpu")
        return [batches[place] for place in shuffled.tolist()]
