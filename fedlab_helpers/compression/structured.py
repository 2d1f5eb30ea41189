"""Two ways to send a tensor as something smaller than its values: factors, and a sketch."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from fedlab_helpers.compression.bits import Reader
from fedlab_helpers.compression.keep import Keep, ReadValues, Shape


@dataclass(frozen=True)
class LowRank(Keep):
    """PowerSGD: a matrix M, (n, m), is sent as P (n, r) and Q (m, r), whose product is near M.

    Vogels et al. 2019, arXiv:1905.13727, Algorithm 1, from a random start each time instead of
    the last round's Q, and with more than one step of power iteration for it. What is not a
    matrix, or would not become smaller, is sent whole.

    Args:
        rank: r, at least 1.
        iterations: steps of power iteration, at least 1.
    """

    rank: int = 1
    iterations: int = 2
    code = 4

    def __post_init__(self):
        for name in ("rank", "iterations"):
            value = getattr(self, name)
            if not (isinstance(value, int) and value >= 1):
                raise ValueError(f"{name}: got {value!r}, expected an integer of at least 1")

    def split(
        self, tensors: Sequence[Tensor], rng: torch.Generator | None = None
    ) -> tuple[bytes, list[Tensor]]:
        """Return no head, and P and Q of each matrix, or a tensor whole."""
        vectors = []
        for tensor in tensors:
            whole = not _pays(tuple(tensor.shape), self.rank)
            vectors += [tensor.flatten()] if whole else self._factors(tensor, rng)
        return b"", vectors

    def _factors(self, matrix: Tensor, rng: torch.Generator | None) -> list[Tensor]:
        scale = float(matrix.abs().max()) or 1.0  # squares of tiny or huge values stay in range
        m = matrix.double() / scale
        q = torch.randn(m.shape[1], self.rank, generator=rng, dtype=torch.float64)
        for _ in range(self.iterations):
            p = torch.linalg.qr(m @ q).Q
            q = m.T @ p
        largest = torch.finfo(torch.float32).max
        return [p.float().flatten(), (q * scale).clamp(-largest, largest).float().flatten()]

    def join(self, reader: Reader, shapes: Sequence[Shape], values: ReadValues) -> list[Tensor]:
        """Return the products P Qᵀ, and what was sent whole."""
        tensors, rank = [], self.rank
        for shape in shapes:
            if not _pays(shape, rank):
                tensors.append(values(prod(shape)).reshape(shape))
                continue
            n, m = shape
            p, q = values(n * rank).view(n, rank), values(m * rank).view(m, rank)
            largest = torch.finfo(torch.float32).max
            tensors.append((p.double() @ q.double().T).clamp(-largest, largest).float())
        return tensors


def _pays(shape: Shape, rank: int) -> bool:
    """Return whether the factors are fewer numbers than the matrix."""
    return len(shape) == 2 and rank * sum(shape) < prod(shape)


_ROWS = 5  # hash functions; an estimate is the median of so many


@dataclass(frozen=True)
class CountSketch(Keep):
    """All values are added, with random signs, into a small table; the largest can be read back.

    Charikar et al. 2002, doi:10.1007/3-540-45465-9_59; for federated learning FetchSGD, Rothchild
    et al. 2020, arXiv:2007.07682. The table of a sum is the sum of the tables, so a server could
    add up sketches without opening them; here it opens each: a value's estimate is the median,
    over five hash functions, of the cells that it went to, and as many of the largest estimates
    are believed as one row has cells.

    Args:
        share: cells of the table / number of values, in (0, 1].
    """

    share: float
    code = 5

    def __post_init__(self):
        if not 0 < self.share <= 1:
            raise ValueError(f"share: got {self.share!r}, expected a number in (0, 1]")

    def split(
        self, tensors: Sequence[Tensor], rng: torch.Generator | None = None
    ) -> tuple[bytes, list[Tensor]]:
        """Return the seed of the hash functions, and the table."""
        flat = torch.cat([t.flatten() for t in tensors]) if tensors else torch.zeros(0)
        seed = int(torch.randint(2**62, (), generator=rng))
        return seed.to_bytes(8, "little"), [sketch(flat, seed, self._columns(len(flat)))]

    def _columns(self, size: int) -> int:
        return max(1, int(self.share * size / _ROWS))

    def join(self, reader: Reader, shapes: Sequence[Shape], values: ReadValues) -> list[Tensor]:
        """Return the largest estimates in their places, zero elsewhere."""
        seed = int.from_bytes(reader.take(8), "little")
        sizes = [prod(shape) for shape in shapes]
        columns = self._columns(sum(sizes))
        estimates = _estimates(values(_ROWS * columns), seed, columns, sum(sizes))
        kept = estimates.abs().topk(min(columns, len(estimates)), sorted=False).indices
        flat = torch.zeros_like(estimates)
        flat[kept] = estimates[kept]
        return [p.reshape(s) for p, s in zip(flat.split(sizes), shapes, strict=True)]


def sketch(flat: Tensor, seed: int, columns: int) -> Tensor:
    """Return the table of a vector, flat, (5 × columns,) float32."""
    table = torch.zeros(_ROWS, columns, dtype=torch.float64)
    for row, (cell, sign) in enumerate(_hashes(seed, columns, len(flat))):
        table[row].index_add_(0, cell, sign * flat.double())
    largest = torch.finfo(torch.float32).max
    return table.clamp(-largest, largest).float().flatten()


def _estimates(table: Tensor, seed: int, columns: int, size: int) -> Tensor:
    """Return what each value may have been, (size,) float32."""
    rows = table.view(_ROWS, columns)
    hashes = _hashes(seed, columns, size)
    read = [rows[i][cell] * sign for i, (cell, sign) in enumerate(hashes)]
    return torch.stack(read).median(0).values.float() if size else torch.zeros(0)


def _hashes(seed: int, columns: int, size: int):
    """Yield for each hash function the cell, int64, and the sign, +-1.0, of every position."""
    rng = np.random.default_rng(seed)
    for _ in range(_ROWS):
        cell = torch.from_numpy(rng.integers(columns, size=size))
        yield cell, torch.from_numpy(2.0 * rng.integers(2, size=size) - 1)
