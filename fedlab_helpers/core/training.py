"""Local training and evaluation of one model on one client's data."""

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedlab_helpers.core.compute import torch_rng
from fedlab_helpers.core.model import seed_dropout
from fedlab_helpers.tasks.reviews.encoded import Batch, EncodedReviews

OPTIMIZERS = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}


class Stopped(Exception):
    """Training was stopped between two batches because its `stop` event was set."""


@dataclass(frozen=True)
class LocalConfig:
    """How one client trains in one round.

    Args:
        epochs: passes over the client's reviews.
        batch_size: reviews a step; None: all at once.
        lr: learning rate.
        optimizer: "adam" or "sgd" (no momentum); a new one each round, so that no state leaks
            from one client to the next.
        max_grad_norm: gradients longer than this are scaled down to it; None: never.
        weight_decay: L2 penalty as the optimiser applies it.

    Raises:
        ValueError: a value is outside what is named here.
    """

    epochs: int = 1
    batch_size: int | None = 32
    lr: float = 5e-3
    optimizer: str = "adam"
    max_grad_norm: float | None = 1.0
    weight_decay: float = 0.0

    def __post_init__(self):
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(
                f"optimizer: got {self.optimizer!r}, expected one of {sorted(OPTIMIZERS)}"
            )
        size, norm = self.batch_size, self.max_grad_norm
        checks = {
            "epochs": (_is_count(self.epochs), "an integer of at least 1"),
            "batch_size": (size is None or _is_count(size), "an integer of at least 1, or None"),
            "lr": (_is_number(self.lr) and self.lr > 0, "a positive number"),
            "max_grad_norm": (
                norm is None or (_is_number(norm) and norm > 0),
                "a positive number, or None",
            ),
            "weight_decay": (
                _is_number(self.weight_decay) and self.weight_decay >= 0,
                "a number not below 0",
            ),
        }
        for name, (fine, accepted) in checks.items():
            if not fine:
                raise ValueError(f"{name}: got {getattr(self, name)!r}, expected {accepted}")

    def steps(self, examples: int) -> int:
        """Return how many optimiser steps a client with so many reviews takes."""
        return self.epochs * math.ceil(examples / (self.batch_size or max(1, examples)))


def _is_count(value: object) -> bool:
    return isinstance(value, Integral) and value >= 1


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


@dataclass(frozen=True)
class Hooks:
    """What a strategy changes inside local training.

    Args:
        loss: (model, loss of the batch) -> loss that is differentiated.
        gradients: called with the model once its gradients are there, before clipping.
        logits: (B, C) of a batch -> those that the loss is taken of.
        after: called with the model after each step.
    """

    loss: Callable[[nn.Module, Tensor], Tensor] | None = None
    gradients: Callable[[nn.Module], None] | None = None
    logits: Callable[[Tensor], Tensor] | None = None
    after: Callable[[nn.Module], None] | None = None


@dataclass(frozen=True)
class TrainingReport:
    """What a training was: steps, and the mean loss (nats) of each epoch over the reviews seen."""

    steps: int
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Metrics:
    """How well a model does: mean cross-entropy in nats, share of right answers, reviews."""

    loss: float
    accuracy: float
    examples: int


def train(
    model: nn.Module,
    data: EncodedReviews,
    config: LocalConfig,
    *,
    seed: int = 0,
    hooks: Hooks | None = None,
    stop: threading.Event | None = None,
    max_steps: int | None = None,
) -> TrainingReport:
    """Train the model in place, on the device where it is.

    Args:
        model: called as `model(tokens, lengths)`, returns logits (B, C).
        data: at least one review, on the model's device.
        config: epochs, batches, optimiser.
        seed: decides the order of the reviews and the dropout masks.
        hooks: changes to loss and gradients.
        stop: looked at between batches.
        max_steps: training ends after so many optimiser steps, also within an epoch.

    Raises:
        Stopped: `stop` was set; the model keeps the steps it took.
        ValueError: there is no review, or no step to take.
    """
    if not len(data):
        raise ValueError("data: got no review, expected at least one")
    if not (max_steps is None or _is_count(max_steps)):
        raise ValueError(
            f"max_steps: got {max_steps!r}, expected an integer of at least 1, or None"
        )
    hooks = hooks or Hooks()
    device = next(model.parameters()).device
    seed_dropout(model, torch_rng(seed, "dropout", device=device))
    order = torch_rng(seed, "order")
    optimizer = OPTIMIZERS[config.optimizer](
        model.parameters(), lr=config.lr, weight_decay=config.weight_decay
    )
    model.train()
    steps, losses = 0, []
    for _ in range(config.epochs):
        total, seen = torch.zeros((), device=device), 0
        for batch in data.batches(config.batch_size, order):
            if steps == max_steps:
                break
            if stop is not None and stop.is_set():
                raise Stopped
            total += _step(model, optimizer, batch, config, hooks) * len(batch.labels)
            steps, seen = steps + 1, seen + len(batch.labels)
        if seen:
            losses.append(float(total) / seen)
    return TrainingReport(steps, tuple(losses))


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    config: LocalConfig,
    hooks: Hooks,
) -> Tensor:
    """Take one optimiser step and return the batch's mean loss before it."""
    logits = model(batch.tokens, batch.lengths)
    loss = cross_entropy(hooks.logits(logits) if hooks.logits else logits, batch.labels)
    optimizer.zero_grad()
    (hooks.loss(model, loss) if hooks.loss else loss).backward()
    if hooks.gradients:
        hooks.gradients(model)
    if config.max_grad_norm is not None:
        clip_gradients(model, config.max_grad_norm)
    optimizer.step()
    if hooks.after:
        hooks.after(model)
    return loss.detach()


def clip_gradients(model: nn.Module, max_norm: float) -> None:
    """Scale all gradients together, in place, so that their norm is at most `max_norm`.

    The same as `nn.utils.clip_grad_norm_`, but for the norm being summed in float64: so it does
    not depend on how many rows of zeros an embedding's gradient has.
    """
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    if not gradients:  # a hook took them all
        return
    # Apple's MPS has no float64.
    wide = torch.float32 if gradients[0].device.type == "mps" else torch.float64
    norms = torch.stack([torch.linalg.vector_norm(g, dtype=wide) for g in gradients])
    total = torch.linalg.vector_norm(norms)
    scale = (max_norm / (total + 1e-6)).clamp(max=1.0).float()
    for gradient in gradients:
        gradient.mul_(scale)


@torch.no_grad()
def predict(model: nn.Module, data: EncodedReviews, batch_size: int = 256) -> Tensor:
    """Return the model's logits without dropout, (N, C) on the CPU, in the order of `data`.

    Raises:
        ValueError: there is no review.
    """
    if not len(data):
        raise ValueError("data: got no review, expected at least one")
    device = next(model.parameters()).device
    by_length = data.lengths.argsort(stable=True)  # little padding to compute
    batches = data.subset(by_length).to(device).batches(batch_size)
    with _evaluating(model):
        logits = torch.cat([model(batch.tokens, batch.lengths).cpu() for batch in batches])
    return torch.empty_like(logits).index_copy_(0, by_length.cpu(), logits)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Switch the model to evaluation, and each of its modules back to its own mode after."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def evaluate(model: nn.Module, data: EncodedReviews, batch_size: int = 256) -> Metrics:
    """Return loss and accuracy of the model, without dropout; its train/eval mode stays.

    Raises:
        ValueError: there is no review.
    """
    logits, labels = predict(model, data, batch_size), data.labels.cpu()
    accuracy = (logits.argmax(1) == labels).double().mean()
    return Metrics(float(cross_entropy(logits, labels)), float(accuracy), len(data))
