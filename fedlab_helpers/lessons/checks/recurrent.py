"""Checks for notebook 01: how far gradients reach, one step of BPTT, clipping, gates, own cells."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from fedlab_helpers.core.compute import intra_op_threads, torch_rng
from fedlab_helpers.core.training import LocalConfig, evaluate, train
from fedlab_helpers.lessons.checks.verdict import (
    Verdict,
    exercise,
    near,
    right,
    slip,
    whole,
    wrong,
)
from fedlab_helpers.studies import long_memory

FAR = 80  # symbols
LONG = 8_000  # steps over which a cell of the reader's own must stay bounded


@exercise("put the number of steps into my_steps.")
def steps_until_thousandth(steps: int) -> Verdict:
    """Mark after how many steps back a factor of 0.9 a step has left less than 1/1000."""
    needed = math.ceil(math.log(1e-3) / math.log(0.9))
    got = whole(steps)
    if got == needed:
        return right(
            f"0.9 to the power of {needed} is {0.9**needed:.1e}. The longest reviews that this "
            "series reads have 64 words."
        )
    if got is None:
        return wrong(f"{steps!r}: a whole number of steps, please.")
    side = "still above" if got < needed else "below, but not for the first time"
    return wrong(f"0.9 to the power of {got} is {0.9**got:.2e}: {side}.")


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
    if not hasattr(found, "__iter__"):
        return wrong(f"it returned {type(found).__name__}, expected a list of gradients.")
    found = [np.asarray(gradient) for gradient in found]
    if [np.shape(g) for g in found] != [g.shape for g in long]:
        return wrong("return as many gradients as came, in their shapes.")
    alone = [g * min(1, 2 / np.linalg.norm(g)) for g in long]
    if all(map(np.allclose, found, alone)):
        return wrong("each was scaled by itself, which turns the step: use one norm over all.")
    if all(map(np.allclose, found, [g.clip(-2, 2) for g in long])):
        return wrong("each number was cut by itself, which turns the step: scale them all.")
    if not all(np.allclose(g, 0.4 * h, atol=1e-4) for g, h in zip(found, long, strict=True)):
        norm = math.sqrt(sum(float((g**2).sum()) for g in found))
        return wrong(f"[2, 1] and [2, 4] have norm 5 together; yours have {norm:.3g}, not 2.")
    (kept,) = function([g.copy() for g in short], 2.0)
    if not np.allclose(kept, short[0]):
        return wrong(f"a gradient of norm 0.5 is short enough, and became {kept}.")
    return right("long gradients keep their direction, short ones are left alone.")


@exercise("write `gru_step`: the new state of a GRU")
def gru_step(function: Callable[[Tensor, Tensor, nn.GRUCell], Tensor]) -> Verdict:
    """Mark a function of x (I,), h (H,) and a cell: what `cell(x, h)` returns."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        cell = nn.GRUCell(3, 4)
        x, h = torch.randn(3), torch.randn(4)
    with torch.no_grad():
        found, expected = function(x.clone(), h.clone(), cell), cell(x, h)
        if found is None:
            raise NotImplementedError
        found = torch.as_tensor(found)
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


@exercise(f"choose a bias so that half of the memory is left after {FAR - 1} steps")
def open_gates(bias: int) -> Verdict:
    """Mark the smallest whole number that, added to the bias of an LSTM's forget gates, leaves half
    of a memory after 79 steps; and train an LSTM with it to name the first of 80 symbols."""
    number = whole(bias)
    if number is None:
        return wrong(f"{bias!r}: a whole number, please.")
    left, less = (
        float(torch.sigmoid(torch.tensor(float(b), dtype=torch.float64)) ** (FAR - 1))
        for b in (number, number - 1)
    )
    if left < 0.5:
        return wrong(f"{left:.1e} of the memory is left after {FAR - 1} steps: open further.")
    if less >= 0.5:
        return wrong(f"{left:.2f} is left, but {number - 1} leaves {less:.2f}, half, too: go down.")
    return right(
        f"{left:.2f} of the memory is left, and with {number - 1} only {less:.2f}. Trained so, "
        f"this LSTM names {_named(number):.0%} of the first symbols; by chance it is 25%."
    )


def _named(bias: int) -> float:
    """Return how well an LSTM whose forget gates start at this bias learns to name the first."""
    generator = torch_rng(0, "open_gates")
    data, test = (long_memory.sequences(n, FAR, generator) for n in (6_400, 2_000))
    model = long_memory.open_forget_gates(long_memory.reader("lstm", seed=0), bias)
    with intra_op_threads(1):
        train(model, data, LocalConfig(8, 64, 1e-2), seed=0)
        return evaluate(model, test).accuracy


@exercise("write `my_step`: a cell's new state, from the input and the old state")
def own_cell(step: Callable[[Tensor, Tensor], Tensor]) -> Verdict:
    """Mark a cell of the reader's own, a function of x (3,) and h (8,): the same for the same,
    bounded, and open to the gradient of its first input and of its last over 50 steps."""
    read = torch.randn(50, 3, generator=torch_rng(0, "own_cell"))
    try:
        step(read[0], torch.zeros(8))
    except RuntimeError as error:
        if "dtype" not in str(error):
            raise
        read = read.double()  # the reader's weights are
    start = torch.zeros(8, dtype=read.dtype)
    new = step(read[0], start.clone())
    if new is None:
        raise NotImplementedError
    if not isinstance(new, Tensor) or new.shape != start.shape:
        came = f"{type(new).__name__} of shape {tuple(np.shape(new))}"
        return wrong(f"it returned {came}, expected a tensor of shape (8,).")
    if not torch.equal(new, step(read[0], start.clone())):
        return wrong("the same input and state gave two results: draw the weights once, outside.")
    for word in torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0]], dtype=read.dtype):
        if hint := _growth(step, word, start):
            return wrong(hint)
    words, state = read.requires_grad_(), start
    for word in words:
        state = step(word, state.clone())
    if state.requires_grad:
        (state @ torch.arange(1, 9).to(state)).backward()
    if words.grad is None:
        return wrong("autograd cannot follow: the new state depends on no input, or is detached.")
    first, last = words.grad[[0, -1]].norm(dim=1).tolist()
    if not last > 0:
        return wrong("the last word leaves no trace in the state: a memory that takes nothing in.")
    if not first >= 0.01 * last:
        return wrong(
            f"the first word's gradient is {first / last:.1e} times the last one's; keep at least "
            "a hundredth. What is the old state multiplied by, step after step?"
        )
    return right(
        f"bounded as far as we read; the first gradient is {first / last:.2g} times the last one."
    )


def _growth(step: Callable[[Tensor, Tensor], Tensor], word: Tensor, state: Tensor) -> str | None:
    """Say how a state grows that reads one word again and again; None: it settles."""
    sizes = []
    for _ in range(LONG):
        state = step(word, state.clone()).detach()
        sizes.append(float(state.abs().max()))
    half = LONG // 2
    early, late = max(sizes[:half]), max(sizes[half:])
    if math.isfinite(late) and late <= 1.35 * early:  # a root would be at 1.41, and grow for ever
        return None
    return (
        f"reading {word.tolist()} again and again, it is at {early:.3g} within {half:,} steps and "
        f"at {late:.3g} within {LONG:,}: it is not bounded."
    )
