"""An Elman network and its back-propagation through time in plain NumPy, written to be read.

For one sequence x_1 … x_T, with h_0 given (Elman 1990, doi:10.1207/s15516709cog1402_1):

    h_t = tanh(W_x x_t + W_h h_{t-1} + b)
    o_t = V h_t + c
    L   = sum over t of -log softmax(o_t)[y_t]
"""

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from fedlab_helpers.core.require import require

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Parameters:
    """The weights, or the gradients of a loss with respect to them."""

    W_x: Array  # input to hidden, (H, I)
    W_h: Array  # hidden to hidden, (H, H)
    b: Array  # (H,)
    V: Array  # hidden to output, (O, H)
    c: Array  # (O,)

    @classmethod
    def random(
        cls, inputs: int, hidden: int, outputs: int, rng: np.random.Generator
    ) -> "Parameters":
        """Return weights drawn evenly from ±1/sqrt(H), as PyTorch's recurrent layers do."""
        bound = 1 / np.sqrt(hidden)
        shapes = (hidden, inputs), (hidden, hidden), (hidden,), (outputs, hidden), (outputs,)
        return cls(*(rng.uniform(-bound, bound, shape) for shape in shapes))

    def zeros(self) -> "Parameters":
        """Return zeros of the same shapes."""
        return Parameters(*(np.zeros_like(getattr(self, field.name)) for field in fields(self)))


@dataclass(frozen=True, eq=False)
class Trace:
    """What the forward pass keeps for the backward pass."""

    inputs: Array  # x_1 … x_T, (T, I)
    hidden: Array  # h_0 … h_T, (T + 1, H)
    outputs: Array  # o_1 … o_T, (T, O)


def forward(weights: Parameters, inputs: Array, start: Array | None = None) -> Trace:
    """Run the network over one sequence.

    Args:
        inputs: (T, I) with the I of the weights, T at least 1; others raise a ValueError.
        start: h_0, (H,); None: zeros.
    """
    inputs = np.asarray(inputs, dtype=np.float64)
    hidden_size, input_size = weights.W_x.shape
    fits = inputs.shape[1:] == (input_size,) and len(inputs)
    require(fits, "inputs", inputs.shape, f"the shape (T, {input_size}), T at least 1")
    hidden = np.zeros((len(inputs) + 1, hidden_size))
    hidden[0] = 0 if start is None else start
    for t, x in enumerate(inputs):
        hidden[t + 1] = np.tanh(weights.W_x @ x + weights.W_h @ hidden[t] + weights.b)
    return Trace(inputs, hidden, hidden[1:] @ weights.V.T + weights.c)


def probabilities(outputs: Array) -> Array:
    """Return the softmax of each row of (T, O), without overflow."""
    powers = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def loss(trace: Trace, targets: NDArray[np.int64]) -> float:
    """Return the cross-entropy in nats, summed over time; targets are classes, (T,)."""
    chosen = probabilities(trace.outputs)[np.arange(len(targets)), targets]
    return float(-np.log(chosen).sum())


def backward(
    weights: Parameters, trace: Trace, targets: NDArray[np.int64], truncate: int | None = None
) -> tuple[Parameters, Array]:
    """Return the loss's gradients by back-propagation through time, from what the forward pass
    with these weights kept.

    Args:
        targets: classes, (T,); another shape raises a ValueError, as does a `truncate` below 1.
        truncate: cut the sequence into pieces of this many steps; no gradient flows from a piece
            into the one before it, as when a hidden state is detached. None: full BPTT.

    Returns:
        The gradients of the weights, and dL/dh_1 … dL/dh_T, (T, H).
    """
    steps, shape = len(trace.inputs), np.shape(targets)
    require(truncate is None or truncate >= 1, "truncate", truncate, "at least 1, or None")
    require(shape == (steps,), "targets", shape, f"the shape ({steps},)")
    d_outputs = probabilities(trace.outputs)
    d_outputs[np.arange(steps), targets] -= 1  # dL/do_t = softmax(o_t) - onehot(y_t)
    gradient = weights.zeros()
    d_hidden = d_outputs @ weights.V  # (T, H), each step's own loss so far
    for t in reversed(range(steps)):
        d_sum = (1 - trace.hidden[t + 1] ** 2) * d_hidden[t]  # through tanh
        gradient.W_x[:] += np.outer(d_sum, trace.inputs[t])
        gradient.W_h[:] += np.outer(d_sum, trace.hidden[t])
        gradient.b[:] += d_sum
        if t > 0 and not (truncate and t % truncate == 0):
            d_hidden[t - 1] += weights.W_h.T @ d_sum  # to the step before
    gradient.V[:] = d_outputs.T @ trace.hidden[1:]
    gradient.c[:] = d_outputs.sum(axis=0)
    return gradient, d_hidden


def with_spectral_radius(matrix: Array, radius: float) -> Array:
    """Return the matrix scaled so that its largest eigenvalue has this absolute value. Raises
    ValueError: all eigenvalues are zero, or the radius is negative."""
    require(radius >= 0, "radius", radius, "a number not below 0")
    largest = np.abs(np.linalg.eigvals(matrix)).max()
    require(largest > 0, "matrix", "none but 0", "an eigenvalue that can be scaled")
    return matrix * (radius / largest)


def backward_from_end(weights: Parameters, trace: Trace, gradient: Array) -> Array:
    """Return how the gradient of a loss on the last state alone, dL/dh_T, (H,), travels back:
    dL/dh_0 … dL/dh_T, (T + 1, H)."""
    flowing = np.zeros_like(trace.hidden)
    flowing[-1] = gradient
    for t in reversed(range(len(trace.inputs))):
        flowing[t] = weights.W_h.T @ ((1 - trace.hidden[t + 1] ** 2) * flowing[t + 1])
    return flowing


def gradient_map(
    radii: Array,
    steps: int,
    rng: np.random.Generator,
    *,
    scale: float = 1.0,
    hidden: int = 32,
    draws: int = 10,
) -> Array:
    """Return how long a gradient is after 0 … `steps` steps back, for each spectral radius.

    Networks are drawn at random, read random inputs, and a gradient of length 1 is sent back from
    the last state; the same draws serve every radius.

    Args:
        radii: spectral radii of W_h, (R,).
        steps: length of the sequences.
        rng: where the draws come from.
        scale: standard deviation of the inputs; at 0 the states stay 0 and tanh is the identity.
        hidden: size H of the state.
        draws: networks that each value is the geometric mean of.

    Returns:
        Lengths, (R, steps + 1); column k is k steps back, and column 0 is 1.
    """
    logs = np.zeros((len(radii), steps + 1))
    for _ in range(draws):
        drawn = Parameters.random(hidden, hidden, 1, rng)
        drawn = replace(drawn, b=np.zeros(hidden))
        end, inputs = rng.normal(size=hidden), scale * rng.normal(size=(steps, hidden))
        for row, radius in enumerate(radii):
            weights = replace(drawn, W_h=with_spectral_radius(drawn.W_h, radius))
            trace = forward(weights, inputs)
            flowing = backward_from_end(weights, trace, end / np.linalg.norm(end))
            lengths = np.linalg.norm(flowing[::-1], axis=1)
            logs[row] += np.log(np.maximum(lengths, np.finfo(float).tiny)) / draws
    return np.exp(logs)
