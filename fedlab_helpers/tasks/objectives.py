"""What else than a class can be asked: numbers, next tokens, risks."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fedlab_helpers.core.objective import CLASSES, NOT_ASKED, Classes, Objective, unfit
from fedlab_helpers.core.require import require

__all__ = [
    "CLASSES", "NEXT_TOKEN", "NOT_ASKED", "NUMBERS", "RISK",
    "Classes", "NextToken", "Numbers", "Risk",
]  # fmt: skip


@dataclass(frozen=True)
class NextToken(Objective):
    """A token for each step: outputs (N, T, V), targets (N, T) int64, `NOT_ASKED` at padding.

    Args:
        top: recalls to measure; that of k is the share of tokens among the model's first k.
        never: ids that are never proposed when recall is measured, such as padding and unknown;
            those that outputs have no place for are passed over.
    """

    top: tuple[int, ...] = (1, 3)
    never: tuple[int, ...] = ()

    each_step = True

    @property
    def measure(self) -> str:
        """The recall of the first of `top`."""
        return f"recall@{self.top[0]}"

    def require(self, targets: Tensor) -> None:
        came = f"{tuple(targets.shape)} {targets.dtype}"
        fine = targets.dim() == 2 and targets.dtype == torch.int64
        require(fine, "NextToken: targets", came, "(N, T) int64")
        known = targets[targets != NOT_ASKED]
        least = int(known.min()) if len(known) else 0
        require(least >= 0, "NextToken: targets", least, "ids from 0 on")

    def _flat(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        if outputs.dim() != 3 or outputs.shape[:2] != targets.shape:
            raise unfit(outputs, targets, "(*targets, V)")
        return outputs.flatten(0, 1), targets.flatten()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(*self._flat(outputs, targets), ignore_index=NOT_ASKED)

    def asked(self, targets: Tensor) -> int:
        return int((targets != NOT_ASKED).sum())

    def judge(self, outputs: Tensor, targets: Tensor) -> Tensor:
        outputs, targets = self._flat(outputs, targets)
        there = targets != NOT_ASKED
        outputs, targets = outputs[there], targets[there]
        losses = functional.cross_entropy(outputs, targets, reduction="none")
        proposed = outputs.clone()
        proposed[:, [i for i in self.never if i < proposed.shape[1]]] = -torch.inf
        hits = proposed.topk(min(max(self.top), proposed.shape[1]), 1).indices == targets[:, None]
        return torch.stack([losses, *(hits[:, :k].any(1).to(losses.dtype) for k in self.top)], 1)

    def metrics(self, rows: Tensor) -> dict[str, float]:
        names = ("loss", *(f"recall@{k}" for k in self.top))
        return dict(zip(names, rows.double().mean(0).tolist(), strict=True))


class _Floats(Objective):
    """Floating-point targets of the outputs' shape, NaN where none is asked."""

    def require(self, targets: Tensor) -> None:
        fine = targets.is_floating_point() and not bool(targets.isinf().any())
        came = f"{tuple(targets.shape)} {targets.dtype}"
        expected = "finite floating-point numbers, or NaN where none is asked"
        require(fine, f"{type(self).__name__}: targets", came, expected)

    def asked(self, targets: Tensor) -> int:
        return int((~targets.isnan()).sum())

    def _asked(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        if outputs.shape != targets.shape:
            each = "; each_step=True where a number is asked at each step of padded series"
            raise unfit(outputs, targets, f"{tuple(targets.shape)}{each * (targets.dim() > 1)}")
        there = ~targets.isnan()
        return outputs[there], targets[there].to(outputs.dtype)


@dataclass(frozen=True)
class Numbers(_Floats):
    """A number for each target: outputs and targets of one shape; NaN where none is asked.

    Args:
        scale: what 1 is in the unit to report in.
        delta: beyond it the loss grows linearly (Huber); None: the squared error throughout.
        each_step: whether there is one for each step of a padded sequence, targets (N, T, …).
    """

    scale: float = 1.0
    delta: float | None = None
    each_step: bool = False

    measure = "rmse"
    higher_is_better = False

    def _losses(self, outputs: Tensor, targets: Tensor, reduction: str) -> Tensor:
        if self.delta is None:
            return functional.mse_loss(outputs, targets, reduction=reduction)
        return functional.huber_loss(outputs, targets, reduction=reduction, delta=self.delta)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self._losses(*self._asked(outputs, targets), "mean")

    def judge(self, outputs: Tensor, targets: Tensor) -> Tensor:
        outputs, targets = self._asked(outputs, targets)
        losses = self._losses(outputs, targets, "none")
        return torch.stack([losses, (outputs - targets) * self.scale], 1)

    def metrics(self, rows: Tensor) -> dict[str, float]:
        """As in `Objective`: "loss", "rmse", "mae"."""
        losses, errors = rows.double().unbind(1)
        rmse, mae = errors.square().mean().sqrt(), errors.abs().mean()
        return {"loss": float(losses.mean()), "rmse": float(rmse), "mae": float(mae)}


@dataclass(frozen=True)
class Risk(_Floats):
    """The probability of one event: outputs are logits of the targets' shape; targets 0 or 1, or
    probabilities to learn from; from 0.5 on they count as the event where they are measured.

    Args:
        each_step: whether there is one for each step of a padded sequence, targets (N, T).
    """

    each_step: bool = False

    measure = "auc"

    def require(self, targets: Tensor) -> None:
        super().require(targets)
        known = targets[~targets.isnan()]
        fine = bool(((known >= 0) & (known <= 1)).all())
        came = f"{known.min():g} to {known.max():g}" if len(known) else ""
        require(fine, "Risk: targets", came, "0 or 1, or probabilities in between")

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(*self._asked(outputs, targets))

    def judge(self, outputs: Tensor, targets: Tensor) -> Tensor:
        outputs, targets = self._asked(outputs, targets)
        losses = functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none")
        return torch.stack([losses, outputs, targets], 1)

    def metrics(self, rows: Tensor) -> dict[str, float]:
        """As in `Objective`: "loss", "auc" and "ap", average precision; NaN with one class only.

        The area under the ROC curve is no mean: not over batches, nor over clients.
        """
        from sklearn.metrics import average_precision_score, roc_auc_score

        losses, logits, targets = rows.double().unbind(1)
        events = targets >= 0.5
        both = bool(events.any() and not events.all())
        auc, ap = (
            float(score(events, logits)) if both else float("nan")
            for score in (roc_auc_score, average_precision_score)
        )
        return {"loss": float(losses.mean()), "auc": auc, "ap": ap}


NUMBERS, NEXT_TOKEN, RISK = Numbers(), NextToken(), Risk()
