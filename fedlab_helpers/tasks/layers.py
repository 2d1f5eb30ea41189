"""Layers that read a sequence, behind the interface of `nn.LSTM`; no step sees what follows it."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedlab_helpers.core.require import require, require_count


class MinGRU(nn.Module):
    """A GRU whose gate and candidate see the input only: its states can be computed all at once.

    Feng et al. 2024, arXiv:2410.01201, section 3.1.3: z_t = σ(W_z x_t), h̃_t = W_h x_t,
    h_t = (1 - z_t) h_{t-1} + z_t h̃_t, with biases, and h_0 = 0.

    Args:
        input_size: size F of what each step sees.
        hidden_size: size H of the state.
        batch_first: True.
    """

    def __init__(self, input_size: int, hidden_size: int, batch_first: bool = True):
        super().__init__()
        _require_sizes(input_size, hidden_size, batch_first)
        self.gate = nn.Linear(input_size, hidden_size)
        self.candidate = nn.Linear(input_size, hidden_size)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the state after each step, (B, T, H), and the last one, (B, H), of (B, T, F)."""
        parts = self.gate(inputs).sigmoid(), self.candidate(inputs)
        # On one CPU core nothing is gained by computing more at once.
        states = one_by_one(*parts) if inputs.device.type == "cpu" else at_once(*parts)
        return states, states[:, -1]


def one_by_one(gate: Tensor, candidate: Tensor) -> Tensor:
    """Return h_t = (1 - z_t) h_{t-1} + z_t h̃_t for all t, (B, T, H), one after the other."""
    state, states = torch.zeros_like(candidate[:, 0]), []
    for z, new in zip(gate.unbind(1), candidate.unbind(1), strict=True):
        state = torch.lerp(state, new, z)
        states.append(state)
    return torch.stack(states, 1)


def at_once(gate: Tensor, candidate: Tensor) -> Tensor:
    """Return the same in about log2(T) passes, each over all steps.

    A step is the map h -> k h + w. Two maps, one after the other, are such a map again; so each
    pass joins every map with that of a stretch twice as far back (Hillis and Steele 1986,
    doi:10.1145/7902.7903), until each reaches back to the beginning, where h is 0.
    """
    kept, written, back = 1 - gate, gate * candidate, 1
    while back < gate.shape[1]:
        reached = written[:, back:] + kept[:, back:] * written[:, :-back]
        written = torch.cat([written[:, :back], reached], 1)
        kept = torch.cat([kept[:, :back], kept[:, back:] * kept[:, :-back]], 1)
        back *= 2
    return written


class CausalTransformer(nn.Module):
    """One block of a Transformer whose steps look back only.

    Vaswani et al. 2017, arXiv:1706.03762, equation 1 and section 3.5 (positions as sines), with
    the normalization before each part, as Xiong et al. 2020, arXiv:2002.04745, and of what comes
    in, so that it is as large as the sines, whatever table it is from. The inner layer is twice as
    wide as the state: where F = H, about as many numbers as an LSTM of this size has.

    Args:
        input_size: size F of what each step sees; another than H passes a linear layer first.
        hidden_size: size H of what is said of each step; even.
        batch_first: True.
    """

    def __init__(self, input_size: int, hidden_size: int, batch_first: bool = True):
        super().__init__()
        _require_sizes(input_size, hidden_size, batch_first)
        require(hidden_size % 2 == 0, "hidden_size", hidden_size, "an even number: sines, cosines")
        self.heads = math.gcd(4, hidden_size)
        self.entry = _linear_or_nothing(input_size, hidden_size)
        self.first, self.before_attention, self.before_inner, self.last = (
            nn.LayerNorm(hidden_size) for _ in range(4)
        )
        self.asked = nn.Linear(hidden_size, 3 * hidden_size)  # queries, keys, values
        self.answered = nn.Linear(hidden_size, hidden_size)
        self.inner = nn.Sequential(
            nn.Linear(hidden_size, 2 * hidden_size),
            nn.GELU(),
            nn.Linear(2 * hidden_size, hidden_size),
        )

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is said of each step, (B, T, H), and of the last, (B, H), of (B, T, F)."""
        steps = self.first(self.entry(inputs))
        steps = steps + _positions(steps)
        steps = steps + self._attention(self.before_attention(steps))
        steps = self.last(steps + self.inner(self.before_inner(steps)))
        return steps, steps[:, -1]

    def _attention(self, steps: Tensor) -> Tensor:
        batch, length, size = steps.shape
        parts = self.asked(steps).view(batch, length, 3, self.heads, size // self.heads)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)  # each (B, heads, T, H / heads)
        mixed = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        return self.answered(mixed.transpose(1, 2).reshape(batch, length, size))


class Bag(nn.Module):
    """The mean of all steps so far: their order is lost.

    Args:
        input_size: size F of what each step sees; another than H passes a linear layer first.
        hidden_size: size H of the mean.
        batch_first: True.
    """

    def __init__(self, input_size: int, hidden_size: int, batch_first: bool = True):
        super().__init__()
        _require_sizes(input_size, hidden_size, batch_first)
        self.entry = _linear_or_nothing(input_size, hidden_size)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean up to each step, (B, T, H), and the last one, (B, H), of (B, T, F)."""
        steps = self.entry(inputs)
        counts = torch.arange(1, steps.shape[1] + 1, device=steps.device)
        means = steps.cumsum(1) / counts[:, None]
        return means, means[:, -1]


CELLS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}  # PyTorch's own
LAYERS = CELLS | {"mingru": MinGRU, "transformer": CausalTransformer, "bag": Bag}


def _require_sizes(input_size: int, hidden_size: int, batch_first: bool) -> None:
    require_count(input_size=input_size, hidden_size=hidden_size)
    require(batch_first, "batch_first", batch_first, "True")


def _linear_or_nothing(input_size: int, hidden_size: int) -> nn.Module:
    same = input_size == hidden_size
    return nn.Identity() if same else nn.Linear(input_size, hidden_size)


def _positions(steps: Tensor) -> Tensor:
    """Return a vector for each place, (T, H): sines and cosines of ever longer waves."""
    length, size = steps.shape[1:]
    exact = torch.promote_types(steps.dtype, torch.float32)  # half precision cannot count to 300
    places = torch.arange(length, dtype=exact, device=steps.device)
    waves = torch.arange(0, size, 2, dtype=exact, device=steps.device)
    angles = places[:, None] / 10_000 ** (waves / size)  # (T, H / 2)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1).to(steps.dtype)
