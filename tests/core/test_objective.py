"""What is asked of a model: losses, weights and measures by hand, and shapes that are refused."""

import math

import pytest
import torch

from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.objective import CLASSES, NOT_ASKED
from fedlab_helpers.core.training import evaluate, predict
from fedlab_helpers.tasks.objectives import NEXT_TOKEN, NUMBERS, RISK, NextToken, Numbers, Risk

NAN = math.nan


class Says(torch.nn.Module):
    """Answers with what it was given, so that answers can be written down in a test."""

    def __init__(self):
        super().__init__()
        self.anything = torch.nn.Parameter(torch.zeros(1))

    def forward(self, answers, *others):
        return answers


def judged(answers, targets, objective, batch_size=2):
    data = Examples((torch.tensor(answers),), torch.tensor(targets), objective)
    return evaluate(Says(), data, batch_size)


def test_classes_by_hand():
    # Logits (log 3, 0) are probabilities (3/4, 1/4).
    logits = [[math.log(3), 0.0]] * 3
    metrics = judged(logits, [0, 1, NOT_ASKED], CLASSES)
    assert metrics.loss == pytest.approx(-(math.log(3 / 4) + math.log(1 / 4)) / 2)
    assert (metrics.accuracy, metrics.examples) == (0.5, 2)
    assert CLASSES.asked(torch.tensor([0, 1, NOT_ASKED])) == 2


def test_soft_labels_are_judged_by_their_largest():
    logits = [[math.log(3), 0.0]] * 2
    metrics = judged(logits, [[0.9, 0.1], [0.2, 0.8]], CLASSES)
    each = [-(p * math.log(3 / 4) + (1 - p) * math.log(1 / 4)) for p in (0.9, 0.2)]
    assert metrics.loss == pytest.approx(sum(each) / 2)
    assert metrics.accuracy == 0.5


def test_numbers_by_hand():
    metrics = judged([1.0, 2.0, 9.0], [0.0, 4.0, NAN], Numbers(scale=10))
    assert metrics.loss == pytest.approx((1 + 4) / 2)
    assert metrics.rmse == pytest.approx(10 * math.sqrt(2.5))
    assert (metrics.mae, metrics.examples) == (pytest.approx(15), 2)
    huber = judged([1.0, 5.0], [0.0, 0.0], Numbers(delta=1.0))
    assert huber.loss == pytest.approx((0.5 + (5 - 0.5)) / 2)


def test_next_tokens_by_hand():
    even = [0.0, 0.0, 0.0, 5.0]  # the last is first
    metrics = judged([[even, even], [even, even]], [[3, 0], [3, NOT_ASKED]], NextToken((1, 4)))
    assert metrics["recall@1"] == pytest.approx(2 / 3)
    assert metrics["recall@4"] == 1.0
    assert metrics.examples == 3
    never = judged([[even]], [[3]], NextToken((1,), never=(3,)))
    assert never["recall@1"] == 0.0
    beyond = judged([[even]], [[3]], NextToken((1,), never=(0, 4, 99)))  # outputs have no such id
    assert beyond["recall@1"] == 1.0


def test_risk_by_hand_and_it_is_no_mean_over_batches():
    metrics = judged([0.0, 1.0, 2.0, 3.0, 9.0], [0.0, 1.0, 0.0, 1.0, NAN], RISK, batch_size=1)
    assert metrics.auc == pytest.approx(3 / 4)  # of four pairs, three in order
    assert metrics.examples == 4
    assert math.isnan(judged([0.0, 1.0], [1.0, 1.0], RISK).auc)


@pytest.mark.parametrize(
    ("targets", "objective", "shapes"),
    [
        (torch.rand(5, 1), CLASSES, r"\(5, 1\) torch.float32"),
        (torch.rand(5), CLASSES, r"\(5,\) torch.float32"),
        (torch.rand(5, 3), CLASSES, "no probabilities"),
        (torch.full((5, 2), NAN), CLASSES, "no probabilities"),
        (torch.zeros(5, 1, dtype=torch.int64), CLASSES, r"\(5, 1\) torch.int64"),
        (torch.zeros(5, dtype=torch.int32), CLASSES, "torch.int32"),
        (torch.tensor([0, 1, -1, 0, 1]), CLASSES, "got -1"),
        (torch.zeros(5, dtype=torch.int64), NUMBERS, "torch.int64"),
        (torch.full((5,), math.inf), NUMBERS, "finite"),
        (torch.tensor([-1.0, NAN, 0.0, 1.0, 1.0]), RISK, "got .-1 to 1., expected 0 or 1"),
        (torch.zeros(5, dtype=torch.int64), NEXT_TOKEN, r"\(5,\) torch.int64"),
        (torch.zeros(5, 4), NEXT_TOKEN, "torch.float32"),
        (torch.tensor([[-100, -2, 1]] * 5), NEXT_TOKEN, "got -2"),
    ],
)
def test_targets_that_are_not_what_is_asked_are_refused(targets, objective, shapes):
    with pytest.raises(ValueError, match=shapes):
        Examples((torch.zeros(5, 4),), targets, objective)


@pytest.mark.parametrize(
    ("outputs", "targets", "objective"),
    [
        ((4, 1), torch.zeros(4), NUMBERS),
        ((4,), torch.zeros(4, 1), NUMBERS),
        ((4, 1), torch.zeros(4), RISK),
        ((4,), torch.zeros(4, dtype=torch.int64), CLASSES),
        ((4, 3, 2), torch.zeros(4, dtype=torch.int64), CLASSES),
        ((4, 3), torch.full((4, 2), 0.5), CLASSES),
        ((4, 3), torch.zeros(4, 3, dtype=torch.int64), NEXT_TOKEN),
        ((4, 2, 9), torch.zeros(4, 3, dtype=torch.int64), NEXT_TOKEN),
    ],
)
def test_outputs_that_do_not_fit_are_refused_with_both_shapes(outputs, targets, objective):
    """Broadcast, (4, 1) and (4,) would make sixteen errors of four."""
    for function in (objective.loss, objective.judge):
        with pytest.raises(ValueError, match="outputs: got") as caught:
            function(torch.zeros(outputs), targets)
        assert str(outputs) in str(caught.value)
        assert str(tuple(targets.shape)) in str(caught.value)


@pytest.mark.parametrize("objective", [CLASSES, NUMBERS, NEXT_TOKEN, RISK])
def test_the_loss_is_the_mean_of_the_judgements_and_differentiable(objective):
    rng = torch.Generator().manual_seed(0)
    if objective is CLASSES:
        outputs, targets = torch.randn(6, 3, generator=rng), torch.tensor([0, 1, 2, 0, -100, 1])
    elif objective is NEXT_TOKEN:
        outputs = torch.randn(6, 4, 5, generator=rng)
        targets = torch.randint(5, (6, 4), generator=rng).where(torch.arange(4) < 3, NOT_ASKED)
    else:
        outputs = torch.randn(6, 2, generator=rng)
        targets = torch.rand(6, 2, generator=rng).round().where(torch.arange(2) > 0, NAN)
    outputs.requires_grad_()
    loss, rows = objective.loss(outputs, targets), objective.judge(outputs, targets)
    assert len(rows) == objective.asked(targets)
    assert float(loss.detach()) == pytest.approx(float(rows[:, 0].detach().mean()), abs=1e-6)
    loss.backward()
    assert torch.isfinite(outputs.grad).all()
    metrics = objective.metrics(rows.detach())
    assert list(metrics)[:2] == ["loss", objective.measure]


def test_lengths_are_checked_and_batches_cut_to_the_longest():
    series = torch.arange(24.0).reshape(3, 4, 2)
    targets = torch.zeros(3, 4)
    data = Examples((series, torch.tensor([1, 3, 2])), targets, Numbers(each_step=True), True)
    (batch,) = data.batches(None)
    assert [t.shape for t in batch.inputs] == [(3, 3, 2), (3,)]
    assert batch.targets.shape == (3, 3)
    for inputs, wanted in (
        ((series, torch.tensor([0, 3, 2])), "lengths from 0 to 3"),
        ((series, torch.tensor([1, 5, 2])), "lengths from 1 to 5"),
        ((series, torch.tensor([1.0, 3.0, 2.0])), "torch.float32"),
        ((series,), "shapes"),
        ((series, torch.zeros(3, 2, dtype=torch.int64)), "shapes"),
    ):
        with pytest.raises(ValueError, match=wanted):
            Examples(inputs, targets, Numbers(each_step=True), True)
    with pytest.raises(ValueError, match="shapes"):
        Examples((series, torch.tensor([1, 3, 2])), torch.zeros(3, 3), Risk(True), True)
    with pytest.raises(ValueError, match="one N for all"):
        Examples((series, torch.zeros(2, 5)), torch.zeros(3), NUMBERS)


def test_outputs_of_each_step_come_back_in_order_and_of_full_width():
    series = torch.randn(5, 4, 1, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([4, 1, 3, 2, 1])
    data = Examples((series, lengths), torch.zeros(5, 4, 1), Numbers(each_step=True), True)
    assert torch.equal(predict(Says(), data, batch_size=2), series)


def test_a_metric_that_is_not_there_is_named():
    metrics = judged([1.0], [0.0], NUMBERS)
    with pytest.raises(AttributeError, match="accuracy: these metrics are"):
        metrics.accuracy  # noqa: B018


def test_inputs_are_a_tuple_of_tensors():
    """A tensor of five rows of five, forgotten to be put in a tuple, would be five inputs."""
    x, y = torch.zeros(5, 5), torch.zeros(5, dtype=torch.int64)
    with pytest.raises(ValueError, match="Examples: inputs: got 'a tensor', expected a tuple"):
        Examples(x, y)
    assert len(Examples((x for _ in range(2)), y).inputs) == 2


@pytest.mark.parametrize("objective", [Numbers(each_step=True), NEXT_TOKEN, Risk(each_step=True)])
def test_what_stands_behind_an_examples_end_is_not_asked(objective):
    """Padding that was filled with zeros would count in loss, measure and a client's weight."""
    kind = torch.int64 if objective is NEXT_TOKEN else torch.float32
    lengths, targets = torch.tensor([1, 3]), torch.zeros(2, 3, dtype=kind)
    padded = Examples((torch.rand(2, 3, 1), lengths), targets, objective, padded=True)
    assert padded.asked == 4
    assert padded.subset([0]).asked == 1
    assert targets.eq(0).all(), "the reader's own are left alone"
