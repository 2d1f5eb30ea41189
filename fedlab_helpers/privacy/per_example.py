"""DP-SGD: what a client sends hardly depends on any one of its examples.

Abadi et al. 2016, arXiv:1607.00133, Algorithm 1. Each step draws examples, clips the gradient of
each, adds noise to their sum, and divides it by the number that was expected.

private, local = PerExample(1.0, 0.8), LocalConfig(1, 60, 0.5, "sgd", max_grad_norm=None)
private.train(model, data, local)
private.epsilon(len(data), local)
"""

import math
import secrets
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedlab_helpers.core.compute import torch_rng
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.model import seed_dropout
from fedlab_helpers.core.require import require
from fedlab_helpers.core.state import buffer_names
from fedlab_helpers.core.training import (
    Hooks,
    LocalConfig,
    TrainingReport,
    clip_gradients,
    train,
)
from fedlab_helpers.privacy.budget import Mechanism
from fedlab_helpers.privacy.noise import require_clip_and_noise
from fedlab_helpers.privacy.randomness import normal, uniform


@dataclass(frozen=True)
class PerExample:
    """Puts a private gradient in the place of each batch's: a sum of clipped ones, with noise.

    All else is as `LocalConfig` says: a client of n examples takes `config.steps(n)` steps, and in
    each of them draws every example by its own coin, `config.batch_size` of them on average.
    `max_grad_norm`, the optimiser and its weight decay get the private gradient, so they cost
    nothing. Noise reaches every value, also the vectors of padding and of words that the client
    does not have, so updates are to be sent whole.

    Epsilon says what the weights of all steps tell of one example to those who see them, the
    server too. It does not cover what a client reports: how many examples it has, by which a mean
    may weight it and which decides its steps, and its losses, which are those of its examples in
    batches without noise. Who has k examples among them is not covered as one.

    Coins, dropout masks and noise are drawn from generators that the system seeds, so a run is not
    repeatable: who could draw the coins again would know who was in a step. An example whose
    gradient is not finite counts as zero.

    Args:
        clip: the largest Euclidean norm of an example's gradient, over all tensors together, above
            0; inf, without noise only: none is clipped.
        noise_multiplier: standard deviation of the noise on each value of the sum, in `clip`s, at
            least 0; with 0, epsilon is inf. `budget.noise_multiplier_for` finds that of a budget.
        delta: above 0 and below 1.
        repeatable: draw from the training's seed after all; protects nobody, but can be shown
            twice.

    Raises ValueError for a value out of range.
    """

    clip: float
    noise_multiplier: float
    delta: float = 1e-5
    repeatable: bool = False

    def __post_init__(self):
        require_clip_and_noise(self.clip, self.noise_multiplier)
        Mechanism(1.0, 0, 1, 1, delta=self.delta)

    @property
    def secret(self) -> bool:
        """Whether nobody may be able to draw the same again."""
        return self.noise_multiplier > 0 and not self.repeatable

    def epsilon(self, examples: int, config: LocalConfig, rounds: int = 1) -> float:
        """Return epsilon, at `delta`, of a client with so many examples in which something is
        asked, for a neighbour with one example more or less.

        Args:
            rounds: in which it took part, each with all its steps: of records,
                `sum(client in record.cohort for record in records)`. One that was interrupted and
                begun again counts twice.
        """
        if self.noise_multiplier == 0:
            return math.inf
        steps, expected = rounds * config.steps(examples), _expected(config, examples)
        run = (self.noise_multiplier, steps, examples, expected, "poisson", self.delta)
        return Mechanism(*run).epsilon()

    def train(
        self, model: nn.Module, data: Examples, config: LocalConfig, *, seed: int = 0
    ) -> TrainingReport:
        """Train the model in place, on one client's examples; arguments and report as of
        `training.train`. Raises ValueError as that does, and as `hooks` does."""
        data = data.only_asked()
        return train(model, data, config, seed=seed, hooks=self.hooks(model, data, config, seed))

    def hooks(self, model: nn.Module, data: Examples, config: LocalConfig, seed: int = 0) -> Hooks:
        """Return what makes of a training of this model on these examples a private one.

        Raises ValueError where the model has buffers, which would carry something from one example
        to the next, or weights that are no real floating-point numbers.
        """
        weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
        kept = sorted(buffer_names(model))
        require(not kept, "model: buffers", kept, "a model without: they see examples unclipped")
        odd = sorted({str(w.dtype) for w in weights if not w.is_floating_point()})
        require(not odd, "model: weights", odd, "floating-point numbers, to which noise is added")
        data, seed = data.only_asked(), secrets.randbits(63) if self.secret else seed
        expected = _expected(config, len(data))
        coins, noise = (
            None if self.secret else torch_rng(seed, name) for name in ("examples", "noise")
        )
        masks = torch_rng(seed, "dropout", device=weights[0].device)
        std = self.noise_multiplier * self.clip if self.noise_multiplier else 0.0

        def replace(model: nn.Module) -> None:
            seed_dropout(model, masks)
            drawn = uniform(len(data), coins) < expected / len(data)
            sums = self._clipped_sums(model, data, drawn.nonzero()[:, 0].tolist(), weights)
            for weight, total in zip(weights, sums, strict=True):
                weight.grad = (total + std * normal(total.shape, noise).to(total)) / expected

        return Hooks(gradients=replace)

    def _clipped_sums(
        self, model: nn.Module, data: Examples, drawn: list[int], weights: list[nn.Parameter]
    ) -> list[Tensor]:
        """Return the sum of the drawn examples' clipped gradients, for each of the weights."""
        sums = [torch.zeros_like(weight) for weight in weights]
        for place in drawn:
            (example,) = data.subset([place]).batches(1)
            model.zero_grad()
            data.objective.loss(model(*example.inputs), example.targets).backward()
            clip_gradients(model, self.clip)
            for weight, total in zip(weights, sums, strict=True):
                if weight.grad is not None:
                    total += weight.grad.nan_to_num(0.0, 0.0, 0.0)
        return sums


def _expected(config: LocalConfig, examples: int) -> int:
    return min(config.batch_size or examples, examples)
