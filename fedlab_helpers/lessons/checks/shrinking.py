"""Checks of notebook 10: smaller models."""

from collections.abc import Callable

import onnxruntime
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fedlab_helpers.core.state import State, of_model
from fedlab_helpers.lessons.checks.verdict import Verdict, exercise, right, wrong
from fedlab_helpers.shrinking import keep_units, taught, to_integers
from fedlab_helpers.shrinking.onnx_model import WORDS, onnx, run_onnx, to_onnx
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews, encode_reviews
from fedlab_helpers.tasks.reviews.model import SentimentLSTM
from fedlab_helpers.tasks.reviews.task import Task
from fedlab_helpers.tasks.reviews.words import Vocabulary

KILOBYTES, ACCURACY = 20, 0.80  # of the open exercise


@exercise("write `weight_bytes`: how many bytes the numbers of an LSTM take in 8 bits")
def weight_bytes(function: Callable[[int, int, int], int]) -> Verdict:
    """Judge a function of (words, width, hidden) -> bytes, against files of three sizes."""
    for words, width, hidden in ((4000, 16, 32), (50, 8, 16), (20, 4, 3)):
        got, true = function(words, width, hidden), _weight_bytes(words, width, hidden)
        if not isinstance(got, int):
            return wrong(f"a number of bytes is an int; got {got!r}.")
        if got == true:
            continue
        told = f"{words} words, {width} wide, {hidden} units: got {got:,} bytes"
        scales = 4 * (2 * width + 2 * hidden)
        hints = {
            -scales: "each column of each matrix has a scale, a float32.",
            -3 * 2 * 4 * hidden - 3 * 2: "vectors, here the biases, stay in float32.",
            -4 * 4 * hidden: "PyTorch's LSTM has two biases for each gate.",
            -4 * 2: "the head has a bias, too.",
        }
        return wrong(f"{told}; {hints.get(got - true, 'look at the shapes of `state` again.')}")
    return right("exactly what the file holds besides words and the names of its nodes.")


def _weight_bytes(words: int, width: int, hidden: int) -> int:
    model = SentimentLSTM(words, width, hidden, pooling="mean", seed=0)
    graph = to_onnx(model, Vocabulary(map(str, range(words - 2))), bits=8).graph
    own = [w for w in graph.initializer if w.data_type != onnx.TensorProto.INT64]
    return sum(len(weight.raw_data) for weight in own)


@exercise("write `keep_gru_units`: the weights of a GRU of fewer units")
def keep_gru_units(function: Callable[[State, Tensor], State]) -> Verdict:
    """Judge a function of (state, units that stay) -> the smaller state."""
    verdicts = [_kept_units(function, 6, [1, 2, 5]), _kept_units(function, 4, [0, 3])]
    return next((verdict for verdict in verdicts if not verdict.passed), verdicts[0])


def _kept_units(function: Callable[[State, Tensor], State], hidden: int, kept: list) -> Verdict:
    model = SentimentLSTM(9, 5, hidden, cell="gru", pooling="mean", seed=0)
    units = torch.tensor(kept)
    given = of_model(model)
    expected, got = of_model(keep_units(model, units)), function(given, units)
    if any(not torch.equal(given[name], own) for name, own in of_model(model).items()):
        return wrong("the state that came in was changed: make a new one.")
    if not isinstance(got, dict) or got.keys() != expected.keys():
        return wrong(f"expected a dict of {sorted(expected)}.")
    for name, tensor in expected.items():
        if got[name].shape == tensor.shape and torch.equal(got[name], tensor):
            continue
        shape = tuple(got[name].shape)
        if shape[0] == 4 * len(units):
            return wrong(f"{name} has {shape[0]} rows: a GRU has three gates.")
        if shape != tuple(tensor.shape):
            return wrong(f"{name} is {shape}, expected {tuple(tensor.shape)}.")
        return wrong(f"{name} has the right shape, but not the right rows or columns.")
    return right("three gates, two matrices, two biases, one column of the head.")


@exercise("write `straight_through`: rounded forward, untouched backward")
def straight_through(function: Callable[[Tensor, int], Tensor]) -> Verdict:
    """Judge a function of (matrix, bits) -> the rounded matrix, whose gradient is the identity."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(6, 3, generator=generator).requires_grad_()
    weights = torch.randn(6, 3, generator=generator)
    got = function(matrix, 4)
    if not isinstance(got, Tensor) or got.shape != matrix.shape:
        return wrong("expected a tensor of the matrix's shape.")
    if torch.allclose(got, matrix):
        return wrong("nothing is rounded.")
    if not torch.allclose(got, _near(matrix, 4), atol=1e-6):
        return wrong("the values are not those of `to_integers`: whole numbers times scale.")
    if not got.requires_grad:
        return wrong("no gradient can pass: the result must be `matrix` plus something detached.")
    (gradient,) = torch.autograd.grad((got * weights).sum(), matrix)
    if not gradient.any():
        return wrong("the gradient is 0 everywhere: that is what rounding itself has.")
    if not torch.allclose(gradient, weights):
        return wrong("the gradient that arrives is not the one that went in.")
    if not torch.allclose(function(matrix, 2), _near(matrix, 2), atol=1e-6):
        return wrong("right in 4 bits, not in 2; is the number of bits looked at?")
    return right("forward the rounded value, backward as if nothing had happened.")


def _near(matrix: Tensor, bits: int) -> Tensor:
    """Return the matrix rounded to so many bits."""
    whole, scale = to_integers(matrix.detach(), bits)
    return whole * scale


@exercise("write `student_loss`: what the student learns from, before labels and teacher are mixed")
def student_loss(function: Callable[[Tensor, Tensor, Tensor, float, float], Tensor]) -> Verdict:
    """Judge a function of (student's logits, teacher's logits, labels, T, alpha) -> loss."""
    student = torch.tensor([[1.0, -1.0], [0.5, 2.0], [-3.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[2.0, -2.0], [1.0, -0.5], [0.0, 1.0]], requires_grad=True)
    labels, T, alpha = torch.tensor([0, 1, 1]), 3.0, 0.6
    reviews = EncodedReviews(torch.ones(3, 1, dtype=torch.int64), torch.ones(3).long(), labels)
    true = T**2 * cross_entropy(student / T, taught(reviews, teacher.detach(), T, alpha).labels)
    got = function(student, teacher, labels, T, alpha)
    if not isinstance(got, Tensor) or got.shape != ():
        return wrong("expected one number, a tensor without axes.")
    if torch.isclose(got * T**2, true):
        return wrong("without T² the gradients shrink as T grows.")
    slips = {
        "alpha is the share of the teacher.": (teacher, 1 - alpha),
        "the teacher's logits are divided by T, too.": (T * teacher, alpha),
    }
    for hint, (logits, trust) in slips.items():
        target = taught(reviews, logits.detach(), T, trust).labels
        if torch.isclose(got, T**2 * cross_entropy(student / T, target)):
            return wrong(hint)
    soft = cross_entropy(student / T, (teacher.detach() / T).softmax(1))
    if torch.isclose(got, T**2 * alpha * soft + (1 - alpha) * cross_entropy(student, labels)):
        return wrong("that is Hinton's, with labels at T = 1; in the formula here both are at T.")
    if not torch.isclose(got, true):
        return wrong(f"got {float(got.detach()):.4f}, expected {float(true.detach()):.4f}.")
    got.backward()
    if teacher.grad is not None and teacher.grad.any():
        return wrong("the number is right; but the teacher would be trained, too: detach it.")
    return right("the sum of two losses, and the same as one with a mixed target.")


@exercise(f"bring a file of at most {KILOBYTES} kB that answers {100 * ACCURACY:.0f}% rightly")
def pocket_model(task: Task, content: bytes) -> Verdict:
    """Judge the bytes of an ONNX file with its words inside, on the task's validation reviews."""
    if not isinstance(content, bytes):
        return wrong(f"expected the bytes of the file, got {type(content).__name__}.")
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    words = session.get_modelmeta().custom_metadata_map.get(WORDS)
    if words is None:
        return wrong("a file without its words: write it with `to_onnx`.")
    reviews = encode_reviews(task.validation_reviews, Vocabulary(words.split("\n")))
    accuracy = (run_onnx(content, reviews).argmax(1) == reviews.labels).double().mean()
    told = f"{len(content) / 1e3:.1f} kB, {accuracy:.1%}"
    if len(content) > 1e3 * KILOBYTES:
        return wrong(f"{told}: too large. What takes most of it?")
    if accuracy < ACCURACY:
        return wrong(f"{told}. Longer training? A teacher? Other sizes for the same bytes?")
    return right(f"{told}, and every word it needs is inside.")
