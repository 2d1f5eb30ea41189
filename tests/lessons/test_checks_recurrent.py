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

    for check in (checks.one_step_back, checks.clip, checks.gru_step):
        assert not check(stub).started


def test_steps_until_thousandth():
    assert checks.steps_until_thousandth(66).passed
    refused(checks.steps_until_thousandth(65), "still above")
    refused(checks.steps_until_thousandth(67), "not for the first time")
    refused(checks.steps_until_thousandth(65.6), "whole number")
    refused(checks.steps_until_thousandth(np.int64(65)), "still above")


def test_one_step_back():
    assert checks.one_step_back(lambda W, h, d: W.T @ ((1 - h**2) * d)).passed
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


def test_clip():
    assert checks.clip(scale).passed
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
    refused(checks.gru_step(gru(keep_old=False)), "old")
    refused(checks.gru_step(gru(reset=False)), "reset gate is missing")
    refused(checks.gru_step(gru(early=True)), "after the matrix")
    refused(checks.gru_step(gru(r_first=False)), "r comes first")
    refused(checks.gru_step(gru(bias_outside=True)), "inside r")
    refused(checks.gru_step(lambda x, h, cell: h), "largest difference")
    refused(checks.gru_step(lambda x, h, cell: x), "shape (3,)")


@pytest.fixture
def learned(monkeypatch):
    """Let the check's model learn as much as is said, and see its gates; notebook 01's solution
    trains it."""

    def as_much(accuracy):
        raised = []
        plain = long_memory.reader("lstm", seed=0).recurrent.bias_ih_l0.detach()
        train = lambda model, *_, **__: raised.append(model.recurrent.bias_ih_l0.detach() - plain)  # noqa: E731
        monkeypatch.setattr(checks, "train", train)
        monkeypatch.setattr(checks, "evaluate", lambda *_: SimpleNamespace(accuracy=accuracy))
        return raised

    return as_much


def test_open_gates(learned):
    raised = learned(checks.TARGET_ACCURACY)
    assert checks.open_gates(5).passed
    assert raised[0].tolist() == pytest.approx([0] * 32 + [5] * 32 + [0] * 64, abs=1e-6)


def test_gates_that_do_not_let_it_learn(learned):
    learned(0.9 * checks.TARGET_ACCURACY)
    refused(checks.open_gates(0), "open the gates further")
    refused(checks.open_gates(5), "yet it did not learn")
