"""How much of a planted secret a model has learnt by heart."""

import numpy as np

from fedlab_helpers.core.require import require


def exposure(secret: float, others: np.ndarray) -> float:
    """Return how many bits of a secret a model gives away, from 0 to log2 of its candidates.

    Carlini et al. 2019, arXiv:1802.08232, definition 2: whoever tries candidates by their loss
    needs half as many guesses for each bit.

    Args:
        secret: loss of the model on the secret.
        others: on all other candidates, (n,).

    Raises ValueError where there is no other, or a loss is NaN.
    """
    others = np.asarray(others)
    require(others.size > 0, "others", others.size, "at least one other candidate")
    known = not (np.isnan(secret) or np.isnan(others).any())
    require(known, "secret, others", "NaN", "losses, which can be ranked")
    rank = 1 + int((others < secret).sum())
    return float(np.log2(others.size + 1) - np.log2(rank))
