"""Random numbers that protect somebody.

torch's generators will not do. On a CPU they know 2^32 seeds, which can be tried, and from a part
of what a Mersenne Twister draws the rest can be computed. So secret numbers are the keystream of a
cipher, under a key of the system's own. (As floating-point numbers they are only nearly normal,
which is a gap of its own: Mironov 2012, doi:10.1145/2382196.2382264.)
"""

import math
import secrets

import numpy as np
import torch
from torch import Tensor

from fedlab_helpers.privacy.secure.masks import KEY_BYTES, keystream

_STEP = 2.0**-53  # of a uniform number in float64


def uniform(count: int, rng: torch.Generator | None) -> Tensor:
    """Return numbers from 0 to 1, (count,) float64, on the CPU; drawn secretly if `rng` is None."""
    if rng is not None:
        return torch.rand(count, generator=rng, dtype=torch.float64)
    stream = keystream(secrets.token_bytes(KEY_BYTES)).update(bytes(8 * count))
    return torch.from_numpy((np.frombuffer(stream, "<u8") >> 11) * _STEP)


def normal(shape: tuple[int, ...], rng: torch.Generator | None) -> Tensor:
    """Return standard normal numbers of this shape, float64, on the CPU; drawn secretly if `rng` is
    None: from pairs of uniform ones (Box and Muller 1958, doi:10.1214/aoms/1177706645)."""
    if rng is not None:
        return torch.randn(shape, generator=rng, dtype=torch.float64)
    count = math.prod(shape)
    first, second = (uniform((count + 1) // 2, None) for _ in range(2))
    radius, angle = (-2 * (1 - first).log()).sqrt(), 2 * math.pi * second
    return torch.cat([radius * angle.cos(), radius * angle.sin()])[:count].view(shape)
