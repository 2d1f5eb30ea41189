"""What is asked of a model, and how its answers are judged."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

NOT_ASKED = -100  # an integer target that does not count; among floating-point ones it is NaN


class Objective:
    """Turns outputs and targets into a loss to descend, and into measures; a frozen value.

    Args:
        measure: name of the first measure, such as "accuracy".
        higher_is_better: of that measure.
        classes: whether there is one class for each example.
        each_step: whether something is asked at each step of a sequence, targets (N, T, …).
    """

    measure: str
    higher_is_better: bool = True
    classes: bool = False
    each_step: bool = False

    def require(self, targets: Tensor) -> None:
        """Raise ValueError, with their shape and dtype, unless targets are such as are asked."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss over the targets that are asked, a scalar with its gradient. Raises
        ValueError, with both shapes, where outputs and targets do not fit each other."""
        raise NotImplementedError

    def asked(self, targets: Tensor) -> int:
        """Return how many targets count: the weight of a batch, and of a client in a mean."""
        raise NotImplementedError

    def judge(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return a row for each target that is asked, (n, k); its first column is the loss."""
        raise NotImplementedError

    def metrics(self, rows: Tensor) -> dict[str, float]:
        """Return "loss", `measure` and perhaps others, of rows that may come from many batches."""
        names = ("loss", self.measure)
        return dict(zip(names, rows.double().mean(0).tolist(), strict=True))


def unfit(outputs: Tensor, targets: Tensor, expected: object) -> ValueError:
    """Return the error that outputs and targets do not fit, with both shapes."""
    shapes = f"{tuple(outputs.shape)} for targets of {tuple(targets.shape)}"
    return ValueError(f"outputs: got {shapes}, expected {expected}")


@dataclass(frozen=True)
class Classes(Objective):
    """One class for each example: outputs are logits, (N, C); the loss is in nats.

    Targets are (N,) int64, `NOT_ASKED` where none is asked; or, to learn from, probabilities of
    each class, (N, C) floating point with C at least 2.
    """

    measure = "accuracy"
    classes = True

    def require(self, targets: Tensor) -> None:
        came = f"classes: targets are {tuple(targets.shape)} {targets.dtype}"
        soft = targets.is_floating_point()
        fits = targets.dim() == 2 and targets.shape[1] > 1 if soft else targets.dim() == 1
        if not fits or not (soft or targets.dtype == torch.int64):
            wanted = "(N,) int64, probabilities (N, C) of at least 2 classes, or an objective that "
            wanted += "asks something else, such as objectives.NUMBERS"
            raise ValueError(f"{came}, expected {wanted}")
        if soft:
            off = (targets.sum(1) - 1).abs()
            if not bool((targets >= 0).all() and (off < 1e-2).all()):
                raise ValueError(f"{came} that are no probabilities, whose rows sum to 1")
        elif bool(((targets < 0) & (targets != NOT_ASKED)).any()):
            raise ValueError(f"classes: got {int(targets.min())}, expected them from 0 on")

    def _require_fit(self, outputs: Tensor, targets: Tensor) -> None:
        soft = targets.is_floating_point()
        fits = outputs.shape == targets.shape if soft else outputs.shape[:1] == targets.shape
        if outputs.dim() != 2 or not fits:
            raise unfit(outputs, targets, tuple(targets.shape) if soft else f"({len(targets)}, C)")

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self._require_fit(outputs, targets)
        return cross_entropy(outputs, targets, ignore_index=NOT_ASKED)

    def asked(self, targets: Tensor) -> int:
        soft = targets.is_floating_point()
        return len(targets) if soft else int((targets != NOT_ASKED).sum())

    def judge(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self._require_fit(outputs, targets)
        classes = targets.argmax(1) if targets.is_floating_point() else targets
        losses = cross_entropy(outputs, targets, reduction="none", ignore_index=NOT_ASKED)
        right = (outputs.argmax(1) == classes).to(losses.dtype)
        return torch.stack([losses, right], 1)[classes != NOT_ASKED]


CLASSES = Classes()
