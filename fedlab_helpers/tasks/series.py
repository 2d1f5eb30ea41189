"""Series of numbers: windows over them, and one recurrent model."""

import numpy as np
import torch
from torch import Tensor, nn

from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.model import SeededDropout
from fedlab_helpers.core.objective import Objective
from fedlab_helpers.core.require import is_count, require, require_count
from fedlab_helpers.tasks.layers import LAYERS
from fedlab_helpers.tasks.reviews.model import weights_from


def windows(
    inputs: np.ndarray,
    targets: np.ndarray,
    objective: Objective,
    *,
    warm_up: int,
    asked: int,
    every: int = 1,
) -> Examples:
    """Return windows of a series as examples: a number is asked at each step but the first ones.

    A window begins `warm_up` steps before the first step that is asked, so that the model has seen
    something, and no step is asked twice. Windows with an input missing, or nothing to ask, are
    left out.

    Args:
        inputs: what is seen at each step, (T, F), NaN where it is missing.
        targets: what is asked at each step, (T,), NaN where nothing is.
        objective: what the targets are; one for each step.
        warm_up: steps at the beginning of a window of which nothing is asked.
        asked: steps of a window behind these.
        every: keep every so many-th window.

    Returns:
        Inputs (N, warm_up + asked, F) and targets (N, warm_up + asked), float32.

    Raises:
        ValueError: a number is none of at least 1 (`warm_up`: 0), or the lengths differ.
    """
    require_count(asked=asked, every=every)
    fine = warm_up == 0 or is_count(warm_up)
    require(fine, "warm_up", warm_up, "an integer of at least 0")
    targets = np.asarray(targets, np.float64)
    fits = inputs.ndim == 2 and targets.shape == inputs.shape[:1]
    require(fits, "targets", targets.shape, f"one for each step of inputs {inputs.shape}")
    width = warm_up + asked
    starts = range(0, len(targets) - width + 1, asked * every)
    pairs = [(inputs[s : s + width], targets[s : s + width].copy()) for s in starts]
    kept = []
    for seen, wanted in pairs:
        wanted[:warm_up] = np.nan
        if np.isfinite(seen).all() and not np.isnan(wanted).all():
            kept.append((seen, wanted))
    x = np.array([seen for seen, _ in kept], np.float32).reshape(-1, width, inputs.shape[1])
    y = np.array([wanted for _, wanted in kept], np.float32).reshape(-1, width)
    return Examples((torch.from_numpy(x),), torch.from_numpy(y), objective)


class SeriesRNN(nn.Module):
    """A layer, recurrent as a rule, over a series, and one number from its last step or from each.

    Args:
        features: numbers F at each step.
        hidden_size: size H of the recurrent state.
        cell: the layer, a name in `LAYERS`.
        each_step: whether each step is answered.
        dropout: share of the outputs that is dropped while training.
        seed: seed of the initial weights; None draws them from torch's global generator.

    Raises:
        ValueError: a name or size is not among those above.
    """

    def __init__(
        self,
        features: int,
        hidden_size: int = 32,
        *,
        cell: str = "gru",
        each_step: bool = False,
        dropout: float = 0.0,
        seed: int | None = None,
    ):
        super().__init__()
        require(cell in LAYERS, "cell", cell, f"one of {sorted(LAYERS)}")
        require_count(features=features, hidden_size=hidden_size)
        self.each_step = each_step
        self.dropout = SeededDropout(dropout)
        with weights_from(seed):
            self.recurrent = LAYERS[cell](features, hidden_size, batch_first=True)
            self.head = nn.Linear(hidden_size, 1)

    def forward(self, series: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return a number for each series, (B,), or for each of its steps, (B, T).

        Args:
            series: (B, T, F), padded on the right where lengths differ.
            lengths: steps of each series, (B,) int64; None: T. Padding changes no answer: no step
                sees what follows it.
        """
        outputs, _ = self.recurrent(series)  # (B, T, H)
        if not self.each_step:
            rows = torch.arange(len(series), device=series.device)
            outputs = outputs[:, -1] if lengths is None else outputs[rows, lengths - 1]
        return self.head(self.dropout(outputs))[..., 0]
