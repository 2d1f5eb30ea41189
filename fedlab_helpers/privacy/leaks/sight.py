"""What a server sees of a client's examples, on the ways on which it may be sent."""

import copy

from torch import nn

from fedlab_helpers.core.compute import child_seed, torch_rng
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.messages import Codec
from fedlab_helpers.core.state import State, of_model, subtract
from fedlab_helpers.core.training import LocalConfig, train
from fedlab_helpers.privacy.leaks.updates import gradient_behind, gradient_of
from fedlab_helpers.privacy.noise import Clip, GaussianNoise


def seen(
    model: nn.Module,
    data: Examples,
    *,
    config: LocalConfig | None = None,
    undone: bool = True,
    clip: float | None = None,
    noise: float = 0.0,
    codec: Codec | None = None,
    seed: int = 0,
) -> State:
    """Return what a client sends, dense, in the direction of a gradient.

    Args:
        model: that it received; left as it is.
        data: its examples.
        config: how it trains; None: it sends the gradient of its mean loss, without dropout.
        undone: whether the attacker solves a training's change for the gradient of one step, as
            `gradient_behind` does; else it is the change, negated.
        clip: Euclidean length to which it is scaled down; None: not.
        noise: standard deviation of what is then added to each value.
        codec: that writes it; None: in float32.
        seed: of the training, the noise and the codec.
    """
    if config is None:
        found = gradient_of(model, data)
    else:
        learner = copy.deepcopy(model)
        train(learner, data, config, seed=child_seed(seed, "training"))
        change = subtract(of_model(learner), of_model(model))
        found = gradient_behind(change, config) if undone else {n: -t for n, t in change.items()}
    if clip is not None:
        found = Clip(clip).of(found)
    if noise:
        found = GaussianNoise(noise, repeatable=True).of(found, torch_rng(seed, "noise"))
    if codec is None:
        return found
    return codec.decode(codec.encode(found, torch_rng(seed, "codec")))
