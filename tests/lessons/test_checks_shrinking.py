"""Checks of notebook 10: right answers pass, likely mistakes get their own hint."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div
from verdicts import refused

from fedlab_helpers.lessons.checks import shrinking as checks
from fedlab_helpers.shrinking import to_integers
from fedlab_helpers.shrinking.onnx_model import helper, onnx, to_onnx
from fedlab_helpers.tasks.reviews.model import SentimentLSTM
from fedlab_helpers.tasks.reviews.task import load_task


def size(words, width, hidden, scales=True, wide=True, both=True):
    numbers = words * width + 4 * hidden * (width + hidden) + 2 * hidden
    biases = (8 if both else 4) * hidden + 2
    columns = width + width + hidden + hidden
    return numbers + (4 if wide else 1) * biases + (4 * columns if scales else 0)


def test_weight_bytes():
    assert checks.weight_bytes(size).passed
    refused(checks.weight_bytes(lambda *s: size(*s, scales=False)), "each column")
    refused(checks.weight_bytes(lambda *s: size(*s, wide=False)), "biases")
    refused(checks.weight_bytes(lambda *s: size(*s, both=False)), "two biases")
    refused(checks.weight_bytes(lambda *s: size(*s) - 8), "head has a bias")
    refused(checks.weight_bytes(lambda *s: size(*s) + 5), "shapes")
    for form in (float, np.int64, torch.tensor):  # a whole number all the same
        assert checks.weight_bytes(lambda *s, as_=form: as_(size(*s))).passed
    refused(checks.weight_bytes(lambda *s: size(*s) + 0.5), "whole number")
    of_rows = lambda w, e, h: size(w, e, h) + 4 * (w + 8 * h + 2 - 2 * e - 2 * h)  # noqa: E731
    refused(checks.weight_bytes(of_rows), "of a *column*")
    of_matrices = lambda w, e, h: size(w, e, h) + 4 * (4 - 2 * e - 2 * h)  # noqa: E731
    refused(checks.weight_bytes(of_matrices), "not one scale for each matrix")
    refused(checks.weight_bytes(lambda *s: None), "whole number")


def smaller(state, units, gates=3, columns=True, hidden=None, wrap=True):
    hidden = hidden or state["head.weight"].shape[1]
    rows = torch.cat([units + hidden * gate for gate in range(gates)])
    rows = rows % len(state["recurrent.bias_hh_l0"]) if wrap else rows
    made = {
        name: tensor[rows] if name.startswith("recurrent") else tensor.clone()
        for name, tensor in state.items()
    }
    if columns:
        hh = "recurrent.weight_hh_l0"
        made[hh] = made[hh][:, units]
        made["head.weight"] = made["head.weight"][:, units]
    return made


def in_place(state, units):
    made = smaller(state, units)
    state["head.bias"] += 1
    return made


def as_numpy(state, units):
    return {name: tensor.numpy() for name, tensor in smaller(state, units).items()}


def four_blocks(state, units):
    rows = torch.cat([units + state["head.weight"].shape[1] * gate for gate in range(4)])
    return {n: t[rows] if n.startswith("recurrent") else t for n, t in state.items()}


def test_keep_gru_units():
    assert checks.keep_gru_units(smaller).passed
    assert checks.keep_gru_units(as_numpy).passed
    refused(checks.keep_gru_units(lambda s, u: smaller(s, u, gates=4)), "three gates")
    refused(checks.keep_gru_units(four_blocks), "18 rows: three blocks of 6, and not four")
    refused(
        checks.keep_gru_units(lambda s, u: smaller(s, u, wrap=False, hidden=64)),
        "not every model has 64",
    )
    refused(checks.keep_gru_units(lambda s, u: smaller(s, u, columns=False)), "expected (9, 3)")
    refused(checks.keep_gru_units(lambda s, u: smaller(s, torch.arange(3))), "rows or columns")
    refused(checks.keep_gru_units(in_place), "make a new one")
    refused(checks.keep_gru_units(lambda s, u: None), "a dict")
    refused(checks.keep_gru_units(lambda s, u: smaller(s, u, hidden=6)))


def near(matrix, bits):
    whole, scale = to_integers(matrix.detach(), bits)
    return whole * scale


class Killed(torch.autograd.Function):
    """Rounding as it is: its gradient is zero."""

    @staticmethod
    def forward(ctx, matrix):
        return near(matrix, 4)

    @staticmethod
    def backward(ctx, gradient):
        return torch.zeros_like(gradient)


def test_straight_through():
    through = lambda m, bits: m + (near(m, bits) - m).detach()  # noqa: E731
    assert checks.straight_through(through).passed
    assert checks.straight_through(lambda m, bits: through(m.double(), bits)).passed
    refused(checks.straight_through(lambda m, bits: m * 1), "nothing is rounded")
    refused(checks.straight_through(near), "no gradient")
    refused(checks.straight_through(lambda m, bits: through(m, 3)), "not those of")
    refused(checks.straight_through(lambda m, bits: Killed.apply(m)), "0 everywhere")
    twice = lambda m, bits: 2 * m + (near(m, bits) - 2 * m).detach()  # noqa: E731
    refused(checks.straight_through(twice), "not the one that went in")
    refused(checks.straight_through(lambda m, bits: m.sum()))
    refused(checks.straight_through(lambda m, bits: through(m, 4)), "number of bits")


def loss(student, teacher, labels, T, alpha, *, square=True, cool=True):
    soft = (teacher.detach() / (T if cool else 1)).softmax(1)
    value = alpha * cross_entropy(student / T, soft)
    value = value + (1 - alpha) * cross_entropy(student / T, labels)
    return value * T**2 if square else value


def undetached(student, teacher, labels, T, alpha):
    return loss(student, teacher, labels, T, alpha) + 0 * teacher.sum() + 1e-9 * teacher.norm()


def test_student_loss():
    assert checks.student_loss(loss).passed
    refused(checks.student_loss(lambda *a: loss(*a, square=False)), "T²")
    refused(checks.student_loss(lambda *a: loss(*a, cool=False)), "divided by T, too")
    refused(checks.student_loss(lambda *a: loss(*a[:4], 1 - a[4])), "share of the teacher")
    refused(checks.student_loss(lambda *a: loss(*a) + 1), "expected")
    hinton = lambda s, t, y, T, a: loss(s, t, y, T, 1.0) * a + (1 - a) * cross_entropy(s, y)  # noqa: E731
    refused(checks.student_loss(hinton), "Hinton's")
    refused(checks.student_loss(undetached), "detach it")
    refused(checks.student_loss(lambda s, *a: s), "one number")
    refused(checks.student_loss(lambda *a: loss(*a).item()), "one number")
    assert checks.student_loss(lambda *a: loss(*a)[None]).passed
    assert checks.student_loss(lambda s, t, *a: loss(s.double(), t.double(), *a)).passed


def divergence(student, teacher, labels, T, alpha, *, reduction="batchmean", back=False, warm=1.0):
    """The usual form in PyTorch."""
    logs, target = (student / T).log_softmax(1), (teacher.detach() * warm / T).softmax(1)
    if back:
        logs, target = target.log(), logs.exp()
    soft = kl_div(logs, target, reduction=reduction)
    return T**2 * (alpha * soft + (1 - alpha) * cross_entropy(student / T, labels))


def test_student_loss_with_a_divergence():
    assert "a constant: the student learns the same" in repr(checks.student_loss(divergence))
    refused(checks.student_loss(lambda *a: divergence(*a, reduction="sum")), "not the sum")
    refused(checks.student_loss(lambda *a: divergence(*a, back=True)), "other way round")
    refused(checks.student_loss(lambda *a: divergence(*a, warm=a[3])), "divided by T, too")
    refused(checks.student_loss(lambda *a: divergence(*a) / a[3] ** 2), "T²")
    refused(checks.student_loss(lambda *a: divergence(*a[:4], 1 - a[4])), "share of the teacher")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, about this reduction
        refused(checks.student_loss(lambda *a: divergence(*a, reduction="mean")), "batchmean")


def by_parts(student, teacher, labels, T, alpha, *, of=("mean", "mean"), mixed=False):
    """Cross entropies written out: each summed over reviews, averaged, or over classes, too."""
    over = {"sum": lambda v: v.sum(), "mean": lambda v: v.sum(1).mean(), "all": lambda v: v.mean()}
    logs = (student / T).log_softmax(1)
    soft, hard = (teacher.detach() / T).softmax(1), torch.eye(2)[labels]
    if mixed:
        soft = hard = alpha * soft + (1 - alpha) * hard
    parts = (over[how](-target * logs) for how, target in zip(of, (soft, hard), strict=True))
    return T**2 * sum(share * part for share, part in zip((alpha, 1 - alpha), parts, strict=True))


def test_student_loss_written_out():
    assert checks.student_loss(by_parts).passed
    verdict = checks.student_loss(lambda *a: by_parts(*a, mixed=True))
    assert "one with a mixed target" in repr(verdict)
    for of in (("sum", "sum"), ("sum", "mean"), ("mean", "sum")):
        refused(checks.student_loss(lambda *a, of=of: by_parts(*a, of=of)), "not the sum")
    for of in (("all", "all"), ("all", "mean")):
        refused(checks.student_loss(lambda *a, of=of: by_parts(*a, of=of)), "*summed* over classes")


@pytest.fixture(scope="module")
def sample():
    return load_task("data/sample_reviews.csv", domain="domain", min_count=1)


def test_pocket_model(sample, monkeypatch):
    model = SentimentLSTM(len(sample.vocab), 4, 3, pooling="mean", seed=0)
    with torch.no_grad():
        model.head.bias.copy_(torch.tensor([-9.0, 9.0]))  # all are positive
    made = to_onnx(model, sample.vocab, bits=8)
    content = made.SerializeToString()
    reviews = tuple(replace(r, label=1) for r in sample.validation_reviews)
    assert checks.pocket_model(replace(sample, validation_reviews=reviews), content).passed
    reviews = (replace(reviews[0], label=0), *reviews[1:3])
    refused(checks.pocket_model(replace(sample, validation_reviews=reviews), content), "66.7%")
    refused(checks.pocket_model(sample, made), "bytes of the file", "SerializeToString")
    refused(checks.pocket_model(sample, b"junk"), "takes these 4 bytes for no model")
    refused(checks.pocket_model(sample, b""), "for no model")
    refused(checks.pocket_model(sample, content[:-200]), "for no model")
    monkeypatch.setattr(checks, "KILOBYTES", 1)
    refused(checks.pocket_model(sample, content), "too large")
    bare = onnx.ModelProto()
    bare.CopyFrom(made)
    del bare.metadata_props[:]
    helper.set_model_props(bare, {"author": "me"})
    bytes_of_bare = bare.SerializeToString()
    refused(checks.pocket_model(sample, bytes_of_bare), "without its words", "entry 'words'")
