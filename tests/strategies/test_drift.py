"""SCAFFOLD and FedDyn: by hand, and what must hold in every run."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from fedlab_helpers.core import rounds as federated
from fedlab_helpers.core import state, wire
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.rounds import run
from fedlab_helpers.core.strategy import LocalRun
from fedlab_helpers.core.training import LocalConfig, predict
from fedlab_helpers.strategies import calibrated, fedavg, feddyn, scaffold, uniform
from fedlab_helpers.strategies.drift import Scaffold
from fedlab_helpers.strategies.labels import class_shares
from fedlab_helpers.tasks.objectives import NUMBERS

SGD = LocalConfig(2, 4, 0.1, "sgd", max_grad_norm=None)


def turn(model: nn.Module, extra=None, kept=None, config=SGD) -> LocalRun:
    return LocalRun(model, state.of_model(model), extra or {}, None, config, kept or {})


def one_weight(value: float) -> nn.Module:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, value)
    return model


def w(value: float) -> dict[str, torch.Tensor]:
    return {"weight": torch.tensor([[value]])}


def the(tensors) -> float:
    return tensors["weight"].item()


# Calibrated logits


def test_logits_are_raised_by_the_log_of_the_clients_own_shares(reviews):
    """Labels 1, 1, 0 and one more of each: shares 2/5 and 3/5, twice their logs."""
    data = reviews(3).with_targets(torch.tensor([1, 1, 0]))
    hooks = calibrated(2.0).begin(replace(turn(one_weight(0.0)), data=data))
    raised = hooks.logits(torch.tensor([[1.0, 1.0], [0.0, 5.0]]))
    shares = torch.tensor([2 / 5, 3 / 5]).log() * 2
    assert torch.allclose(raised, torch.tensor([[1.0, 1.0], [0.0, 5.0]]) + shares)


def test_calibrated_clients_do_not_learn_how_often_labels_occur(reviews, small_model):
    """Reviews that say nothing, nine in ten positive: FedAvg learns the odds, this does not."""
    data = reviews(40)
    silent = data.with_inputs(torch.where(data.tokens > 0, 2, 0), data.lengths)
    silent = silent.with_targets((torch.arange(40) % 10 > 0).long())
    plan = federated.Plan(60, local=LocalConfig(1, None, 0.5, "sgd", max_grad_norm=None))
    odds = {}
    for name, strategy in {"plain": fedavg(), "calibrated": calibrated(1.0)}.items():
        model = small_model()
        history = federated.run(model, [silent, silent], strategy, plan)
        assert not any(record.left_out for record in history)
        negative, positive = predict(model, silent).mean(0).tolist()
        odds[name] = positive - negative
    assert odds["plain"] > 1.5  # log 9 is 2.2
    assert abs(odds["calibrated"]) < 0.3


# SCAFFOLD


def test_scaffold_adds_the_difference_of_the_variates_to_the_gradient():
    model = one_weight(0.0)
    model.weight.grad = torch.tensor([[1.0]])
    scaffold().begin(turn(model, extra=w(0.5), kept=w(2.0))).gradients(model)
    assert model.weight.grad.item() == 1.0 + 0.5 - 2.0


def test_scaffolds_new_variate_by_hand():
    """c_i+ = 2 - 0.5 + 0.4/(4·0.1) = 2.5 for a client that moved by -0.4 in 4 steps at 0.1."""
    update = Update(0, w(-0.4), {}, 3, 4, (1.0,))
    sent, kept = scaffold().report(turn(one_weight(0.0), extra=w(0.5), kept=w(2.0)), update)
    assert the(kept) == pytest.approx(2.5)
    assert the(sent) == pytest.approx(0.5)


def test_scaffolds_server_by_hand():
    """Two of four clients sent +1 and +3: c moves by (1 + 3)/4; the weights by the mean change."""
    strategy = scaffold()
    server = strategy.init(w(10.0), clients=4)
    updates = [
        replace(Update(i, w(change), {}, 1, 1, (1.0,)), extra=w(move))
        for i, (change, move) in enumerate([(2.0, 1.0), (4.0, 3.0)])
    ]
    server = strategy.aggregate(server, updates)
    assert the(server.memory["variate"]) == 1.0
    assert the(server.params) == 13.0
    assert the(strategy.broadcast(server)) == 1.0


def test_scaffolds_first_round_is_fedavgs(clients, small_model, bits):
    """All variates are zero, plain SGD, uniform weights, server rate 1: the same bits."""
    ends = []
    for strategy in (uniform(), scaffold()):
        model = small_model()
        federated.run(model, clients, strategy, federated.Plan(1, local=SGD), codec=wire.dense())
        ends.append(bits(state.of_model(model)))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("cohort", [None, 2])
def test_the_servers_variate_stays_the_mean_of_the_clients(clients, small_model, cohort, tmp_path):
    kept: dict = {}
    seen = []

    class Watched(Scaffold):
        def aggregate(self, server, updates):
            server = super().aggregate(server, updates)
            seen.append(server.memory["variate"])
            return server

    plan = federated.Plan(5, cohort, local=SGD)
    for number, _ in enumerate(
        federated.rounds(small_model(), clients, Watched(), plan, client_states=kept)
    ):
        own = [states["strategy"] for states in kept.values()]
        for name, variate in seen[number].items():
            mean = sum(variates[name] for variates in own) / len(clients)  # the others' are zero
            assert torch.allclose(variate, mean, atol=1e-6)
    assert state.norm(seen[-1]) > 0.01


def test_scaffolds_variates_are_in_the_ledger(clients, small_model):
    """Both ways twice the tensors: the messages are nearly twice as long as FedAvg's, dense."""
    records = [
        federated.run(
            small_model(), clients, strategy, federated.Plan(1, local=SGD), codec=wire.dense()
        ).records[0]
        for strategy in (uniform(), scaffold())
    ]
    assert 1.8 < records[1].bytes_down / records[0].bytes_down <= 2
    assert 1.8 < records[1].bytes_up / records[0].bytes_up <= 2


class Quadratic(nn.Module):
    """A model whose loss on a review of label y is close to a parabola around a point of its own.

    It only knows the label: logits are (0, w), so that clients of one label pull w apart.
    """

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1))

    def forward(self, tokens, lengths):
        return torch.stack([torch.zeros(len(lengths)), self.w.expand(len(lengths))], 1)


def ends_at(strategy, clients, rounds=15) -> float:
    model = Quadratic()
    local = LocalConfig(20, 10, 1.0, "sgd", max_grad_norm=None)
    federated.run(model, clients, strategy, federated.Plan(rounds, local=local))
    return model.w.item()


def test_drift_is_corrected(reviews):
    """One client has 3 of 4 positive, one 1 of 10; the optimum of both means is known.

    Their mean loss is least where sigmoid(w) = (3/4 + 1/10)/2 = 0.425, w = -0.3023. FedAvg with
    many local steps goes to the mean of the two optima, (1.0986 - 2.1972)/2 = -0.5493.
    """
    data = reviews(20)
    labels = [torch.tensor([1, 1, 1, 0] * 5), torch.tensor([1] + [0] * 9).repeat(2)]
    two = [data.with_targets(mine) for mine in labels]
    drifted = ends_at(uniform(), two)
    assert abs(drifted + 0.5493) < 0.08
    for strategy in (scaffold(), feddyn(0.1)):
        assert abs(ends_at(strategy, two) + 0.3023) < 0.05 < abs(drifted + 0.3023), strategy


# FedDyn


def test_feddyns_loss_by_hand():
    """L - g·w + (α/2)(w - w_t)² = 5 - 2·3 + (0.5/2)·(3 - 1)² = 0."""
    model = one_weight(1.0)
    hooks = feddyn(0.5).begin(turn(model, kept=w(2.0)))
    with torch.no_grad():
        model.weight.fill_(3.0)
    bent = hooks.loss(model, torch.tensor(5.0))
    assert bent.item() == 0
    bent.backward()
    assert model.weight.grad.item() == -2.0 + 0.5 * 2


def test_feddyns_memories_by_hand():
    """g: 2 - 0.5·(-0.4). h: 0 - 0.5·(2 + 4)/4 = -0.75; w: 10 + 3 + 0.75/0.5."""
    strategy = feddyn(0.5)
    sent, kept = strategy.report(
        turn(one_weight(0.0), kept=w(2.0)), Update(0, w(-0.4), {}, 3, 4, (1.0,))
    )
    assert sent == {}
    assert the(kept) == pytest.approx(2.2)
    updates = [Update(i, w(change), {}, 1, 1, (1.0,)) for i, change in enumerate((2.0, 4.0))]
    server = strategy.aggregate(strategy.init(w(10.0), clients=4), updates)
    assert the(server.memory["h"]) == -0.75
    assert the(server.params) == 14.5


def test_calibration_needs_classes_and_is_refused_before_training(clients, small_model):
    calibrated(1.0).require_objective(clients[0].objective)
    numbers = [Examples(d.inputs, d.targets.float(), NUMBERS, padded=True) for d in clients]
    with pytest.raises(ValueError, match="calibrated: needs a class for each example, got"):
        run(small_model(), numbers, calibrated(1.0), Plan(1))


def test_shares_of_classes_are_float32_whatever_the_default_is():
    """Labels 1, 1, 2 of four classes and one more of each: 1, 3, 2, 1 of 7; soft ones alike."""
    labels, soft = torch.tensor([1, -100, 1, 2]), torch.eye(4)[[1, 1, 2]]
    torch.set_default_dtype(torch.float64)
    try:
        shares = class_shares(labels, 4), class_shares(soft, 4)
    finally:
        torch.set_default_dtype(torch.float32)
    for each in shares:
        assert each.dtype is torch.float32
        assert torch.allclose(each, torch.tensor([1, 3, 2, 1]) / 7)


@pytest.mark.parametrize("strategy", [scaffold(), feddyn()])
def test_private_parameters_have_no_variate(strategy, clients, small_model):
    kept, heads = {}, {"head.weight", "head.bias"}
    options = {"client_states": kept, "shared": lambda name: name not in heads}
    federated.run(small_model(), clients, strategy, Plan(2, local=SGD), **options)
    for states in kept.values():
        assert states["private"].keys() == heads
        assert not heads & states["strategy"].keys()
