"""Pruning: single weights set to zero, or whole hidden units taken out."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from fedlab_helpers.core.require import require, require_share
from fedlab_helpers.core.state import State, of_model
from fedlab_helpers.core.training import Hooks
from fedlab_helpers.tasks.layers import CELLS
from fedlab_helpers.tasks.reviews.model import SentimentLSTM


def smallest_masks(model: nn.Module, share: float) -> State:
    """Return which weights stay when the smallest of each matrix are pruned.

    Han et al. 2015, arXiv:1506.02626. Biases, and vectors in general, are not pruned. Zeros are
    pruned first, and count. Not the smallest of all together: a table of words begins with weights
    some ten times as large as those of a recurrent layer, so that all of the latter would go.

    Args:
        model: not changed.
        share: of the weights in each matrix that goes, in [0, 1).

    Returns:
        Name of each matrix -> bool tensor of its shape, True where the weight stays.
    """
    require_share(share=share)
    masks = {n: torch.ones_like(p, dtype=torch.bool) for n, p in model.named_parameters()}
    masks = {name: mask for name, mask in masks.items() if mask.dim() == 2}
    for name, mask in masks.items():
        sizes = model.get_parameter(name).detach().abs().flatten()
        mask.view(-1)[sizes.topk(int(share * len(sizes)), largest=False).indices] = False
    return masks


def apply_masks(model: nn.Module, masks: State) -> None:
    """Set to zero, in place, what the masks do not keep.

    Raises:
        ValueError: there is a mask for what the model does not have.
    """
    parameters = dict(model.named_parameters())
    odd = sorted(masks.keys() - parameters.keys())
    require(not odd, "masks", odd, f"some of {sorted(parameters)}")
    with torch.no_grad():
        for name, mask in masks.items():
            parameters[name].mul_(mask)


def keep_pruned(masks: State) -> Hooks:
    """Return the hook that keeps pruned weights at zero while a model trains on."""
    return Hooks(after=lambda model: apply_masks(model, masks))


def unit_sizes(model: SentimentLSTM) -> Tensor:
    """Return how large each hidden unit's weights are, (H,): the root of the sum of squares of all
    that goes into it, in all gates, and of all that comes out of it."""
    require_plain(model)
    state = of_model(model)
    hidden = state["head.weight"].shape[1]
    squares = state["head.weight"].square().sum(0)
    for name, tensor in state.items():
        if name.startswith("recurrent."):
            squares = squares + tensor.square().view(-1, hidden, tensor[0].numel()).sum((0, 2))
    return (squares + state["recurrent.weight_hh_l0"].square().sum(0)).sqrt()


def keep_units(model: SentimentLSTM, units: Iterable[int]) -> SentimentLSTM:
    """Return a truly smaller model, of some of the hidden units only.

    A unit is a row in each gate (four in an LSTM, three in a GRU), a column of the recurrent
    matrix, and a column of the head: all go, or none. (Structured sparsity of an LSTM's hidden
    state: Wen et al. 2018, arXiv:1709.05027.)

    Args:
        model: not changed; one recurrent layer.
        units: those that stay, each once.

    Raises:
        ValueError: there is none, or one is not among the model's, or comes twice; or the model is
            another than `require_plain` knows.
    """
    require_plain(model)
    state, chosen = of_model(model), torch.as_tensor(list(units)).tolist()
    hidden = state["head.weight"].shape[1]
    once = len({*chosen}) == len(chosen) and {*chosen} <= {*range(hidden)}
    require(chosen and once, "units", chosen, f"at least one of 0 to {hidden - 1}, each once")
    kept = torch.tensor(chosen, dtype=torch.int64)
    for name, tensor in state.items():
        if name.startswith("recurrent."):
            state[name] = tensor.view(-1, hidden, *tensor.shape[1:])[:, kept].flatten(0, 1)
    for name in ("recurrent.weight_hh_l0", "head.weight"):
        state[name] = state[name][:, kept]
    return resized(model, state)


def require_plain(model: nn.Module, kinds: tuple[type, ...] = (SentimentLSTM,)) -> None:
    """Raise ValueError unless the model is one whose parts are known here: of one of these kinds
    itself, with one recurrent layer that goes forward, with biases and tanh, in float32."""
    layer = model.recurrent if type(model) in kinds else None
    plain = type(layer) in CELLS.values()
    plain = plain and (layer.num_layers, layer.bidirectional, layer.bias) == (1, False, True)
    plain = plain and getattr(layer, "nonlinearity", "tanh") == "tanh"
    if not plain or any(p.dtype != torch.float32 for p in model.parameters()):
        kind = layer or type(model).__name__
        dtypes = sorted({str(p.dtype) for p in model.parameters()})
        known = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(
            f"model: got {kind}, {dtypes}, expected a {known} with one forward layer in "
            "torch.float32, with biases and tanh"
        )


def resized(model: SentimentLSTM, state: State) -> SentimentLSTM:
    """Return a model of the same kind with these weights, and of the sizes that they have; what is
    frozen in the one is frozen in the other."""
    require_plain(model)
    words, width = state["embedding.weight"].shape
    classes, hidden = state["head.weight"].shape
    cell = type(model.recurrent).__name__.lower()
    made = SentimentLSTM(
        words, width, hidden, classes,
        cell=cell, pooling=model.pooling, dropout=model.dropout.p, seed=0,
    )  # fmt: skip
    made.load_state_dict(state)
    made.to(state["head.weight"].device).train(model.training)
    for name, parameter in model.named_parameters():
        made.get_parameter(name).requires_grad_(parameter.requires_grad)
    return made
