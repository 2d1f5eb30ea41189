"""Weights as small whole numbers, and training that knows of it."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fedlab_helpers.core.require import require


def to_integers(matrix: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Return whole numbers, int8, and the scale of each column, so that their product is near the
    matrix, (…, n, m).

    Args:
        matrix: floating point, finite.
        bits: from 2 to 8; with 8 the numbers are -127 to 127, with 4 -7 to 7.

    Returns:
        Whole numbers, (…, n, m), and scales, (…, 1, m), of the matrix's type; a scale of 1 where a
        column is 0, or so small that its scale would not be a normal number.
    """
    require(bits in range(2, 9), "bits", bits, "2 to 8")
    require(matrix.isfinite().all(), "matrix", "others", "finite values")
    most = 2 ** (bits - 1) - 1
    scale = matrix.abs().amax(-2, keepdim=True) / most
    scale = torch.where(scale > torch.finfo(scale.dtype).tiny, scale, 1)
    return (matrix / scale).round().to(torch.int8), scale


class Rounded(nn.Module):
    """A model that computes with its matrices rounded to a few bits, and learns in full precision.

    The gradient passes the rounding as if it were not there (straight-through: Bengio et al. 2013,
    arXiv:1308.3432), so that training finds weights that suffer rounding well (quantization-aware
    training: Jacob et al. 2018, arXiv:1712.05877).

    Args:
        model: learns; called with the inputs of its examples.
        bits: of each number in a matrix, from 2 to 8.
    """

    def __init__(self, model: nn.Module, bits: int):
        super().__init__()
        self.model, self.bits = model, bits

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return what the rounded model answers."""
        rounded = {n: self._near(p) for n, p in self.model.named_parameters() if p.dim() == 2}
        return functional_call(self.model, rounded, inputs)

    def _near(self, matrix: Tensor) -> Tensor:
        whole, scale = to_integers(matrix.detach(), self.bits)
        return matrix + (whole * scale - matrix.detach())
