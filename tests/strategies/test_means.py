"""Means beside FedAvg's, on tensors of two or three numbers, and where nobody moves."""

import math
from dataclasses import replace

import pytest
import torch

from fedlab_helpers import strategies
from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.rounds import Plan, run
from fedlab_helpers.core.state import of_model
from fedlab_helpers.core.strategy import Mean
from fedlab_helpers.core.training import LocalConfig
from fedlab_helpers.strategies.means import Attentive, NormalizedMean, WeightedMean
from fedlab_helpers.strategies.robust import GeometricMedian

ZERO = {"w": torch.zeros(2)}


def sent(*values: float, examples: int = 1, steps: int = 1, loss: float = 1.0) -> Update:
    return Update(0, {"w": torch.tensor(values)}, {}, examples, steps, (9.0, loss))


def combined(combine, updates) -> list[float]:
    return combine(ZERO, updates)["w"].tolist()


def test_by_inverse_loss():
    """Weights 1/0.5 = 2 and 1/2: of (1, 0) and (0, 1), the mean is (2, 1/2) / (5/2)."""
    updates = [sent(1, 0, loss=0.5), sent(0, 1, loss=2.0)]
    assert combined(WeightedMean("inverse_loss"), updates) == pytest.approx([0.8, 0.2])


def test_a_loss_of_zero_does_not_take_it_all():
    updates = [sent(1, 0, loss=0.0), sent(0, 1, loss=1e-3)]
    assert combined(WeightedMean("inverse_loss"), updates) == [0.5, 0.5]


def test_by_norm():
    """Weights 5 and 1: (3, 4)·5/6 + (0, 1)·1/6."""
    assert combined(WeightedMean("norm"), [sent(3, 4), sent(0, 1)]) == pytest.approx([2.5, 3.5])


def test_fednova_by_hand():
    """Per step (1, 0) and (0, 2); by examples 3 : 1, (3/4, 1/2); τ_eff = 3/4·4 + 1/4·2 = 3.5."""
    updates = [sent(4, 0, examples=3, steps=4), sent(0, 4, examples=1, steps=2)]
    assert combined(NormalizedMean(), updates) == pytest.approx([2.625, 1.75])


def test_fednova_with_equal_steps_is_fedavg():
    rng = torch.Generator().manual_seed(0)
    updates = [
        replace(sent(*torch.randn(2, generator=rng).tolist(), steps=7), examples=n)
        for n in (3, 1, 40)
    ]
    assert combined(NormalizedMean(), updates) == pytest.approx(combined(Mean(), updates), abs=1e-6)


def test_fednova_frees_the_direction_from_the_number_of_steps():
    """Two clients of equal rights pull along one axis each; one takes nine times the steps."""
    updates = [sent(9, 0, steps=9), sent(0, 1, steps=1)]
    x, y = combined(NormalizedMean(), updates)
    assert x == y == 2.5
    assert combined(Mean(), updates) == [4.5, 0.5]


def test_attention_by_hand():
    """Norms 5 and 0: shares e^5/(e^5+1) and 1/(e^5+1)."""
    share = math.exp(5) / (math.exp(5) + 1)
    assert combined(Attentive(1.0), [sent(3, 4), sent(0, 0)]) == pytest.approx(
        [3 * share, 4 * share]
    )
    assert combined(Attentive(1.2), [sent(2, 0), sent(0, 2)]) == pytest.approx([1.2, 1.2])


def test_attention_is_layer_by_layer_and_knows_rows():
    base = {"table": torch.zeros(3, 1), "b": torch.zeros(1)}
    left = {"table": torch.tensor([[3.0], [4.0]]), "b": torch.tensor([1.0])}
    right = {"table": torch.tensor([[5.0]]), "b": torch.tensor([1.0])}
    rows = [{"table": torch.tensor([0, 1])}, {"table": torch.tensor([2])}]
    updates = [Update(i, d, rows[i], 1, 1, (1.0,)) for i, d in enumerate((left, right))]
    result = Attentive(1.0)(base, updates)
    assert result["table"][:, 0].tolist() == pytest.approx([1.5, 2.0, 2.5])  # equal norms
    assert result["b"].tolist() == [1.0]


@pytest.mark.parametrize("combine", [WeightedMean("norm"), Attentive(), GeometricMedian()])
def test_where_nobody_moved_nothing_moves(combine):
    assert combined(combine, [sent(0, 0), sent(0, 0)]) == [0, 0]


class Still(strategies.drift.FedProx):
    """By norm, with clients whose training moves nothing."""

    def begin(self, turn):
        def forget(model):
            for parameter in model.parameters():
                parameter.grad = None

        return replace(super().begin(turn), gradients=forget)


def test_a_round_in_which_nobody_moves_costs_no_run(clients, small_model, bits):
    model = small_model()
    before = bits(of_model(model))
    records = run(model, clients, Still(WeightedMean("norm")), Plan(2, local=LocalConfig(1, 8)))
    assert len(records) == 2
    assert not any(record.left_out for record in records)
    assert bits(of_model(model)) == before
