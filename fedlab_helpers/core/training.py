"""Local training and evaluation of one model on one client's data."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event

import torch
from torch import Tensor, nn

from fedlab_helpers.core.compute import intra_op_threads, torch_rng
from fedlab_helpers.core.examples import Batch, Examples
from fedlab_helpers.core.model import seed_dropout, use_own_randomness
from fedlab_helpers.core.objective import Objective
from fedlab_helpers.core.require import (
    is_count,
    is_number,
    require,
    require_count,
    require_positive,
)


class Adam:
    """Kingma and Ba 2015, arXiv:1412.6980, bit for bit as `torch.optim.Adam`, in half the time: MKL
    needs 5 to 35 times as long for the root of a zero or of a denormal number, and most gradients
    of a table of words are zero."""

    def __init__(self, params: Iterable[Tensor], lr: float, weight_decay: float = 0.0):
        self.params, self.lr, self.decay = list(params), lr, weight_decay
        self.memory: dict[Tensor, tuple[int, Tensor, Tensor]] = {}

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.params:
            p.grad = None

    @torch.no_grad()
    def step(self, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> None:
        """Move each parameter that has a gradient."""
        for p in self.params:
            if p.grad is None:
                continue
            steps, mean, square = self.memory.get(p) or (0, *map(torch.zeros_like, (p, p)))
            self.memory[p] = (steps := steps + 1), mean, square
            gradient = p.grad.add(p, alpha=self.decay) if self.decay else p.grad
            mean.lerp_(gradient, 1 - b1)
            square.mul_(b2).addcmul_(gradient, gradient, value=1 - b2)
            # At most 1e-17 is left of such a root: in float32, nothing beside eps.
            root = square.clamp_min(1e-37 if p.dtype == torch.float32 else 0.0).sqrt_()
            size = root.div_((1 - b2**steps) ** 0.5).add_(eps)
            p.addcdiv_(mean, size, value=-self.lr / (1 - b1**steps))


OPTIMIZERS = {"adam": Adam, "sgd": torch.optim.SGD}


class Stopped(Exception):
    """Training was stopped between two batches because its `stop` event was set."""


@dataclass(frozen=True)
class LocalConfig:
    """How one client trains in one round.

    Args:
        epochs: passes over the client's examples.
        batch_size: examples a step; None: all at once.
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
        size, norm, decay = self.batch_size, self.max_grad_norm, self.weight_decay
        known = f"one of {sorted(OPTIMIZERS)}"
        require(self.optimizer in OPTIMIZERS, "optimizer", self.optimizer, known)
        require_count(epochs=self.epochs)
        fine = size is None or is_count(size)
        require(fine, "batch_size", size, "an integer of at least 1, or None")
        require_positive(lr=self.lr)
        fine = norm is None or (is_number(norm, 0) and norm > 0)
        require(fine, "max_grad_norm", norm, "a positive number, or None")
        require(is_number(decay, 0), "weight_decay", decay, "a number not below 0")

    def steps(self, examples: int) -> int:
        """Return how many optimiser steps a client with so many examples takes."""
        return self.epochs * math.ceil(examples / (self.batch_size or max(1, examples)))


@dataclass(frozen=True)
class Hooks:
    """What a strategy changes inside local training.

    Args:
        loss: (model, loss of the batch) -> loss that is differentiated.
        gradients: called with the model once its gradients are there, before clipping.
        logits: the model's outputs of a batch -> those that the loss is taken of.
        after: called with the model after each step.
    """

    loss: Callable[[nn.Module, Tensor], Tensor] | None = None
    gradients: Callable[[nn.Module], None] | None = None
    logits: Callable[[Tensor], Tensor] | None = None
    after: Callable[[nn.Module], None] | None = None


@dataclass(frozen=True)
class TrainingReport:
    """What a training was: steps, and the mean loss of each epoch over the targets asked."""

    steps: int
    losses: tuple[float, ...]


class Metrics(dict):
    """How well a model does, by name: "loss", then what its task measures, such as "accuracy", and
    "examples", the targets that were asked. `metrics.loss` is `metrics["loss"]`."""

    def __getattr__(self, name: str) -> float:
        if name in self:
            return self[name]
        raise AttributeError(f"{name}: these metrics are {list(self)}")


def train(
    model: nn.Module,
    data: Examples,
    config: LocalConfig,
    *,
    seed: int = 0,
    hooks: Hooks | None = None,
    stop: Event | None = None,
    max_steps: int | None = None,
) -> TrainingReport:
    """Train the model in place, on the device where it is.

    Args:
        model: called as `model(*batch.inputs)`. Its `nn.Dropout` become `SeededDropout`. Parts
            that are in evaluation mode while the whole is not stay so: a frozen BatchNorm, say.
        data: at least one example of which something is asked, on the model's device.
        seed: decides the order of the examples and the dropout masks.
        stop: looked at between batches.
        max_steps: training ends after so many optimiser steps, also within an epoch.

    Raises:
        Stopped: `stop` was set; the model keeps the steps it took.
        ValueError: there is nothing to learn from, no step to take, or a module that draws random
            numbers in a way that cannot be seeded.
    """
    fine = max_steps is None or is_count(max_steps)
    require(fine, "max_steps", max_steps, "an integer of at least 1, or None")
    hooks, device = hooks or Hooks(), _device(model)
    seed_dropout(use_own_randomness(model), torch_rng(seed, "dropout", device=device))
    order = torch_rng(seed, "order")
    weights, rates = model.parameters(), {"lr": config.lr, "weight_decay": config.weight_decay}
    optimizer = OPTIMIZERS[config.optimizer](weights, **rates)
    if not model.training:
        model.train()
    steps, losses = 0, []
    for _ in range(config.epochs):
        total, seen = torch.zeros((), device=device, dtype=torch.float32), 0
        for batch in data.batches(config.batch_size, order):
            if steps == max_steps:
                break
            _raise_if_stopped(stop)
            if asked := data.objective.asked(batch.targets):
                optimizer.zero_grad()
                total += _backward(model, batch, data.objective, hooks) * asked
                if config.max_grad_norm is not None:
                    clip_gradients(model, config.max_grad_norm)
                optimizer.step()
                if hooks.after:
                    hooks.after(model)
                steps, seen = steps + 1, seen + asked
        if seen:
            losses.append(float(total) / seen)
    if not steps:
        raise _nothing_asked(data)
    return TrainingReport(steps, tuple(losses))


def _backward(model: nn.Module, batch: Batch, objective: Objective, hooks: Hooks) -> Tensor:
    """Compute the gradients of the batch's mean loss, and return that."""
    with _as_it_is(model):
        outputs = model(*batch.inputs)
        loss = objective.loss(hooks.logits(outputs) if hooks.logits else outputs, batch.targets)
        (hooks.loss(model, loss) if hooks.loss else loss).backward()
    if hooks.gradients:
        hooks.gradients(model)
    return loss.detach()


def _raise_if_stopped(stop: Event | None) -> None:
    if stop is not None and stop.is_set():
        raise Stopped


def _nothing_asked(data: Examples) -> ValueError:
    came = f"{len(data)} examples of which nothing is asked" if len(data) else "no example"
    return ValueError(f"data: got {came}, expected at least one")


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
    scale = (max_norm / (torch.linalg.vector_norm(norms) + 1e-6)).clamp(max=1.0).float()
    for gradient in gradients:
        gradient.mul_(scale)


@torch.no_grad()
def predict(model: nn.Module, data: Examples, batch_size: int = 256) -> Tensor:
    """Return the model's outputs without dropout, (N, …) on the CPU, in the order of `data`.

    Raises ValueError if there is no example.
    """
    require(len(data) > 0, "data", len(data), "at least one example")
    if data.objective.each_step:  # outputs as wide as all inputs
        data = Examples(data.inputs, data.targets, data.objective)
    order = data.by_length()
    with _evaluating(model):
        batches = data.subset(order).to(_device(model)).batches(batch_size)
        outputs = torch.cat([model(*batch.inputs).cpu() for batch in batches])
    return torch.empty_like(outputs).index_copy_(0, order.cpu(), outputs)


def _device(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _as_it_is(model: nn.Module) -> torch.autocast:
    """Compute in the model's own dtype: autocast would go on with copies of weights that have moved
    since, and in clients' threads it is off."""
    return torch.autocast(_device(model).type, enabled=False)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Switch the model to evaluation, and each of its modules back after; in one intra-op thread:
    several wait for each other, step by step, where other programs are at work."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with intra_op_threads(1), _as_it_is(model):
            yield
    finally:
        for module, training in modes:
            module.training = training


@torch.no_grad()
def judged(
    model: nn.Module, data: Examples, batch_size: int = 256, stop: Event | None = None
) -> Tensor:
    """Return a row for each target that is asked, (n, k), as the data's objective judges them,
    without dropout, in any order. Outputs are judged batch by batch and not kept; the model's
    train/eval mode stays. Raises ValueError if nothing is asked, and Stopped once `stop` is set."""
    if not data.asked:
        raise _nothing_asked(data)
    with _evaluating(model):
        rows = []
        for batch in data.subset(data.by_length()).to(_device(model)).batches(batch_size):
            _raise_if_stopped(stop)
            rows.append(data.objective.judge(model(*batch.inputs), batch.targets).cpu())
    return torch.cat(rows)


def evaluate(
    model: nn.Module, data: Examples, batch_size: int = 256, stop: Event | None = None
) -> Metrics:
    """Return the loss and the measures of the data's objective; as `judged`, of which they are."""
    rows = judged(model, data, batch_size, stop)
    return Metrics(data.objective.metrics(rows), examples=len(rows))
