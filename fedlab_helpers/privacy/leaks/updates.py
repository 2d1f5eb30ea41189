"""The gradient of examples, and that behind the change which a client sends back."""

import copy

import torch
from torch import nn

from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.require import require
from fedlab_helpers.core.state import State, all_finite, require_same_shapes
from fedlab_helpers.core.training import LocalConfig

_EPS = 1e-8  # of torch.optim.Adam
_ALMOST_ONE = 1 - 1e-6  # where float32 cannot tell a change from the whole rate


def gradient_behind(change: State, config: LocalConfig) -> State:
    """Return the gradient of a client's one step, up to the factor by which it was clipped.

    Plain SGD moves a weight by `lr * g`. The first step of Adam (Kingma & Ba 2015,
    arXiv:1412.6980, Algorithm 1) moves it by `lr * g / (abs(g) + 1e-8)`, nearly the sign: this is
    solved for g, which rounding leaves possible only where g is small. After more steps than one,
    what comes back is that of a single step as long.

    Args:
        change: weights after the training less those before, by name.
        config: how the client trained.

    Raises:
        ValueError: there was weight decay, which moves weights without a gradient.
    """
    require(not config.weight_decay, "weight_decay", config.weight_decay, "none")
    if config.optimizer == "sgd":
        return {name: -tensor / config.lr for name, tensor in change.items()}
    found = {}
    for name, tensor in change.items():
        share = (-tensor.double() / config.lr).clamp(-_ALMOST_ONE, _ALMOST_ONE)
        found[name] = (share * _EPS / (1 - share.abs())).to(torch.float32)
    return found


def gradient_of(model: nn.Module, data: Examples) -> State:
    """Return the gradient of the mean loss of examples, by parameter, without dropout."""
    model = copy.deepcopy(model).eval()
    with torch.enable_grad():
        loss = data.objective.loss(model(*data.inputs), data.targets)
        found = torch.autograd.grad(loss, list(model.parameters()))
    return {name: g for (name, _), g in zip(model.named_parameters(), found, strict=True)}


def require_gradient(model: nn.Module, gradient: State) -> None:
    """Raise a ValueError that names what keeps this from being a gradient of the model: names,
    shapes, numbers that are not finite, or a head whose bias had none, so that no class is told.
    """
    require_same_shapes(dict(model.named_parameters()), gradient, "gradient")
    for name, tensor in gradient.items():
        fine = all_finite({name: tensor})
        require(fine, f"gradient: {name!r}", "NaN or infinity", "finite numbers")
    bias = gradient["head.bias"].tolist()
    require(any(bias), "gradient: 'head.bias'", bias, "a number that is not 0")
