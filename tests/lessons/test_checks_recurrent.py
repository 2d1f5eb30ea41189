"""The checks of notebook 01: right answers pass, typical wrong ones get a hint that fits."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from verdicts import refused

from fedlab_helpers.lessons.checks import recurrent as checks
from fedlab_helpers.studies import long_memory


def test_a_stub_is_not_yet():
    def stub(*_):
        return None

    for check in (checks.one_step_back, checks.clip, checks.gru_step, checks.own_cell):
        assert not check(stub).started


def test_steps_until_thousandth():
    for right in (66, 66.0, np.int64(66), np.float32(66), np.array(66), torch.tensor(66)):
        assert checks.steps_until_thousandth(right).passed
    refused(checks.steps_until_thousandth(65), "still above")
    refused(checks.steps_until_thousandth(67), "not for the first time")
    refused(checks.steps_until_thousandth(65.6), "whole number")
    refused(checks.steps_until_thousandth(np.int64(65)), "still above")


def test_one_step_back():
    for right in (
        lambda W, h, d: W.T @ ((1 - h**2) * d),
        lambda W, h, d: ((1 - h * h) * d) @ W,
        lambda W, h, d: (W.T @ np.diag(1 - h**2) @ d).astype(np.float32),
        lambda W, h, d: torch.tensor(W).T @ torch.tensor((1 - h**2) * d),
        lambda W, h, d: (W.T @ ((1 - h**2) * d)).tolist(),
    ):
        assert checks.one_step_back(right).passed
    refused(checks.one_step_back(lambda W, h, d: W.T @ d), "slope of tanh")
    refused(checks.one_step_back(lambda W, h, d: W @ ((1 - h**2) * d)), "transposed")
    refused(checks.one_step_back(lambda W, h, d: (1 - h**2) * (W.T @ d)), "first on the way back")
    tanh_twice = checks.one_step_back(lambda W, h, d: W.T @ ((1 - np.tanh(h) ** 2) * d))
    refused(tanh_twice, "already")
    refused(checks.one_step_back(lambda W, h, d: W.T @ (1 - h**2) * d), "brackets")
    refused(checks.one_step_back(lambda W, h, d: np.outer(d, h)), "shape (3, 3)")
    refused(checks.one_step_back(lambda W, h, d: d), "different vector")


def scale(gradients, longest):
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    return [g * min(1.0, longest / norm) for g in gradients]


def scale_each(gradients, longest):
    return [scale([gradient], longest)[0] for gradient in gradients]


def scale_always(gradients, longest):
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    return [g * longest / norm for g in gradients]


def scale_tensors(gradients, longest):
    tensors = [torch.tensor(g, dtype=torch.float32) for g in gradients]
    norm = torch.cat([t.flatten() for t in tensors]).norm()
    return tuple(t * min(1.0, longest / (float(norm) + 1e-6)) for t in tensors)


def test_clip():
    assert checks.clip(scale).passed
    assert checks.clip(scale_tensors).passed
    assert checks.clip(lambda g, longest: iter(scale(g, longest))).passed
    refused(checks.clip(scale_each), "by itself")
    refused(checks.clip(scale_always), "short enough")
    refused(checks.clip(lambda g, longest: g), "norm 5")
    refused(checks.clip(lambda g, longest: scale(g, 1.0)), "not 2")
    refused(checks.clip(lambda g, longest: [x.clip(-longest, longest) for x in g]), "each number")
    refused(checks.clip(lambda g, longest: g[0].fill(0)), "in place")
    refused(checks.clip(lambda g, longest: 0.4), "returned float")
    refused(checks.clip(lambda g, longest: g[:1]), "as many gradients")


def gru(r_first=True, keep_old=True, reset=True, early=False, bias_outside=False):
    def step(x, h, cell):
        read = (cell.weight_ih @ x + cell.bias_ih).chunk(3)
        old = (cell.weight_hh @ h + cell.bias_hh).chunk(3)
        r, z = torch.sigmoid(read[0] + old[0]), torch.sigmoid(read[1] + old[1])
        if not r_first:
            r, z = z, r
        old_n = r * old[2] if reset else old[2]
        if early:
            old_n = cell.weight_hh.chunk(3)[2] @ (r * h) + cell.bias_hh.chunk(3)[2]
        if bias_outside:
            bias = cell.bias_hh.chunk(3)[2]
            old_n = r * (old[2] - bias) + bias
        n = torch.tanh(read[2] + old_n)
        return (1 - z) * n + z * h if keep_old else z * n + (1 - z) * h

    return step


def test_gru_step():
    assert checks.gru_step(gru()).passed
    assert checks.gru_step(lambda x, h, cell: gru()(x, h, cell).double()).passed
    assert checks.gru_step(lambda x, h, cell: gru()(x, h, cell).numpy()).passed
    refused(checks.gru_step(lambda x, h, cell: gru(reset=False)(x, h, cell).numpy()), "reset gate")
    assert checks.gru_step(lambda x, h, cell: h.copy_(gru()(x, h, cell))).passed
    refused(checks.gru_step(gru(keep_old=False)), "old")
    refused(checks.gru_step(gru(reset=False)), "reset gate is missing")
    refused(checks.gru_step(gru(early=True)), "after the matrix")
    refused(checks.gru_step(gru(r_first=False)), "r comes first")
    refused(checks.gru_step(gru(bias_outside=True)), "inside r")
    refused(checks.gru_step(lambda x, h, cell: h), "largest difference")
    refused(checks.gru_step(lambda x, h, cell: x), "shape (3,)")


def test_open_gates_wants_the_smallest_and_trains_with_it(monkeypatch):
    """Notebook 01's solution trains; here it is looked at which gates were opened."""
    plain, raised = long_memory.reader("lstm", seed=0).recurrent.bias_ih_l0.detach(), []
    see = lambda model, *_, **__: raised.append(model.recurrent.bias_ih_l0.detach() - plain)  # noqa: E731
    monkeypatch.setattr(checks, "train", see)
    monkeypatch.setattr(checks, "evaluate", lambda *_: SimpleNamespace(accuracy=0.97))
    for right in (5, 5.0, np.int64(5), np.float32(5), torch.tensor(5)):
        assert checks.open_gates(right).passed
    assert raised[0].tolist() == pytest.approx([0] * 32 + [5] * 32 + [0] * 64, abs=1e-6)
    assert "names 97%" in checks.open_gates(5).message
    for large in (6, 8, 20, 1_000):
        refused(checks.open_gates(large), "go down")
    for small in (-1_000, -1, 0, 2, 3, 4):
        refused(checks.open_gates(small), "open further")
    for other in (4.4, "4", True, [4]):
        refused(checks.open_gates(other), "a whole number")


G = torch.Generator().manual_seed(0)
W, U = 0.3 * torch.randn(8, 3, generator=G), 0.3 * torch.randn(8, 8, generator=G)


def leaky(x, h):
    return 0.95 * h + 0.05 * torch.tanh(W @ x)


def in_place(x, h):
    h *= 0.95
    h += 0.05 * torch.tanh(W @ x)
    return h


def gated(x, h):
    gate = torch.sigmoid(3 + U @ h)
    return gate * h + (1 - gate) * torch.tanh(W @ x + U @ h)


def lstm_of_four(x, h):
    """Memory and state in one vector, with open gates."""
    i, f, g, o = (W.repeat(2, 1) @ x).chunk(4)
    c = torch.sigmoid(f + 4) * h[:4] + 0.05 * torch.sigmoid(i) * torch.tanh(g)
    return torch.cat([c, torch.sigmoid(o) * torch.tanh(c)])


def turning(x, h):
    """A rotation keeps all lengths; it forgets a little."""
    turn = torch.linalg.matrix_exp(U - U.T)
    return 0.97 * turn @ h + 0.1 * torch.tanh(W @ x)


def doubles(x, h):
    return 0.95 * h + 0.05 * torch.tanh(W.double() @ x)


def slow(x, h):
    return 0.9997 * h + 0.0003 * torch.tanh(W @ x)


CELLS = [leaky, in_place, gated, lstm_of_four, turning, doubles, slow]


@pytest.mark.parametrize("cell", CELLS)
def test_own_cells_pass_by_their_properties(cell):
    assert checks.own_cell(cell).passed, checks.own_cell(cell)


def test_own_cell_hints():
    for cell, hint in (
        (lambda x, h: torch.tanh(W @ x + 0.5 * U @ h), "a hundredth"),
        (lambda x, h: torch.tanh(W @ x), "a hundredth"),
        (lambda x, h: h + W @ x, "reading [1.0, 1.0, 1.0]"),
        (lambda x, h: h + 1e-4 * W @ x, "not bounded"),
        (lambda x, h: 1.1 * h + W @ x, "not bounded"),
        (lambda x, h: torch.sqrt(h**2 + (W @ x) ** 2 + 1e-12), "not bounded"),
        (lambda x, h: h + W @ (x - x.mean()), "reading [1.0, -1.0, 0.0]"),
        (lambda x, h: h + 0 * x.sum(), "no trace"),
        (lambda x, h: torch.where(h.any(), h, W @ x), "no trace"),
        (lambda x, h: 0.9 * h, "autograd cannot follow"),
        (lambda x, h: 0.9 * h + torch.ones(8, requires_grad=True), "autograd cannot follow"),
        (lambda x, h: leaky(x, h).detach(), "autograd cannot follow"),
        (lambda x, h: leaky(x, h).detach().numpy(), "returned ndarray"),
        (lambda x, h: leaky(x, h)[:4], "shape (4,)"),
        (lambda x, h: leaky(x, h) + torch.randn(8), "two results"),
        (lambda x, h: W @ h, "raised RuntimeError"),
    ):
        refused(checks.own_cell(cell), hint)
