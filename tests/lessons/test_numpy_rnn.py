"""BPTT by hand against PyTorch's autograd, against differences, and against small sums."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlab_helpers.lessons import numpy_rnn

sizes = st.integers(1, 6)
few = settings(max_examples=40)
shapes = {"steps": st.integers(1, 12), "inputs": sizes, "hidden": sizes, "outputs": sizes,
          "seed": st.integers(0, 2**32 - 1)}  # fmt: skip
NAMES = [field.name for field in fields(numpy_rnn.Parameters)]


def example(steps, inputs, hidden, outputs, seed):
    rng = np.random.default_rng(seed)
    weights = numpy_rnn.Parameters.random(inputs, hidden, outputs, rng)
    return weights, rng.normal(size=(steps, inputs)), rng.integers(outputs, size=steps)


def autograd(weights, inputs, targets, truncate=None):
    """Return loss and gradients of the same network as PyTorch computes them."""
    W_x, W_h, b, V, c = leaves = [
        torch.tensor(getattr(weights, name), requires_grad=True) for name in NAMES
    ]
    state, total = torch.zeros(len(b), dtype=torch.float64), 0.0
    for t, (x, y) in enumerate(zip(torch.tensor(inputs), targets.tolist(), strict=True)):
        if truncate and t % truncate == 0:
            state = state.detach()
        state = torch.tanh(W_x @ x + W_h @ state + b)
        total = total - torch.log_softmax(V @ state + c, dim=0)[y]
    total.backward()
    zeros = (torch.zeros_like(leaf) for leaf in leaves)
    return total.item(), [
        (zero if leaf.grad is None else leaf.grad).numpy()
        for leaf, zero in zip(leaves, zeros, strict=True)
    ]


@given(**shapes, truncate=st.none() | st.integers(1, 13))
def test_gradients_agree_with_autograd(steps, inputs, hidden, outputs, seed, truncate):
    weights, x, y = example(steps, inputs, hidden, outputs, seed)
    trace = numpy_rnn.forward(weights, x)
    gradient, _ = numpy_rnn.backward(weights, trace, y, truncate)
    loss, expected = autograd(weights, x, y, truncate)
    assert numpy_rnn.loss(trace, y) == pytest.approx(loss, abs=1e-10)
    for name, theirs in zip(NAMES, expected, strict=True):
        assert np.abs(getattr(gradient, name) - theirs).max() < 1e-10, name


def test_two_steps_of_one_number_by_hand():
    weights = numpy_rnn.Parameters(
        W_x=np.array([[1.0]]), W_h=np.array([[0.5]]), b=np.array([0.0]),
        V=np.array([[0.0], [0.0]]), c=np.array([0.0, 0.0]),
    )  # fmt: skip
    trace = numpy_rnn.forward(weights, [[1.0], [0.0]])
    first = np.tanh(1.0)
    assert trace.hidden[:, 0] == pytest.approx([0.0, first, np.tanh(0.5 * first)])
    assert numpy_rnn.loss(trace, np.array([0, 1])) == pytest.approx(2 * np.log(2))
    gradient, d_hidden = numpy_rnn.backward(weights, trace, np.array([0, 1]))
    assert gradient.c == pytest.approx([0.0, 0.0])
    assert d_hidden == pytest.approx(np.zeros((2, 1)))  # V is zero: nothing comes back


def test_the_gradient_of_a_state_flows_back_through_every_later_step():
    weights, x, y = example(steps=5, inputs=2, hidden=3, outputs=2, seed=1)
    trace = numpy_rnn.forward(weights, x)
    _, full = numpy_rnn.backward(weights, trace, y)
    _, cut = numpy_rnn.backward(weights, trace, y, truncate=1)
    own = numpy_rnn.probabilities(trace.outputs)
    own[np.arange(5), y] -= 1
    assert cut == pytest.approx(own @ weights.V)  # each step's own loss only
    assert full[-1] == pytest.approx(cut[-1])
    through = weights.W_h.T @ ((1 - trace.hidden[5] ** 2) * full[4])
    assert full[3] == pytest.approx(cut[3] + through)


def test_a_sequence_in_two_halves_is_the_sequence():
    weights, x, _ = example(steps=6, inputs=2, hidden=3, outputs=2, seed=2)
    whole = numpy_rnn.forward(weights, x)
    half = numpy_rnn.forward(weights, x[3:], start=whole.hidden[3])
    assert np.array_equal(half.outputs, whole.outputs[3:])
    assert numpy_rnn.probabilities(np.array([[1e4, 0.0]])).tolist() == [[1.0, 0.0]]  # no overflow


@pytest.mark.parametrize("radius", [0.0, 0.5, 1.0, 1.7])
def test_spectral_radius(radius):
    matrix = np.random.default_rng(0).normal(size=(5, 5))
    scaled = numpy_rnn.with_spectral_radius(matrix, radius)
    assert np.abs(np.linalg.eigvals(scaled)).max() == pytest.approx(radius)


def test_bad_input_is_named():
    weights, x, y = example(steps=3, inputs=2, hidden=3, outputs=2, seed=0)
    trace = numpy_rnn.forward(weights, x)
    with pytest.raises(ValueError, match=r"inputs: got \(3, 1\), expected the shape \(T, 2\)"):
        numpy_rnn.forward(weights, x[:, :1])
    with pytest.raises(ValueError, match=r"inputs: got \(0, 2\)"):
        numpy_rnn.forward(weights, x[:0])
    with pytest.raises(ValueError, match=r"targets: got \(2,\), expected the shape \(3,\)"):
        numpy_rnn.backward(weights, trace, y[:2])
    with pytest.raises(ValueError, match="truncate: got 0"):
        numpy_rnn.backward(weights, trace, y, truncate=0)
    with pytest.raises(ValueError, match="radius: got -1"):
        numpy_rnn.with_spectral_radius(np.eye(2), -1)
    with pytest.raises(ValueError, match="expected an eigenvalue"):
        numpy_rnn.with_spectral_radius(np.zeros((2, 2)), 1)


def test_a_gradient_from_the_end_agrees_with_autograd():
    weights, x, _ = example(steps=7, inputs=2, hidden=4, outputs=2, seed=3)
    end = np.array([1.0, -2.0, 0.5, 0.0])
    flowing = numpy_rnn.backward_from_end(weights, numpy_rnn.forward(weights, x), end)
    W_x, W_h, b = (torch.tensor(getattr(weights, name)) for name in ("W_x", "W_h", "b"))
    states = [torch.zeros(4, dtype=torch.float64, requires_grad=True)]
    for row in torch.tensor(x):
        states.append(torch.tanh(W_x @ row + W_h @ states[-1] + b))
    expected = torch.autograd.grad(states[-1] @ torch.tensor(end), states)
    assert flowing == pytest.approx(torch.stack(expected).numpy(), abs=1e-12)


def test_without_inputs_a_network_of_one_number_multiplies_by_its_radius():
    lengths = numpy_rnn.gradient_map(
        np.array([0.5, 1.0, 2.0]), 4, np.random.default_rng(0), scale=0, hidden=1, draws=3
    )
    assert lengths == pytest.approx(np.array([[0.5], [1.0], [2.0]]) ** np.arange(5))


def test_the_map_is_the_geometric_mean_of_its_draws():
    radii, rng = np.array([0.7, 1.4]), np.random.default_rng(5)
    one, two = (numpy_rnn.gradient_map(radii, 6, rng, hidden=4, draws=1) for _ in range(2))
    both = numpy_rnn.gradient_map(radii, 6, np.random.default_rng(5), hidden=4, draws=2)
    assert both == pytest.approx(np.sqrt(one * two))
    assert both[:, 0] == pytest.approx([1, 1])
