"""Which values of an update are sent: all, the largest, or random ones.

A `Keep` turns tensors into vectors of values and a head that says where those belong, and back.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fedlab_helpers.compression import bits
from fedlab_helpers.compression.bits import Reader
from fedlab_helpers.compression.values import narrow
from fedlab_helpers.core.require import require
from fedlab_helpers.core.state import State
from fedlab_helpers.core.wire import WireError

Shape = tuple[int, ...]
ReadValues = Callable[[int], Tensor]  # how many -> the next values
Split = tuple[bytes, list[Tensor]]
SCOPES = ("model", "tensor")


class Keep:
    """Chooses what is sent; a frozen value."""

    contracts = True  # whether less is lost than was there, as error feedback needs

    @property
    def kind(self) -> str:
        """What of it the reader of a payload must know; the rest may differ."""
        return repr(self)

    def split(self, tensors: State, rng: torch.Generator | None) -> Split:
        """Return the head, and vectors of values to be written.

        Args:
            tensors: float32, sorted by name.
            rng: of what is drawn at random; None: torch's global one.
        """
        raise NotImplementedError

    def join(self, reader: Reader, shapes: Sequence[Shape], values: ReadValues) -> list[Tensor]:
        """Return tensors of these shapes from the head and the values that follow it."""
        raise NotImplementedError


@dataclass(frozen=True)
class Everything(Keep):
    """Sends all values of all tensors."""

    def split(self, tensors: State, rng: torch.Generator | None = None) -> Split:
        """Return no head, and the tensors flat."""
        return b"", [tensor.flatten() for tensor in tensors.values()]

    def join(self, reader: Reader, shapes: Sequence[Shape], values: ReadValues) -> list[Tensor]:
        """Return the tensors."""
        return [values(prod(shape)).reshape(shape) for shape in shapes]


@dataclass(frozen=True)
class TopK(Keep):
    """Sends the values that are largest in size, and where they were.

    Aji and Heafield 2017, arXiv:1704.05021. Positions are written as the steps from each to the
    next, one byte where that is below 128. Biased: the error's square is at most (1 - k/n) times
    that of the values.

    Args:
        share: k = share × n, rounded up, in (0, 1]. Zeros among the k are not sent.
        per: "model": the largest of all tensors together; "tensor": so many of each. What a
            strategy sends beside the change ("extra.…") is another quantity, of another size: its
            largest values are chosen among its own.
    """

    share: float
    per: Literal["model", "tensor"] = "model"

    def __post_init__(self):
        require_share(self.share, self.per)

    @property
    def kind(self) -> str:
        """All but the share, so that a client may begin with a larger one."""
        return "TopK"

    def split(self, tensors: State, rng: torch.Generator | None = None) -> Split:
        """Return, for each tensor, how many values are sent and where they were; and these."""
        groups: dict[object, State] = {}
        for name, tensor in tensors.items():
            group = name if self.per == "tensor" else name.startswith("extra.")
            groups.setdefault(group, {})[name] = tensor.flatten()
        places = {n: p for group in groups.values() for n, p in _largest(group, self.share).items()}
        heads = (
            bits.varints([len(places[name])]) + bits.gaps(places[name].numpy()) for name in tensors
        )
        return b"".join(heads), [t.flatten()[places[name]] for name, t in tensors.items()]

    def join(self, reader: Reader, shapes: Sequence[Shape], values: ReadValues) -> list[Tensor]:
        """Return the tensors, zero where nothing was sent."""
        places = [reader.positions(reader.varint(), prod(shape)) for shape in shapes]
        return _scatter(places, shapes, values)


@dataclass(frozen=True)
class RandomK(Keep):
    """Sends values drawn at random; instead of positions, the 8 bytes that they are drawn from.

    Args:
        share: k = share × n, rounded up, in (0, 1].
        per: "model": drawn from all tensors together; "tensor": so many of each.
        scaled: multiply by n/k, which makes it unbiased; without, it is a contraction, which
            error feedback needs.
    """

    share: float
    per: Literal["model", "tensor"] = "model"
    scaled: bool = True

    def __post_init__(self):
        require_share(self.share, self.per)

    @property
    def contracts(self) -> bool:
        """Only unscaled."""
        return not self.scaled

    def split(self, tensors: State, rng: torch.Generator | None = None) -> Split:
        """Return the seed, and the values."""
        seed = draw_seed(rng)
        flat = [tensor.flatten() for tensor in tensors.values()]
        sizes = [len(tensor) for tensor in flat]
        places = self._places(seed, sizes)
        vectors = [tensor[place].double() for tensor, place in zip(flat, places, strict=True)]
        if self.scaled:
            drawn = [len(place) for place in places]
            if self.per == "model":
                sizes, drawn = [sum(sizes)] * len(sizes), [sum(drawn)] * len(drawn)
            vectors = [v * n / max(1, k) for v, n, k in zip(vectors, sizes, drawn, strict=True)]
        return seed.to_bytes(8, "little"), [narrow(vector) for vector in vectors]

    def join(self, reader: Reader, shapes: Sequence[Shape], values: ReadValues) -> list[Tensor]:
        """Return the tensors, zero where nothing was sent."""
        seed = int.from_bytes(reader.take(8), "little")
        sizes = [prod(shape) for shape in shapes]
        if sum(_count(self.share, n) for n in sizes) > len(sizes) + 8 * reader.left:
            raise WireError(f"{sum(sizes)} values are claimed, but {reader.left} bytes are left")
        return _scatter(self._places(seed, sizes), shapes, values)

    def _places(self, seed: int, sizes: Sequence[int]) -> list[np.ndarray]:
        """Return the positions drawn in each tensor, ascending: those of the smallest draws."""
        ends = np.cumsum([0, *sizes])
        if self.per == "tensor":
            pairs = itertools.pairwise(ends)
            return [_smallest(bits.draws(seed, a, b), _count(self.share, b - a)) for a, b in pairs]
        total = int(ends[-1])
        drawn = _smallest(bits.draws(seed, 0, total), _count(self.share, total))
        cuts = np.searchsorted(drawn, ends)
        return [drawn[a:b] - start for a, b, start in zip(cuts, cuts[1:], ends, strict=False)]


def _count(share: float, n: int) -> int:
    return min(n, ceil(share * n))


def _smallest(draws: np.ndarray, count: int) -> np.ndarray:
    """Return the places of the smallest draws, ascending."""
    if count >= len(draws):
        return np.arange(len(draws))
    return np.sort(np.argpartition(draws, count)[:count])


def _largest(tensors: State, share: float) -> dict[str, Tensor]:
    """Return where in each flat tensor the largest values of all are, ascending; no zeros."""
    flat = torch.cat(list(tensors.values()))
    kept = flat.abs().topk(_count(share, len(flat)), sorted=False).indices
    chosen = torch.zeros_like(flat, dtype=torch.bool).index_fill_(0, kept, True) & (flat != 0)
    parts = chosen.split([len(tensor) for tensor in tensors.values()])
    return {name: part.nonzero()[:, 0] for name, part in zip(tensors, parts, strict=True)}


def _scatter(
    places: Sequence[np.ndarray], shapes: Sequence[Shape], values: ReadValues
) -> list[Tensor]:
    tensors = []
    for place, shape in zip(places, shapes, strict=True):
        flat = torch.zeros(prod(shape), dtype=torch.float32, device="cpu")
        flat[torch.from_numpy(place)] = values(len(place))
        tensors.append(flat.reshape(shape))
    return tensors


def draw_seed(rng: torch.Generator | None) -> int:
    """Return a seed below 2^62, drawn at random."""
    return int(torch.randint(2**62, (), generator=rng, dtype=torch.int64, device="cpu"))


def require_share(share: float, per: str = "model") -> None:
    """Raise ValueError unless the share is in (0, 1], and of a scope that there is."""
    require(0 < share <= 1, "share", share, "a number in (0, 1]")
    require(per in SCOPES, "per", per, f"one of {list(SCOPES)}")
