"""Models that repeat: dropout that draws from a generator of its own, hidden randomness refused."""

import random
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from fedlab_helpers.core.identity import digest
from fedlab_helpers.core.require import require

_REPEAT = "so clients in threads would not repeat; expected modules nn.Dropout or SeededDropout"


class SeededDropout(nn.Module):
    """Dropout whose masks come from `generator`; p is the probability of a zero, in [0, 1).

    `nn.Dropout` draws from torch's one global CPU generator: clients that train in threads would
    then take each other's random numbers, and no run would repeat.
    """

    def __init__(self, p: float):
        super().__init__()
        require(0 <= p < 1, "dropout", p, "a probability in [0, 1)")
        self.p = p
        self.generator: torch.Generator | None = None  # None: torch's global one

    def forward(self, values: Tensor) -> Tensor:
        """Return `values` with a random share set to zero and the rest scaled by 1/(1-p)."""
        if not self.training or self.p == 0:
            return values
        draws = torch.rand(
            values.shape, generator=self.generator, device=values.device, dtype=torch.float32
        )
        return values * (draws >= self.p) / (1 - self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"


def use_own_randomness(model: nn.Module) -> nn.Module:
    """Replace, in place, each `nn.Dropout` by `SeededDropout`, and return the model. Raises
    ValueError, by name, where a module draws random numbers in a way that cannot be seeded."""
    # One module under two names must be replaced under both.
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if type(module) is nn.Dropout:
            owner, _, leaf = name.rpartition(".")
            seeded = SeededDropout(module.p).train(module.training)
            setattr(model.get_submodule(owner), leaf, seeded)
        elif _draws_globally(module):
            kind = f"{name or 'the model itself'} is a {type(module).__name__}"
            raise ValueError(f"model: {kind} that draws from torch's global generator, {_REPEAT}")
    return model


def _draws_globally(module: nn.Module) -> bool:
    if isinstance(module, nn.modules.dropout._DropoutNd | nn.RReLU):
        return getattr(module, "p", 1) > 0
    return isinstance(module, nn.RNNBase | nn.MultiheadAttention) and module.dropout > 0


def seed_dropout(model: nn.Module, generator: torch.Generator) -> None:
    """Let every `SeededDropout` of the model draw from `generator`, on the model's device."""
    for module in model.modules():
        if isinstance(module, SeededDropout):
            module.generator = generator


@torch.no_grad()
def require_repeatable(model: nn.Module, inputs: Sequence[Tensor]) -> None:
    """Raise ValueError if the model, called as in training with the inputs of a batch, draws from
    a global generator or from one that it holds; neither its mode nor its buffers are what they
    were afterwards."""
    before, own = _global_states(), _own_states(model)
    model = model if model.training else model.train()
    model(*inputs)
    drawn = [name for name, state in _global_states().items() if state != before[name]]
    if drawn:
        kind = f"its forward draws from the global generator of {' and '.join(drawn)}"
        raise ValueError(f"model: {kind}, as functional.dropout does, {_REPEAT}")
    if _own_states(model) != own:
        raise ValueError(f"model: its forward draws from a generator of its own, {_REPEAT}")


def _own_states(model: nn.Module) -> list[str]:
    kinds = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
    others = (m for m in model.modules() if not isinstance(m, SeededDropout))
    return [digest(held) for m in others for held in vars(m).values() if isinstance(held, kinds)]


def _global_states() -> dict[str, object]:
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 (looked at, not drawn from)
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": (kind, keys.tobytes(), *rest),
        "random": random.getstate(),
    }
