"""What a client's labels are, for those parts that only classes have a meaning for."""

import torch
from torch import Tensor

from fedlab_helpers.core.objective import Objective
from fedlab_helpers.core.require import require


def require_classes(who: str, objective: Objective) -> None:
    """Raise a ValueError that begins with `who` unless a class is asked for each example."""
    if not objective.classes:
        raise ValueError(f"{who}: needs a class for each example, got targets of {objective!r}")


def class_shares(targets: Tensor, classes: int) -> Tensor:
    """Return how often each class occurs, a count of 1 added to each: (C,) float32, sum 1.

    Args:
        targets: classes, int64, below 0 where none is asked; or probabilities (…, C).
        classes: C.
    """
    if targets.is_floating_point():
        fine = targets.dim() > 1 and targets.shape[-1] == classes
        shape = tuple(targets.shape)
        require(fine, "probabilities of classes", shape, f"(…, {classes}); classes are int64")
        counts = targets.reshape(-1, classes).sum(0) + 1
    else:
        counts = torch.bincount(targets[targets >= 0], minlength=classes) + 1
    return counts.float() / counts.sum().float()
