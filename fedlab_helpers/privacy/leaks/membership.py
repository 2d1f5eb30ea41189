"""Whether an example was trained on: three answers, and how good they are."""

import numpy as np
import torch
from torch import Tensor, nn

from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.require import require
from fedlab_helpers.core.training import predict


def touched_share(data: Examples, touched: Tensor) -> np.ndarray:
    """Return which share of each example's distinct words was touched, (N,): 1 for all that were
    trained on.

    Args:
        data: padded word ids and lengths.
        touched: ids of the touched rows, (n,).
    """
    tokens, lengths = data.inputs[0], data.inputs[-1]
    rows = (row[:length].unique() for row, length in zip(tokens, lengths, strict=True))
    return np.array([float(torch.isin(words, touched).double().mean()) for words in rows])


def confidence(model: nn.Module, data: Examples) -> np.ndarray:
    """Return by how much each example's right class is ahead of the likeliest other, in logits,
    (N,): high where the loss is low."""
    logits = predict(model, data).double()
    right = nn.functional.one_hot(data.targets, logits.shape[1]).bool()
    ahead = logits[right] - logits.masked_fill(right, -torch.inf).amax(1)
    return ahead.numpy()


def likelihood_ratio(seen: np.ndarray, shadows: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return how much likelier each example was trained on than not: the log of the ratio, (N,).

    LiRA, online, with one variance for all examples: Carlini et al. 2022, arXiv:2112.03570,
    Algorithm 1 and section VI-C.

    Args:
        seen: confidence of the attacked model, (N,).
        shadows: that of models that the attacker trained, (K, N).
        inside: which examples each of these was trained on, (K, N) bool.

    Raises:
        ValueError: an example is in, or out of, fewer than two shadows.
    """
    counts = np.minimum(inside.sum(0), (~inside).sum(0))
    require(counts.min() >= 2, "inside", counts.min(), "each example in and out of two or more")
    likely = []
    for there in (inside, ~inside):
        scores = np.where(there, shadows, np.nan)
        mean, var = np.nanmean(scores, 0), np.nanvar(scores, 0, ddof=1).mean()
        likely.append(-((seen - mean) ** 2) / (2 * var) - np.log(var) / 2)
    return likely[0] - likely[1]


def auc(member: np.ndarray, score: np.ndarray) -> float:
    """Return the chance that a member scores higher than a stranger; equal scores count half."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(member, score))


def true_positives(member: np.ndarray, score: np.ndarray, false_positives: float = 0.01) -> float:
    """Return the share of members found where at most this share of strangers is accused."""
    from sklearn.metrics import roc_curve

    fpr, tpr, _ = roc_curve(member, score, drop_intermediate=False)
    return float(tpr[fpr <= false_positives].max())
