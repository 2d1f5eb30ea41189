"""Checks of notebook 10: smaller models."""

from collections.abc import Callable

import onnxruntime
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fedlab_helpers.core.state import State, of_model
from fedlab_helpers.lessons.checks.verdict import Verdict, exercise, near, right, whole, wrong
from fedlab_helpers.shrinking import keep_units, to_integers
from fedlab_helpers.shrinking.onnx_model import WORDS, onnx, run_onnx, to_onnx
from fedlab_helpers.tasks.reviews.encoded import encode_reviews
from fedlab_helpers.tasks.reviews.model import SentimentLSTM
from fedlab_helpers.tasks.reviews.task import Task
from fedlab_helpers.tasks.reviews.words import Vocabulary

KILOBYTES, ACCURACY = 20, 0.80  # of the open exercise


@exercise("write `weight_bytes`: how many bytes the numbers of an LSTM take in 8 bits")
def weight_bytes(function: Callable[[int, int, int], int]) -> Verdict:
    """Judge a function of (words, width, hidden) -> bytes, against files of three sizes."""
    for words, width, hidden in ((4000, 16, 32), (50, 8, 16), (20, 4, 3)):
        got, true = function(words, width, hidden), _weight_bytes(words, width, hidden)
        if whole(got) is None:
            return wrong(f"a number of bytes is a whole number; got {got!r}.")
        if got == true:
            continue
        told = f"{words} words, {width} wide, {hidden} units: got {got:,} bytes"
        scales = 4 * (2 * width + 2 * hidden)
        of_rows = "a scale is of a *column*: a matrix of 4,000 rows and 16 columns has 16 of them."
        hints = {
            -scales: "each column of each matrix has a scale, a float32.",
            4 * (words + 8 * hidden + 2) - scales: of_rows,
            4 * 4 - scales: "not one scale for each matrix, but one for each of its columns.",
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
    expected = of_model(keep_units(model, units))
    try:
        got = function(given, units)
    except IndexError as error:
        return wrong(
            f"{error}: this GRU has {hidden} units, so {3 * hidden} rows: three blocks of "
            f"{hidden}, and not four. Take sizes from the shapes: not every model has 64 units."
        )
    if any(not torch.equal(given[name], own) for name, own in of_model(model).items()):
        return wrong("the state that came in was changed: make a new one.")
    if not isinstance(got, dict) or got.keys() != expected.keys():
        return wrong(f"expected a dict of {sorted(expected)}.")
    for name, tensor in expected.items():
        got[name] = torch.as_tensor(got[name])
        if near(got[name], tensor):
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
    if near(got, matrix):
        return wrong("nothing is rounded.")
    if not near(got, _near(matrix, 4)):
        return wrong("the values are not those of `to_integers`: whole numbers times scale.")
    if not got.requires_grad:
        return wrong("no gradient can pass: the result must be `matrix` plus something detached.")
    (gradient,) = torch.autograd.grad((got * weights).sum(), matrix)
    if not gradient.any():
        return wrong("the gradient is 0 everywhere: that is what rounding itself has.")
    if not near(gradient, weights):
        return wrong("the gradient that arrives is not the one that went in.")
    if not near(function(matrix, 2), _near(matrix, 2)):
        return wrong("right in 4 bits, not in 2; is the number of bits looked at?")
    return right("forward the rounded value, backward as if nothing had happened.")


def _near(matrix: Tensor, bits: int) -> Tensor:
    """Return the matrix rounded to so many bits."""
    whole, scale = to_integers(matrix.detach(), bits)
    return whole * scale


@exercise("write `student_loss`: the loss of a student, from its teacher and the labels")
def student_loss(function: Callable[[Tensor, Tensor, Tensor, float, float], Tensor]) -> Verdict:
    """Judge a function of (student's logits, teacher's logits, labels, T, alpha) -> loss. The KL
    divergence in place of the teacher's cross entropy is right, too: it differs by a constant."""
    student = torch.tensor([[1.0, -1.0], [0.5, 2.0], [-3.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[2.0, -2.0], [1.0, -0.5], [0.0, 1.0]], requires_grad=True)
    labels, T, alpha = torch.tensor([0, 1, 1]), 3.0, 0.6
    got = function(student, teacher, labels, T, alpha)
    if not isinstance(got, Tensor) or got.numel() != 1 or not got.requires_grad:
        return wrong("expected one number, a tensor that hangs on the student's logits.")
    got = got.reshape(())
    true, kl, slips = _losses(student.detach(), teacher.detach(), labels, T, alpha)
    for hint, value in slips:
        if near(got, value):
            return wrong(hint)
    if not (near(got, true) or near(got, kl)):
        told = f"got {float(got.detach()):.4f}, expected {float(true):.4f}"
        return wrong(f"{told}, or {float(kl):.4f} with a KL divergence.")
    got.backward()
    if teacher.grad is not None and teacher.grad.any():
        return wrong("the number is right; but the teacher would be trained, too: detach it.")
    if near(got, kl):
        return right(
            "with a KL divergence. The cross entropy of the formula is larger by the entropy of "
            "the teacher's answers, a constant: the student learns the same."
        )
    return right("written as two losses or as one with a mixed target, it is the same number.")


def _losses(
    student: Tensor, teacher: Tensor, labels: Tensor, T: float, alpha: float
) -> tuple[Tensor, Tensor, list[tuple[str, Tensor]]]:
    """Return the loss of the formula, the same with a KL divergence, and where slips lead."""
    target, said, hard = (teacher / T).softmax(1), student / T, cross_entropy(student / T, labels)

    def kl(target: Tensor, logs: Tensor) -> Tensor:
        return (target * (target.log() - logs)).sum(1).mean()

    def total(soft: Tensor, hard: Tensor = hard, share: float = alpha) -> Tensor:
        return T**2 * (share * soft + (1 - share) * hard)

    logs, warm = said.log_softmax(1), teacher.softmax(1)
    own, crossed = kl(target, logs), cross_entropy(said, target)
    mean = "`kl_div` also divides by the number of classes; reduction='batchmean' does not."
    over, summed = (
        "a cross entropy is *summed* over classes.",
        "the mean over reviews, not the sum.",
    )
    slips = [
        (mean, total(own / 2)),
        (over, total(crossed / 2)),
        (over, total(crossed / 2, hard / 2)),
    ]
    for soft in (own, crossed):
        slips += [(summed, total(a * soft, b * hard)) for a, b in ((3, 1), (3, 3), (1, 3))]
    back = kl(said.softmax(1), target.log())
    slips += [("that KL goes the other way round: the teacher is the target.", total(back))]
    for soft, warmer in ((crossed, cross_entropy(said, warm)), (own, kl(warm, logs))):
        slips += [
            ("without T² the gradients shrink as T grows.", total(soft) / T**2),
            ("alpha is the share of the teacher.", total(soft, share=1 - alpha)),
            ("the teacher's logits are divided by T, too.", total(warmer)),
            (
                "that is Hinton's, with labels at T = 1; in the formula here both are at T.",
                total(soft, cross_entropy(student, labels) / T**2),
            ),
        ]
    return total(crossed), total(own), slips


@exercise(f"bring a file of at most {KILOBYTES} kB that answers {100 * ACCURACY:.0f}% rightly")
def pocket_model(task: Task, content: bytes) -> Verdict:
    """Judge the bytes of an ONNX file with its words inside, on the task's validation reviews."""
    if not isinstance(content, bytes | bytearray):
        told = f"expected the bytes of the file, got {type(content).__name__}"
        return wrong(f"{told}; `.SerializeToString()` of an ONNX model makes them.")
    content = bytes(content)
    try:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception as error:
        return wrong(f"ONNX Runtime takes these {len(content):,} bytes for no model: {error}"[:300])
    words = session.get_modelmeta().custom_metadata_map.get(WORDS)
    if words is None:
        return wrong(
            f"a file without its words: write it with `to_onnx`, or put them, one a line, into the "
            f"metadata entry {WORDS!r}."
        )
    reviews = encode_reviews(task.validation_reviews, Vocabulary(words.split("\n")))
    logits = run_onnx(content, reviews)
    accuracy = (logits.argmax(1) == reviews.labels).double().mean()
    few = range(min(8, len(reviews)))
    alone = torch.cat([run_onnx(content, reviews.subset([place])) for place in few])
    if not torch.allclose(alone, logits[: len(few)], atol=1e-3):
        return wrong("a review alone gets another answer than among others: is padding left out?")
    told = f"{len(content) / 1e3:.1f} kB, {accuracy:.1%}"
    if len(content) > 1e3 * KILOBYTES:
        return wrong(f"{told}: too large. What takes most of it?")
    if accuracy < ACCURACY:
        return wrong(f"{told}. Longer training? A teacher? Other sizes for the same bytes?")
    return right(f"{told}, and every word it needs is inside.")
