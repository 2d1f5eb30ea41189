"""Pruning: single weights set to zero, or whole hidden units taken out."""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from fedlab_helpers.models import SentimentLSTM
from fedlab_helpers.state import State, of_model
from fedlab_helpers.strategy import require_share
from fedlab_helpers.training import Hooks


def smallest_masks(
    model: nn.Module, share: float, per: Literal["matrix", "model"] = "matrix"
) -> State:
    """Return which weights stay when the smallest are pruned.

    Han et al. 2015, arXiv:1506.02626. Biases, and vectors in general, are not pruned. Zeros are
    pruned first, and count.

    Args:
        model: not changed.
        share: of the weights in matrices that goes, in [0, 1).
        per: "matrix": so many of each; "model": the smallest of all together. A table of words
            begins with weights some ten times as large as those of a recurrent layer: all together,
            the recurrent ones go first, and with them all that the model has learnt.

    Returns:
        Name of each matrix -> bool tensor of its shape, True where the weight stays.
    """
    require_share(share=share)
    if per not in ("matrix", "model"):
        raise ValueError(f"per: got {per!r}, expected 'matrix' or 'model'")
    matrices = {n: p.detach().abs() for n, p in model.named_parameters() if p.dim() == 2}
    if per == "matrix":
        return {name: _all_but_smallest([m], share)[0] for name, m in matrices.items()}
    return dict(zip(matrices, _all_but_smallest([*matrices.values()], share), strict=True))


def _all_but_smallest(sizes: list[Tensor], share: float) -> list[Tensor]:
    """Return masks of these shapes, False where a value is among the smallest of all."""
    flat = torch.cat([tensor.flatten() for tensor in sizes])
    masks = torch.ones(len(flat), dtype=torch.bool)
    masks[flat.topk(int(share * len(flat)), largest=False).indices] = False
    parts = masks.split([tensor.numel() for tensor in sizes])
    return [part.view_as(tensor) for part, tensor in zip(parts, sizes, strict=True)]


def apply_masks(model: nn.Module, masks: State) -> None:
    """Set to zero, in place, what the masks do not keep."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in masks:
                parameter.mul_(masks[name])


def keep_pruned(masks: State) -> Hooks:
    """Return the hook that keeps pruned weights at zero while a model trains on."""
    return Hooks(after=lambda model: apply_masks(model, masks))


def unit_sizes(model: SentimentLSTM) -> Tensor:
    """Return how large each hidden unit's weights are, (H,): the root of the sum of squares of all
    that goes into it, in all gates, and of all that comes out of it."""
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
        ValueError: there is none, or one is not among the model's, or comes twice.
    """
    state, kept = of_model(model), torch.tensor(list(units), dtype=torch.int64)
    hidden = state["head.weight"].shape[1]
    if not len(kept) or len(kept.unique()) < len(kept) or kept.min() < 0 or kept.max() >= hidden:
        raise ValueError(
            f"units: got {kept.tolist()}, expected at least one of 0 to {hidden - 1}, each once"
        )
    for name, tensor in state.items():
        if name.startswith("recurrent."):
            state[name] = tensor.view(-1, hidden, *tensor.shape[1:])[:, kept].flatten(0, 1)
    for name in ("recurrent.weight_hh_l0", "head.weight"):
        state[name] = state[name][:, kept]
    return resized(model, state)


def resized(model: SentimentLSTM, state: State) -> SentimentLSTM:
    """Return a model of the same kind with these weights, and of the sizes that they have."""
    words, width = state["embedding.weight"].shape
    classes, hidden = state["head.weight"].shape
    cell = type(model.recurrent).__name__.lower()
    made = SentimentLSTM(
        words, width, hidden, classes,
        cell=cell, pooling=model.pooling, dropout=model.dropout.p, seed=0,
    )  # fmt: skip
    made.load_state_dict(state)
    return made
