"""What a client's labels are, for those parts that only classes have a meaning for."""

import torch
from torch import Tensor

from fedlab_helpers.tasks.reviews.encoded import EncodedReviews


def targets_of(data: EncodedReviews) -> Tensor:
    """Return what is asked of each example."""
    return data.targets if hasattr(data, "targets") else data.labels


def require_classes(who: str, data: EncodedReviews) -> None:
    """Raise a ValueError that begins with `who` unless the examples are asked for a class."""
    targets, objective = targets_of(data), getattr(data, "objective", None)
    soft = targets.is_floating_point()
    classes = getattr(objective, "classes", soft or targets.dim() == 1)
    if not classes or (soft and (targets.dim() < 2 or targets.shape[-1] < 2)):
        came = f"targets {tuple(targets.shape)} {targets.dtype}"
        named = f" of {objective!r}" if objective is not None else ""
        raise ValueError(f"{who}: needs a class for each example, got {came}{named}")


def class_shares(targets: Tensor, classes: int) -> Tensor:
    """Return how often each class occurs, a count of 1 added to each: (C,) float32, sum 1.

    Args:
        targets: classes, int64, below 0 where none is asked; or probabilities (…, C).
        classes: C.
    """
    if targets.is_floating_point():
        counts = targets.reshape(-1, classes).sum(0) + 1
    else:
        counts = torch.bincount(targets[targets >= 0], minlength=classes) + 1
    return counts.float() / counts.sum().float()
