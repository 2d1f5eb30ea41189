"""How one value is written: in 32, 16, 8, 4, 2, 1.6 or 1 bits.

A format packs a vector of float32 values and reads back as many as it is told. All compute in
float64, so that no scale is lost to overflow or underflow on the way.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from fedlab_helpers.compression import bits
from fedlab_helpers.compression.bits import Reader
from fedlab_helpers.core.require import require, require_count

_LARGEST = torch.finfo(torch.float32).max


class Format(Protocol):
    """Writes values; a frozen value itself."""

    contracts: bool  # whether less is lost than was there, as error feedback needs

    def pack(self, values: Tensor, rng: torch.Generator | None) -> bytes:
        """Return the bytes of finite values, (n,) float32."""

    def unpack(self, reader: Reader, count: int) -> Tensor:
        """Return the next `count` values, (count,) float32."""


@dataclass(frozen=True)
class Float32:
    """Every value as it is: 32 bits."""

    contracts = True

    def pack(self, values: Tensor, rng: torch.Generator | None = None) -> bytes:
        """Return 4 bytes a value."""
        return values.numpy().astype("<f4").tobytes()

    def unpack(self, reader: Reader, count: int) -> Tensor:
        """Return the values, bit for bit."""
        raw = np.frombuffer(reader.take(4 * count), dtype="<f4")
        return torch.from_numpy(raw.astype(np.float32))


@dataclass(frozen=True)
class Float16:
    """16 bits a value: 11 significant ones (IEEE half precision), or 8 (bfloat16).

    The values are first multiplied by a power of two, which costs 2 bytes for all of them and no
    precision, so that the largest fits: in half precision 70,000 would else be infinite, and
    0.00000001 would be 0.

    Args:
        brain: bfloat16 instead of half precision.
    """

    brain: bool = False
    contracts = True

    def pack(self, values: Tensor, rng: torch.Generator | None = None) -> bytes:
        """Return 2 bytes for the exponent and 2 a value."""
        largest = float(values.abs().max()) if len(values) else 0.0
        exponent = int(np.frexp(largest)[1]) - 15
        scaled = (values.double() * 2.0**-exponent).to(self._dtype)  # up to 32,768
        raw = scaled.view(torch.int16).numpy().astype("<i2").tobytes()
        return exponent.to_bytes(2, "little", signed=True) + raw

    def unpack(self, reader: Reader, count: int) -> Tensor:
        """Return the values, each within half a unit of its last place; in half precision, of
        those below 2^-29 of the largest, within 2^-40 of that."""
        exponent = int.from_bytes(reader.take(2), "little", signed=True)
        raw = np.frombuffer(reader.take(2 * count), dtype="<i2").astype(np.int16)
        scaled = torch.from_numpy(raw).view(self._dtype).double()
        return narrow(scaled * 2.0 ** max(-200, min(200, exponent)))

    @property
    def _dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.brain else torch.float16


@dataclass(frozen=True)
class Quantized:
    """QSGD: each value becomes one of 2^bits - 1 even steps from -scale to scale, at random.

    Alistarh et al. 2017, arXiv:1610.02132, section 3, in buckets, each scaled by its largest
    value instead of its norm (section 4 there). A value between two steps goes up with the
    probability that makes the mean right: unbiased. The error's mean square is at most
    (scale / steps)^2 / 4 a value.

    Args:
        bits: 8, 4 or 2; zero is always among the steps.
        bucket: values that share a scale (a float32).
        stochastic: False rounds to the nearest step instead; then it is biased.
    """

    bits: int = 8
    bucket: int = 512
    stochastic: bool = True

    def __post_init__(self):
        require(self.bits in (8, 4, 2), "bits", self.bits, "8, 4 or 2")
        require_count(bucket=self.bucket)

    @property
    def contracts(self) -> bool:
        """Only where it rounds to the nearest: at random, small values may become large ones."""
        return not self.stochastic

    @property
    def steps(self) -> int:
        """From 0 to the scale: 127, 7 or 1."""
        return 2 ** (self.bits - 1) - 1

    def pack(self, values: Tensor, rng: torch.Generator | None = None) -> bytes:
        """Return 4 bytes a bucket and `bits` a value."""
        rows = _in_buckets(values, self.bucket)
        scales = rows.abs().amax(1, keepdim=True)
        exact = rows / scales.clamp_min(1e-300) * self.steps
        up = _draws(rows, rng) if self.stochastic else 0.5
        codes = (exact + up).floor().clamp(-self.steps, self.steps) + self.steps
        flat = codes.flatten()[: len(values)].to(torch.uint8).numpy()
        return _f32(scales) + bits.pack(flat, self.bits)

    def unpack(self, reader: Reader, count: int) -> Tensor:
        """Return the values, each within one step of what it was."""
        scales = _read_f32(reader, -(-count // self.bucket))
        raw = bits.unpack(reader.take(-(-count * self.bits // 8)), self.bits, count)
        steps = (torch.from_numpy(raw).double() - self.steps).clamp(-self.steps, self.steps)
        scale = scales.repeat_interleave(self.bucket)[:count]
        return narrow(steps / self.steps * scale)


@dataclass(frozen=True)
class Ternary:
    """TernGrad: each value becomes -scale, 0 or scale, at random; five to a byte.

    Wen et al. 2017, arXiv:1705.07878, equation 3: the scale is the largest absolute value, and a
    value is kept with probability |x| / scale. Unbiased, unless values are clipped first.

    Args:
        clip: values beyond so many times their root mean square are cut to it (the paper
            takes 2.5 standard deviations); None: none are.
    """

    clip: float | None = None
    contracts = False

    def pack(self, values: Tensor, rng: torch.Generator | None = None) -> bytes:
        """Return 4 bytes and 1.6 bits a value."""
        wide = values.double()
        if self.clip is not None and len(values):
            limit = self.clip * float(wide.square().mean().sqrt())
            wide = wide.clamp(-limit, limit)
        scale = wide.abs().max() if len(values) else wide.new_zeros(())
        codes = 1 + wide.sign() * (_draws(wide, rng) * scale < wide.abs())
        return _f32(scale) + bits.pack_trits(codes.to(torch.uint8).numpy())

    def unpack(self, reader: Reader, count: int) -> Tensor:
        """Return the values: of each sign one."""
        scale = _read_f32(reader, 1)
        raw = bits.unpack_trits(reader.take(-(-count // 5)), count)
        return narrow((torch.from_numpy(raw).double() - 1) * scale)


@dataclass(frozen=True)
class Sign:
    """One bit a value: its sign, times the mean absolute value of all.

    Karimireddy et al. 2019, arXiv:1901.09847, where it is shown to need error feedback (section
    3). Zero counts as positive. Biased; the error's square is at most (1 - 1/n) times that
    of the values.
    """

    contracts = True
    changes_only = True

    def pack(self, values: Tensor, rng: torch.Generator | None = None) -> bytes:
        """Return 4 bytes and 1 bit a value."""
        scale = values.double().abs().mean() if len(values) else values.new_zeros(())
        return _f32(scale) + bits.pack((values >= 0).numpy().astype(np.uint8), 1)

    def unpack(self, reader: Reader, count: int) -> Tensor:
        """Return the values: two there are."""
        scale = _read_f32(reader, 1)
        raw = bits.unpack(reader.take(-(-count // 8)), 1, count)
        return narrow((2 * torch.from_numpy(raw).double() - 1) * scale)


def _in_buckets(values: Tensor, bucket: int) -> Tensor:
    """Return the values in rows of `bucket`, float64, the last filled up with zeros."""
    rows = -(-len(values) // bucket)
    padded = values.new_zeros(rows * bucket, dtype=torch.float64)
    padded[: len(values)] = values
    return padded.view(rows, bucket)


def _draws(like: Tensor, rng: torch.Generator | None) -> Tensor:
    """Return numbers drawn evenly from [0, 1), float64, in the shape of another tensor."""
    return torch.rand(like.shape, generator=rng, dtype=torch.float64, device="cpu")


def _f32(scales: Tensor) -> bytes:
    return scales.float().flatten().numpy().astype("<f4").tobytes()


def _read_f32(reader: Reader, count: int) -> Tensor:
    """Return scales, (count,) float64; from hostile bytes they may be anything, also NaN."""
    raw = np.frombuffer(reader.take(4 * count), dtype="<f4").astype(np.float64)
    return torch.from_numpy(raw)


def narrow(values: Tensor) -> Tensor:
    """Return float32; rounding up at the very end of its range must not make it infinite."""
    return values.clamp(-_LARGEST, _LARGEST).float()
