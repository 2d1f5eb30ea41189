"""Training on the embedding rows that a client's reviews use, and on no other."""

import torch
from torch import Tensor, nn

from fedlab_helpers.core.state import State
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews


def select(data: EncodedReviews) -> tuple[EncodedReviews, Tensor]:
    """Return the reviews with ids counted within the rows they touch, and these rows.

    Untouched rows get no gradient, so leaving them out changes nothing as long as nothing else
    moves them (weight decay would). A client with 28 reviews touches some hundred rows of many
    thousand, and steps on the others are most of a dense client's work.

    Returns:
        The reviews, with tokens in 0..k-1, and the ascending word ids behind them, (k,) int64;
        the first is always 0, so that padding stays padding.
    """
    padding = data.tokens.new_zeros(1)
    rows = torch.cat([padding, data.tokens.flatten()]).unique()
    return EncodedReviews(torch.searchsorted(rows, data.tokens), data.lengths, data.labels), rows


def load(model: nn.Module, state: State) -> None:
    """Copy a state into the model; a parameter whose number of rows differs is replaced."""
    for name, parameter in list(model.named_parameters()):
        if parameter.shape != state[name].shape:
            owner, _, leaf = name.rpartition(".")
            values = torch.empty_like(state[name], device=parameter.device)
            resized = nn.Parameter(values, requires_grad=parameter.requires_grad)
            setattr(model.get_submodule(owner), leaf, resized)
    model.load_state_dict(state)
