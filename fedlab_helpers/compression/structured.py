"""Two ways to send a tensor as something smaller than its values: factors, and a sketch."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from fedlab_helpers.compression import bits
from fedlab_helpers.compression.bits import Reader
from fedlab_helpers.compression.keep import Keep, ReadValues, Shape, Split, draw_seed, require_share
from fedlab_helpers.compression.values import narrow
from fedlab_helpers.core.require import require_count
from fedlab_helpers.core.state import State


@dataclass(frozen=True)
class LowRank(Keep):
    """PowerSGD: a matrix M, (n, m), is sent as P (n, r) and Q (m, r), whose product is near M.

    Vogels et al. 2019, arXiv:1905.13727, Algorithm 1, from a random start each time instead of
    the last round's Q, and with more than one step of power iteration for it. What is not a
    matrix, or would not become smaller, is sent whole. As P has orthonormal columns, no more is
    lost than was there; with values written in few bits that is only so in practice.

    Args:
        rank: r, at least 1.
        iterations: steps of power iteration, at least 1.
    """

    rank: int = 1
    iterations: int = 2

    def __post_init__(self):
        require_count(rank=self.rank, iterations=self.iterations)

    def split(self, tensors: State, rng: torch.Generator | None = None) -> Split:
        """Return no head, and P and Q of each matrix, or a tensor whole."""
        vectors = []
        for tensor in tensors.values():
            whole = not _pays(tuple(tensor.shape), self.rank)
            vectors += [tensor.flatten()] if whole else self._factors(tensor, rng)
        return b"", vectors

    def _factors(self, matrix: Tensor, rng: torch.Generator | None) -> list[Tensor]:
        scale = float(matrix.abs().max()) or 1.0  # squares of tiny or huge values stay in range
        m = matrix.double() / scale
        wide = {"dtype": torch.float64, "device": "cpu"}
        q = torch.randn(m.shape[1], self.rank, generator=rng, **wide)
        for _ in range(self.iterations):
            p = torch.linalg.qr(m @ q).Q
            q = m.T @ p
        return [(factor * scale**0.5).float().flatten() for factor in (p, q)]

    def join(self, reader: Reader, shapes: Sequence[Shape], values: ReadValues) -> list[Tensor]:
        """Return the products P Qᵀ, and what was sent whole."""
        tensors, rank = [], self.rank
        for shape in shapes:
            if not _pays(shape, rank):
                tensors.append(values(prod(shape)).reshape(shape))
                continue
            n, m = shape
            p, q = values(n * rank).view(n, rank), values(m * rank).view(m, rank)
            tensors.append(narrow(p.double() @ q.double().T))
        return tensors


def _pays(shape: Shape, rank: int) -> bool:
    """Return whether the factors are fewer numbers than the matrix."""
    return len(shape) == 2 and rank * sum(shape) < prod(shape)


_ROWS = 5  # hash functions; an estimate is the median of so many
_BLOCK = 1 << 16  # positions at a time


@dataclass(frozen=True)
class CountSketch(Keep):
    """All values are added, with random signs, into a small table; the largest can be read back.

    Charikar et al. 2002, doi:10.1007/3-540-45465-9_59; for federated learning FetchSGD, Rothchild
    et al. 2020, arXiv:2007.07682. Tables made with one seed add up to the table of the sum, so a
    server could add them without opening one; here each client has its own seed, and the server
    opens each: a value's estimate is the median, over five hash functions, of the cells that it
    went to, and as many of the largest estimates are believed as one row has cells. Where no
    values are much larger than the others, that is mostly noise, more than there was to lose.

    Args:
        share: cells of the table / number of values, in (0, 1].
    """

    share: float
    contracts = False

    def __post_init__(self):
        require_share(self.share)

    def split(self, tensors: State, rng: torch.Generator | None = None) -> Split:
        """Return the seed of the hash functions, and the table."""
        none = torch.zeros(0, dtype=torch.float32, device="cpu")
        flat, seed = torch.cat([none, *(t.flatten() for t in tensors.values())]), draw_seed(rng)
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
    table = torch.zeros(_ROWS, columns, dtype=torch.float64, device="cpu")
    for start in range(0, len(flat), _BLOCK):
        block = flat[start : start + _BLOCK].double()
        for row in range(_ROWS):
            cell, sign = _hash(seed, row, columns, start, start + len(block))
            table[row].index_add_(0, cell, sign * block)
    return narrow(table).flatten()


def _estimates(table: Tensor, seed: int, columns: int, size: int) -> Tensor:
    """Return what each value may have been, (size,) float32."""
    rows = table.view(_ROWS, columns)
    found = torch.zeros(size, dtype=torch.float32, device="cpu")
    for start in range(0, size, _BLOCK):
        stop = min(size, start + _BLOCK)
        hashes = (_hash(seed, row, columns, start, stop) for row in range(_ROWS))
        read = [rows[row][cell] * sign for row, (cell, sign) in enumerate(hashes)]
        found[start:stop] = torch.stack(read).median(0).values
    return found


def _hash(seed: int, row: int, columns: int, start: int, stop: int) -> tuple[Tensor, Tensor]:
    """Return the cell, int64, and the sign, +-1, of the positions from `start` to `stop`."""
    (own_seed,) = bits.draws(seed, row, row + 1)
    drawn = bits.draws(int(own_seed), start, stop)
    cell = (drawn >> np.uint64(1)) % np.uint64(columns)
    sign = (drawn & np.uint64(1)).astype(np.float32) * 2 - 1
    return torch.from_numpy(cell.astype(np.int64)), torch.from_numpy(sign)
