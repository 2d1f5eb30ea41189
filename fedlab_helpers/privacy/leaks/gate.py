"""A server that silences whom it likes, so that a sum over clients is one client's."""

import torch
from torch import nn

from fedlab_helpers.core.require import require
from fedlab_helpers.core.state import State, of_model

_SHUT = -1e4  # its sigmoid is 0 in any precision
_COARSE = 10  # what is as large as this divided by its precision moves by steps of 4 or more


def shut(model: nn.Module) -> State:
    """Return weights from which no training without weight decay moves: whoever gets them sends
    zeros.

    The output gates are shut, so the output is 0 whatever is read and no gradient passes. The
    head's biases are raised, all by as much: a step is then lost in their rounding. So are the
    differences between them, and every class is as likely.

    Args:
        model: with one `recurrent` LSTM layer in one direction, and a linear `head`.
    """
    layer = getattr(model, "recurrent", None)
    fine = isinstance(layer, nn.LSTM) and layer.num_layers == 1 and not layer.bidirectional
    require(fine, "model.recurrent", layer, "one LSTM layer in one direction")
    state = of_model(model)
    state["recurrent.bias_ih_l0"] = state["recurrent.bias_ih_l0"].clone()
    state["recurrent.bias_ih_l0"][3 * layer.hidden_size :] = _SHUT  # gates i, f, g, o
    bias = state["head.bias"]
    state["head.bias"] = bias + _COARSE / torch.finfo(bias.dtype).eps
    return state
