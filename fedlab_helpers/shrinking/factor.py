"""Low-rank factors: fewer numbers for a word, and for the recurrent matrix."""

import torch
from torch import Tensor

from fedlab_helpers.core.require import require
from fedlab_helpers.core.state import of_model
from fedlab_helpers.shrinking.prune import require_plain, resized
from fedlab_helpers.tasks.reviews.model import SentimentLSTM


def best_factors(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return A, (n, r), and B, (r, m), whose product is the best approximation of rank r.

    Eckart and Young 1936, doi:10.1007/BF02288367: the first r singular directions.

    Raises:
        ValueError: the rank is not from 1 to the smaller side of the matrix.
    """
    most = min(matrix.shape)
    require(1 <= rank <= most, "rank", rank, f"1 to {most}")
    u, s, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    return (u[:, :rank] * s[:rank]).to(matrix.dtype), v[:rank].to(matrix.dtype)


def narrow_embedding(model: SentimentLSTM, rank: int) -> SentimentLSTM:
    """Return a model with word vectors of `rank` numbers that does what the best table of that
    rank would do in this one.

    E ≈ A B, and the recurrent layer only ever sees W_ih E: so A is the new table, and B goes into
    W_ih B^T, once and for all. Nothing is left to multiply.
    """
    require_plain(model)
    state = of_model(model)
    table, up = best_factors(state["embedding.weight"], rank)
    table[~state["embedding.weight"].any(1)] = 0  # of padding; the factors know it to 1e-17 only
    state["embedding.weight"] = table
    state["recurrent.weight_ih_l0"] = state["recurrent.weight_ih_l0"] @ up.T
    return resized(model, state)


def factor_recurrent(model: SentimentLSTM, rank: int) -> tuple[SentimentLSTM, int]:
    """Return a model whose recurrent matrix has at most this rank, and how many numbers its
    factors have. The matrix is written out, for no runtime multiplies by factors faster: who
    wants to save its bytes stores the factors."""
    require_plain(model)
    state = of_model(model)
    left, right = best_factors(state["recurrent.weight_hh_l0"], rank)
    state["recurrent.weight_hh_l0"] = left @ right
    return resized(model, state), left.numel() + right.numel()
