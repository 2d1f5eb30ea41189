"""Strategies that look at losses: by hand, and that losses are those of the received weights."""

import math

import pytest
import torch

from fedlab_helpers.core import state
from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.rounds import Plan, run
from fedlab_helpers.core.strategy import Mean
from fedlab_helpers.core.training import LocalConfig, evaluate
from fedlab_helpers.strategies import qfedavg, uniform, worst_group
from fedlab_helpers.strategies.fairness import QMean, WorstGroup

ZERO = {"w": torch.zeros(2)}
SGD = LocalConfig(1, 4, 0.1, "sgd", max_grad_norm=None)


def sent(*values: float, loss: float, client: int = 0) -> Update:
    extra = {"loss": torch.tensor([loss])}
    return Update(client, {"w": torch.tensor(values)}, {}, 1, 1, (1.0,), extra)


def test_q_fedavg_by_hand():
    """q = 1, L = 1/0.5 = 2, losses 1 and 3, changes (1, 0) and (0, 2).

    Numerator: 1·2·(1, 0) + 3·2·(0, 2) = (2, 12). Denominator: (1·1·2² + 2·1) + (1·1·4² + 2·3) = 28.
    """
    updates = [sent(1, 0, loss=1.0), sent(0, 2, loss=3.0)]
    assert QMean(1, 0.5)(ZERO, updates)["w"].tolist() == pytest.approx([2 / 28, 12 / 28])


def test_q_of_zero_is_the_plain_mean():
    updates = [sent(1, 0, loss=1.0), sent(0, 2, loss=3.0), sent(4, 4, loss=0.0)]
    plain = Mean("uniform")(ZERO, updates)["w"].tolist()
    assert QMean(0, 0.3)(ZERO, updates)["w"].tolist() == pytest.approx(plain)


def test_worst_group_by_hand():
    """Weights 1/2 each: the mean change. Then e^(0.5·1) and e^(0.5·3), scaled to sum to 1."""
    strategy = worst_group(0.5)
    server = strategy.aggregate(
        strategy.init(ZERO, 2), [sent(1, 0, loss=1.0, client=0), sent(0, 2, loss=3.0, client=1)]
    )
    assert server.params["w"].tolist() == [0.5, 1]
    low, high = server.memory["groups"]["weights"].tolist()
    assert low == pytest.approx(1 / (1 + math.e))
    assert low + high == pytest.approx(1)
    again = strategy.aggregate(server, [sent(1, 0, loss=1.0), sent(0, 2, loss=3.0, client=1)])
    moved = state.subtract(again.params, server.params)["w"].tolist()
    assert moved == pytest.approx([low, 2 * high])


def test_a_client_that_stays_away_keeps_its_share_against_the_others():
    strategy = worst_group(0.5)
    server = strategy.aggregate(strategy.init(ZERO, 3), [sent(1, 1, loss=2.0, client=2)])
    weights = server.memory["groups"]["weights"].tolist()
    assert weights == pytest.approx([1 / (2 + math.e), 1 / (2 + math.e), math.e / (2 + math.e)])


def test_the_loss_sent_is_that_of_the_received_weights(clients, small_model):
    seen = {}

    class Watched(WorstGroup):
        def aggregate(self, server, updates):
            updates = list(updates)
            seen.update({u.client: u.extra["loss"].item() for u in updates})
            return super().aggregate(server, updates)

    model = small_model(dropout=0.3)
    before = [evaluate(model, data).loss for data in clients]
    run(model, clients, Watched(), Plan(1, local=SGD))
    assert [seen[i] for i in range(4)] == pytest.approx(before, rel=1e-6)


@pytest.mark.parametrize("strategy", [worst_group(0.0), qfedavg(0.0, SGD.lr)])
def test_without_preference_a_run_is_the_plain_means(strategy, clients, small_model):
    ends = []
    for one in (uniform(), strategy):
        model = small_model()
        run(model, clients, one, Plan(3, 3, local=SGD))
        ends.append(state.flatten(state.of_model(model)))
    assert torch.allclose(*ends, atol=1e-6)


def test_the_worst_client_gains(reviews, small_model):
    """Five clients agree; the sixth has every label the other way round."""
    clients = [reviews(12, seed) for seed in range(6)]
    clients[5] = clients[5].with_targets(1 - clients[5].labels)
    worst = []
    for strategy in (uniform(), worst_group(1.0), qfedavg(2.0, 1.0)):
        model = small_model()
        local = LocalConfig(2, None, 1.0, "sgd", max_grad_norm=None)
        run(model, clients, strategy, Plan(18, local=local))
        worst.append(max(evaluate(model, data).loss for data in clients))
    assert max(worst[1:]) < 0.9 * worst[0]


def test_no_loss_is_too_small_or_too_large_for_a_mean():
    """Of all losses 0, of a large power, and of a loss whose exponential leaves float32."""
    for losses in ((0.0, 0.0), (1e12, 0.0)):
        updates = [sent(1, 0, loss=losses[0]), sent(0, 2, loss=losses[1], client=1)]
        for q in (0.0, 0.5, 1.0, 20.0):
            assert torch.isfinite(QMean(q, 0.5)(ZERO, updates)["w"]).all()
        strategy = worst_group(2.0)
        server = strategy.init(ZERO, 3)
        for _ in range(12):
            server = strategy.aggregate(server, updates)
        server = strategy.aggregate(server, [sent(1, 1, loss=1.0, client=2)])
        assert torch.isfinite(server.params["w"]).all()
        weights = server.memory["groups"]["weights"]
        assert float(weights.sum()) == pytest.approx(1)
        assert bool((weights > 0).all())
