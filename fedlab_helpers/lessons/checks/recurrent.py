"""Checks for notebook 01: how far gradients reach, one step of BPTT, clipping, and gates."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from fedlab_helpers.core.compute import intra_op_threads, torch_rng
from fedlab_helpers.core.training import LocalConfig, evaluate, train
from fedlab_helpers.lessons.checks.verdict import Verdict, exercise, near, right, slip, wrong
from fedlab_helpers.studies import long_memory

FAR, TARGET_ACCURACY = 80, 0.9


@exercise("put the number of steps into my_steps.")
def steps_until_thousandth(steps: int) -> Verdict:
    """Mark after how many steps back a factor of 0.9 a step has left less than 1/1000."""
    needed = math.ceil(math.log(1e-3) / math.log(0.9))
    if steps == needed:
        return right(
            f"0.9 to the power of {needed} is {0.9**needed:.1e}. The longest reviews that this "
            "series reads have 64 words."
        )
    if steps != int(steps):
        return wrong(f"{steps!r}: a whole number of steps, please.")
    side = "still above" if steps < needed else "below, but not for the first time"
    return wrong(f"0.9 to the power of {steps} is {0.9**steps:.2e}: {side}.")


@exercise("write `one_step_back`: from dL/dh_t to what flows into h_{t-1}")
def one_step_back(function: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]) -> Verdict:
    """Mark a function of W_h (H, H), h_t (H,) and dL/dh_t (H,): the gradient one step earlier."""
    W_h = np.array([[0.5, -1.0, 0.25], [2.0, 0.5, 0.0], [0.0, 1.5, -0.5]])
    h, d_h = np.array([0.5, -0.8, 0.0]), np.array([1.0, -2.0, 3.0])
    found = function(W_h.copy(), h.copy(), d_h.copy())
    if found is None:
        raise NotImplementedError
    if np.shape(found) != h.shape:
        return wrong(f"it returned shape {np.shape(found)}, expected {h.shape}.")
    slope, twice, back = 1 - h**2, 1 - np.tanh(h) ** 2, W_h.T
    if near(found, back @ (slope * d_h)):
        return right("this one line, repeated, is what makes gradients vanish or explode.")
    late = slope * (back @ d_h)
    slips = {
        "where is the slope of tanh? It is 1 - h**2, and h is there.": back @ d_h,
        "forward, W_h maps h_{t-1} to the sum; backward it is transposed.": W_h @ (slope * d_h),
        "tanh comes after W_h on the way forward, so its slope comes first on the way back.": late,
        "mind the brackets: the slope belongs to d_h, before the matrix.": back @ slope * d_h,
        "h is the state already, tanh of the sum: its slope is 1 - h**2.": back @ (twice * d_h),
    }
    general = "a different vector came out. First through tanh, then through W_h."
    return wrong(slip(found, slips) or general)


@exercise("write `clip`: all gradients scaled together")
def clip(function: Callable[[list[np.ndarray], float], list[np.ndarray]]) -> Verdict:
    """Mark a function of gradients and a largest norm that scales them all by one factor."""
    long, short = [np.array([2.0, 1.0]), np.array([[2.0], [4.0]])], [np.array([0.3, 0.4])]
    given = [g.copy() for g in long]
    found = function(given, 2.0)
    if found is None and not np.array_equal(given[0], long[0]):
        return wrong("it changes the gradients in place: return the list, too.")
    if found is None:
        raise NotImplementedError
    if not isinstance(found, list | tuple):
        return wrong(f"it returned {type(found).__name__}, expected a list of gradients.")
    if [np.shape(g) for g in found] != [g.shape for g in long]:
        return wrong("return as many gradients as came, in their shapes.")
    alone = [g * min(1, 2 / np.linalg.norm(g)) for g in long]
    if all(map(np.allclose, found, alone)):
        return wrong("each was scaled by itself, which turns the step: use one norm over all.")
    if all(map(np.allclose, found, [g.clip(-2, 2) for g in long])):
        return wrong("each number was cut by itself, which turns the step: scale them all.")
    if not all(np.allclose(g, 0.4 * h, atol=1e-4) for g, h in zip(found, long, strict=True)):
        norm = math.sqrt(sum(float((np.asarray(g) ** 2).sum()) for g in found))
        return wrong(f"[2, 1] and [2, 4] have norm 5 together; yours have {norm:.3g}, not 2.")
    kept = function([g.copy() for g in short], 2.0)
    if not np.allclose(kept[0], short[0]):
        return wrong(f"a gradient of norm 0.5 is short enough, and became {kept[0]}.")
    return right("long gradients keep their direction, short ones are left alone.")


@exercise("write `gru_step`: the new state of a GRU")
def gru_step(function: Callable[[Tensor, Tensor, nn.GRUCell], Tensor]) -> Verdict:
    """Mark a function of x (I,), h (H,) and a cell: what `cell(x, h)` returns."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        cell = nn.GRUCell(3, 4)
        x, h = torch.randn(3), torch.randn(4)
    with torch.no_grad():
        found, expected = function(x, h, cell), cell(x, h)
        if found is None:
            raise NotImplementedError
        if found.shape != expected.shape:
            return wrong(f"it returned shape {tuple(found.shape)}, expected (4,).")
        if near(found, expected):
            return right("two gates, no separate memory, and PyTorch's own numbers.")
        hint = slip(found, _gru_slips(x, h, cell))
    away = (found - expected).abs().max()
    return wrong(hint or f"the largest difference from PyTorch's is {away:.2g}.")


def _gru_slips(x: Tensor, h: Tensor, cell: nn.GRUCell) -> dict[str, Tensor]:
    """Return what frequent mistakes lead to, by what to say about them."""
    read = (cell.weight_ih @ x + cell.bias_ih).chunk(3)
    old = (cell.weight_hh @ h + cell.bias_hh).chunk(3)
    r, z = torch.sigmoid(read[0] + old[0]), torch.sigmoid(read[1] + old[1])
    W, b = cell.weight_hh.chunk(3)[2], cell.bias_hh.chunk(3)[2]

    def state(old_n: Tensor, stays: Tensor = z) -> Tensor:
        return (1 - stays) * torch.tanh(read[2] + old_n) + stays * h

    early = state(W @ (r * h) + b)
    return {
        "z is how much of the *old* state stays.": state(r * old[2], 1 - z),
        "the reset gate is missing.": state(old[2]),
        "PyTorch applies r after the matrix, to the product (the GRU's paper before).": early,
        "d_n, the bias on the old state, lies inside r * (…).": state(r * (W @ h) + b),
        "r and z are exchanged: in PyTorch's weights r comes first.": state(z * old[2], r),
    }


@exercise(f"choose a bias for the forget gates so that the LSTM remembers over {FAR} steps")
def open_gates(bias: float) -> Verdict:
    """Train an LSTM whose forget gates start at this bias to name the first of 80 symbols."""
    generator = torch_rng(0, "open_gates")
    data, test = (long_memory.sequences(n, FAR, generator) for n in (6_400, 2_000))
    model = long_memory.reader("lstm", seed=0)
    model.recurrent.bias_ih_l0.data[32:64] += float(bias)
    with intra_op_threads(1):
        train(model, data, LocalConfig(8, 64, 1e-2), seed=0)
        accuracy = evaluate(model, test).accuracy
    left = (1 / (1 + math.exp(-float(bias)))) ** (FAR - 1)
    told = f"{accuracy:.1%} right; at first {left:.1e} of the memory was left after {FAR - 1} steps"
    if accuracy >= TARGET_ACCURACY:
        return right(f"{told}. Is it the smallest whole number that does it?")
    if left < 0.05:
        return wrong(f"{told}, and little of the gradient: open the gates further.")
    return wrong(f"{told}, which should do; and yet it did not learn.")
