"""Which values of an update are sent: all, the largest, or random ones.

A `Keep` turns tensors into vectors of values and a head that says where those belong, and back.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fedlab_helpers.compression import bits
from fedlab_helpers.compression.bits import Reader
from fedlab_helpers.state import State
from fedlab_helpers.wire import WireError

Shape = tuple[int, ...]
ReadValues = Callable[[int], Tensor]  # how many -> the next values
SCOPES = ("model", "tensor")
_LARGEST = torch.finfo(torch.float32).max


class Keep:
    """Chooses what is sent; a frozen value."""

    code: int  # stands in the payload, so that another choice's bytes are refused
    thins = False  # whether most values become zero, so that empty rows can be left out

    def thin(self, tensors: State) -> State:
        """Return the tensors, float32, with what will not be sent set to zero, if it `thins`."""
        return tensors

    def split(
        self, tensors: Sequence[Tensor], rng: torch.Generator | None
    ) -> tuple[bytes, list[Tensor]]:
        """Return the head, and vectors of values to be written."""
        raise NotImplementedError

    def join(self, reader: Reader, shapes: Sequence[Shape], values: ReadValues) -> list[Tensor]:
        """Return tensors of these shapes from the head and the values that follow it."""
        raise NotImplementedError


@dataclass(frozen=True)
class Everything(Keep):
    """Sends all values of all tensors."""

    code = 1

    def split(
        self, tensors: Sequence[Tensor], rng: torch.Generator | None = None
    ) -> tuple[bytes, list[Tensor]]:
        """Return no head, and the tensors flat."""
        return b"", [tensor.flatten() for tensor in tensors]

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
        share: k = share × n, rounded up, in (0, 1].
        per: "model": the largest of all tensors together; "tensor": so many of each.
    """

    share: float
    per: Literal["model", "tensor"] = "model"
    code = 2
    thins = True

    def __post_init__(self):
        _require(self.share, self.per)

    def thin(self, tensors: State) -> State:
        """Return the tensors with all but the largest values set to zero.

        What a strategy sends beside the change ("extra.…") is another quantity, of another size:
        its largest values are chosen among its own.
        """
        groups: dict[object, State] = {}
        for name, tensor in tensors.items():
            group = name if self.per == "tensor" else name.startswith("extra.")
            groups.setdefault(group, {})[name] = tensor
        thin = {n: t for group in groups.values() for n, t in _largest(group, self.share).items()}
        return {name: thin[name] for name in tensors}

    def split(
        self, tensors: Sequence[Tensor], rng: torch.Generator | None = None
    ) -> tuple[bytes, list[Tensor]]:
        """Return, for each tensor, how many values are not zero and where; and these."""
        places = [tensor.flatten().nonzero()[:, 0] for tensor in tensors]
        head = b"".join(bits.varints([len(place)]) + bits.gaps(place.numpy()) for place in places)
        pairs = zip(tensors, places, strict=True)
        return head, [tensor.flatten()[place] for tensor, place in pairs]

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
    code = 3

    def __post_init__(self):
        _require(self.share, self.per)

    def split(
        self, tensors: Sequence[Tensor], rng: torch.Generator | None = None
    ) -> tuple[bytes, list[Tensor]]:
        """Return the seed and the share, and the values."""
        seed = int(torch.randint(2**62, (), generator=rng))
        sizes = [tensor.numel() for tensor in tensors]
        head = seed.to_bytes(8, "little") + np.float64(self.share).tobytes()
        places = self._places(seed, self.share, sizes)
        vectors = [tensor.flatten()[p].double() for tensor, p in zip(tensors, places, strict=True)]
        if self.scaled:
            drawn = [len(place) for place in places]
            if self.per == "model":
                sizes, drawn = [sum(sizes)] * len(sizes), [sum(drawn)] * len(drawn)
            vectors = [v * n / max(1, k) for v, n, k in zip(vectors, sizes, drawn, strict=True)]
        return head, [vector.clamp(-_LARGEST, _LARGEST).float() for vector in vectors]

    def join(self, reader: Reader, shapes: Sequence[Shape], values: ReadValues) -> list[Tensor]:
        """Return the tensors, zero where nothing was sent."""
        seed = int.from_bytes(reader.take(8), "little")
        share = float(np.frombuffer(reader.take(8), dtype="<f8")[0])
        if not 0 < share <= 1:
            raise WireError(f"a share of {share!r} is claimed, expected one in (0, 1]")
        sizes = [prod(shape) for shape in shapes]
        if sum(_count(share, n) for n in sizes) > len(sizes) + 8 * reader.left:
            raise WireError(f"a share of {share!r} is claimed, more than {reader.left} bytes hold")
        places = self._places(seed, share, sizes)
        return _scatter(places, shapes, values)

    def _places(self, seed: int, share: float, sizes: Sequence[int]) -> list[np.ndarray]:
        """Return the positions drawn in each tensor, ascending."""
        rng = np.random.default_rng(seed)
        if self.per == "tensor":
            return [np.sort(rng.choice(n, _count(share, n), replace=False)) for n in sizes]
        total = sum(sizes)
        drawn = np.sort(rng.choice(total, _count(share, total), replace=False))
        ends = np.cumsum([0, *sizes])
        cuts = np.searchsorted(drawn, ends)
        return [drawn[a:b] - start for a, b, start in zip(cuts, cuts[1:], ends, strict=False)]


def _count(share: float, n: int) -> int:
    return min(n, ceil(share * n))


def _largest(tensors: State, share: float) -> State:
    """Return the tensors with all but a share of their values, taken together, set to zero."""
    flat = torch.cat([tensor.flatten() for tensor in tensors.values()])
    kept = flat.abs().topk(_count(share, len(flat)), sorted=False).indices
    thin = torch.zeros_like(flat).index_copy_(0, kept, flat[kept])
    parts = thin.split([tensor.numel() for tensor in tensors.values()])
    return {n: p.reshape(t.shape) for (n, t), p in zip(tensors.items(), parts, strict=True)}


def _scatter(
    places: Sequence[np.ndarray], shapes: Sequence[Shape], values: ReadValues
) -> list[Tensor]:
    tensors = []
    for place, shape in zip(places, shapes, strict=True):
        flat = torch.zeros(prod(shape))
        flat[torch.from_numpy(place)] = values(len(place))
        tensors.append(flat.reshape(shape))
    return tensors


def _require(share: float, per: str) -> None:
    if not 0 < share <= 1:
        raise ValueError(f"share: got {share!r}, expected a number in (0, 1]")
    if per not in SCOPES:
        raise ValueError(f"per: got {per!r}, expected one of {list(SCOPES)}")
