"""A server that silences whom it likes, so that a sum over clients is one client's."""

from torch import nn

from fedlab_helpers.core.require import require
from fedlab_helpers.core.state import State, of_model

_SHUT, _HUGE = -1e4, 1e8


def shut(model: nn.Module) -> State:
    """Return weights from which no training moves: whoever gets them sends zeros.

    The output gates are shut, so the output is 0 whatever is read and no gradient passes. The
    head's biases are raised, all by as much, which no softmax notices: a step is then lost in
    their rounding.

    Args:
        model: with one `recurrent` LSTM layer in one direction, and a linear `head`.
    """
    layer = getattr(model, "recurrent", None)
    fine = isinstance(layer, nn.LSTM) and layer.num_layers == 1 and not layer.bidirectional
    require(fine, "model.recurrent", layer, "one LSTM layer in one direction")
    state = of_model(model)
    state["recurrent.bias_ih_l0"] = state["recurrent.bias_ih_l0"].clone()
    state["recurrent.bias_ih_l0"][3 * layer.hidden_size :] = _SHUT  # gates i, f, g, o
    state["head.bias"] = state["head.bias"] + _HUGE
    return state
