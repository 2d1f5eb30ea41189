"""Numbers in few bits: variable-length integers, and small codes packed side by side."""

import numpy as np

from fedlab_helpers.core.wire import WireError

_LONGEST = 5  # bytes of a varint: 35 bits, enough for any position in a tensor we accept
_BLOCK = 1 << 16  # integers decoded at a time, so that little memory is needed beside the result


def varints(values: np.ndarray) -> bytes:
    """Return non-negative integers below 2^35 in 7 bits a byte, the low ones first (LEB128).

    The eighth bit says that another byte follows: numbers below 128 take one byte.
    """
    values = np.asarray(values, dtype=np.uint64)
    lengths = 1 + sum((values >> np.uint64(7 * j)) > 0 for j in range(1, _LONGEST))
    starts = np.cumsum(lengths) - lengths
    packed = np.zeros(int(np.sum(lengths)), dtype=np.uint8)
    for j in range(_LONGEST):
        longer = lengths > j
        low = (values[longer] >> np.uint64(7 * j)) & np.uint64(127)
        more = np.uint64(128) * (lengths[longer] > j + 1)
        packed[starts[longer] + j] = low | more
    return packed.tobytes()


def gaps(positions: np.ndarray) -> bytes:
    """Return ascending positions as varints of the steps from each to the next, from -1 on."""
    return varints(np.diff(np.asarray(positions, dtype=np.int64), prepend=-1) - 1)


def pack(codes: np.ndarray, bits: int) -> bytes:
    """Return codes below 2^bits side by side, the first in the low bits; bits is 1, 2, 4 or 8."""
    each = 8 // bits
    padded = np.zeros(-(-len(codes) // each) * each, dtype=np.uint8)
    padded[: len(codes)] = codes
    shifts = np.arange(each, dtype=np.uint8) * np.uint8(bits)
    return np.bitwise_or.reduce(padded.reshape(-1, each) << shifts, axis=1).tobytes()


def unpack(packed: bytes, bits: int, count: int) -> np.ndarray:
    """Return the first `count` codes of what `pack` returned, (count,) uint8."""
    shifts = np.arange(8 // bits, dtype=np.uint8) * np.uint8(bits)
    raw = np.frombuffer(packed, dtype=np.uint8)
    return ((raw[:, None] >> shifts) & np.uint8(2**bits - 1)).reshape(-1)[:count]


_POWERS = 3 ** np.arange(5)


def pack_trits(codes: np.ndarray) -> bytes:
    """Return codes of 0, 1 and 2, five to a byte: 3^5 = 243 still fits."""
    padded = np.zeros(-(-len(codes) // 5) * 5, dtype=np.int64)
    padded[: len(codes)] = codes
    return (padded.reshape(-1, 5) @ _POWERS).astype(np.uint8).tobytes()


def unpack_trits(packed: bytes, count: int) -> np.ndarray:
    """Return the first `count` codes of what `pack_trits` returned, (count,) uint8."""
    raw = np.frombuffer(packed, dtype=np.uint8).astype(np.int64)
    return (raw[:, None] // _POWERS % 3).reshape(-1)[:count].astype(np.uint8)


def draws(seed: int, start: int, stop: int) -> np.ndarray:
    """Return the random bits that belong to the positions from `start` to `stop`, uint64.

    SplitMix64 (Steele et al. 2014, doi:10.1145/2660193.2660195), the same on every machine and
    with every version of every library: client and server draw the same from one seed.
    """
    with np.errstate(over="ignore"):
        z = np.arange(start + 1, stop + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z += np.uint64(seed)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


class Reader:
    """Takes bytes from the front of a payload; nothing is allocated that is not there.

    Raises:
        WireError: more is asked for than is left, or a number is too long.
    """

    def __init__(self, data: bytes):
        self._data, self._at = memoryview(data), 0

    @property
    def left(self) -> int:
        """How many bytes have not been taken."""
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        if size > self.left:
            raise WireError(f"{size} bytes are expected where {self.left} are left")
        self._at += size
        return bytes(self._data[self._at - size : self._at])

    def varint(self) -> int:
        """Return the next integer."""
        return int(self.varints(1)[0])

    def varints(self, count: int) -> np.ndarray:
        """Return the next `count` integers, (count,) int64."""
        if count > self.left:
            raise WireError(f"{count} integers are expected where {self.left} bytes are left")
        values = np.zeros(count, dtype=np.int64)
        for start in range(0, count, _BLOCK):
            self._fill(values[start : start + _BLOCK])
        return values

    def _fill(self, values: np.ndarray) -> None:
        """Read as many integers as there are places, into them."""
        most = len(values) * _LONGEST
        raw = np.frombuffer(self._data[self._at : self._at + most], dtype=np.uint8)
        ends = np.flatnonzero(raw < 128)[: len(values)]
        if len(ends) < len(values):
            raise WireError(f"{len(values)} integers are expected, {len(ends)} came")
        starts = np.concatenate([[0], ends[:-1] + 1])
        lengths = ends - starts + 1
        if int(lengths.max()) > _LONGEST or bool(((raw[ends] == 0) & (lengths > 1)).any()):
            raise WireError(f"an integer has more than {_LONGEST} bytes, or more than it needs")
        for j in range(int(lengths.max())):
            longer = lengths > j
            values[longer] |= (raw[starts[longer] + j].astype(np.int64) & 127) << (7 * j)
        self._at += int(ends[-1]) + 1

    def positions(self, count: int, size: int) -> np.ndarray:
        """Return `count` positions that `gaps` wrote, all below `size`, (count,) int64."""
        if count > size:
            raise WireError(f"{count} positions are claimed among {size}")
        found = np.cumsum(self.varints(count) + 1) - 1
        if count and int(found[-1]) >= size:
            raise WireError(f"position {int(found[-1])} is claimed among {size}")
        return found
