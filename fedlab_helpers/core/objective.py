"""What is asked of a model, and how its answers are judged."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

NOT_ASKED = -100  # an integer target that does not count; among floating-point ones it is NaN


class Objective(Protocol):
    """Turns outputs and targets into a loss to descend, and into measures; a frozen value.

    Args:
        measure: name of the first measure, such as "accuracy".
        higher_is_better: of that measure.
        classes: whether there is one class for each example.
        each_step: whether something is asked at each step of a sequence, targets (N, T, …).
    """

    measure: str
    higher_is_better: bool
    classes: bool
    each_step: bool

    def require(self, targets: Tensor) -> None:
        """Raise ValueError, with their shape and dtype, unless targets are such as are asked."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss over the targets that are asked, a scalar; with its gradient.

        Raises:
            ValueError: outputs and targets do not fit each other; the message has both shapes.
        """

    def asked(self, targets: Tensor) -> int:
        """Return how many targets count: the weight of a batch, and of a client in a mean."""

    def judge(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return a row for each target that is asked, (n, k); its first column is the loss."""

    def metrics(self, rows: Tensor) -> dict[str, float]:
        """Return "loss", then `measure`, then others, of rows that may come from many batches."""


@dataclass(frozen=True)
class Classes:
    """One class for each example: outputs are logits, (N, C).

    Targets are (N,) int64, `NOT_ASKED` where none is asked; or, to learn from, probabilities of
    each class, (N, C) floating point with C at least 2.
    """

    measure = "accuracy"
    higher_is_better = True
    classes = True
    each_step = False

    def require(self, targets: Tensor) -> None:
        """As in `Objective`."""
        came = f"classes: targets are {tuple(targets.shape)} {targets.dtype}"
        if targets.is_floating_point():
            if targets.dim() != 2 or targets.shape[1] < 2:
                raise ValueError(
                    f"{came}, expected (N,) int64, or probabilities (N, C) of at least 2 classes"
                )
            off = targets.numel() and (
                not bool((targets >= 0).all()) or float((targets.sum(1) - 1).abs().max()) > 1e-2
            )
            if off:
                raise ValueError(f"{came} that are no probabilities, whose rows sum to 1")
        elif targets.dim() != 1 or targets.dtype != torch.int64:
            raise ValueError(f"{came}, expected (N,) int64, or probabilities (N, C)")
        elif bool(((targets < 0) & (targets != NOT_ASKED)).any()):
            raise ValueError(f"classes: got {int(targets.min())}, expected them from 0 on")

    def _require_fit(self, outputs: Tensor, targets: Tensor) -> None:
        soft = targets.is_floating_point()
        fits = outputs.shape == targets.shape if soft else outputs.shape[:1] == targets.shape
        if outputs.dim() != 2 or not fits:
            expected = tuple(targets.shape) if soft else f"({len(targets)}, C)"
            raise unfit(outputs, targets, expected)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """As in `Objective`: the cross-entropy, in nats."""
        self._require_fit(outputs, targets)
        return functional.cross_entropy(outputs, targets, ignore_index=NOT_ASKED)

    def asked(self, targets: Tensor) -> int:
        """As in `Objective`."""
        soft = targets.is_floating_point()
        return len(targets) if soft else int((targets != NOT_ASKED).sum())

    def judge(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """As in `Objective`: loss, and 1 where the answer is right."""
        self._require_fit(outputs, targets)
        if targets.is_floating_point():
            losses, right = functional.cross_entropy(outputs, targets, reduction="none"), targets
            right = outputs.argmax(1) == targets.argmax(1)
        else:
            there = targets != NOT_ASKED
            outputs, targets = outputs[there], targets[there]
            losses = functional.cross_entropy(outputs, targets, reduction="none")
            right = outputs.argmax(1) == targets
        return torch.stack([losses, right.to(losses.dtype)], 1)

    def metrics(self, rows: Tensor) -> dict[str, float]:
        """As in `Objective`."""
        return dict(zip(("loss", "accuracy"), rows.double().mean(0).tolist(), strict=True))


def unfit(outputs: Tensor, targets: Tensor, expected: object) -> ValueError:
    """Return the error that outputs and targets do not fit, with both shapes."""
    shapes = f"{tuple(outputs.shape)} for targets of {tuple(targets.shape)}"
    return ValueError(f"outputs: got {shapes}, expected {expected}")


CLASSES = Classes()
