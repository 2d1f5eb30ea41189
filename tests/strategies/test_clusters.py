"""Several common models: one of them is FedAvg, two find two groups, nothing is lost or hidden."""

from dataclasses import replace
from itertools import islice

import pytest
import torch

from fedlab_helpers.core import rounds, state, wire
from fedlab_helpers.core.history import NoUpdateLeft
from fedlab_helpers.core.rounds import Plan
from fedlab_helpers.core.training import LocalConfig, evaluate
from fedlab_helpers.strategies import fedavg, krum, private, rowwise, scaffold
from fedlab_helpers.strategies.clusters import (
    best_model,
    ifca_rounds,
    random_starts,
    unlike_starts,
)

LOCAL = LocalConfig(1, 8, 0.05)


@pytest.fixture(scope="module")
def two_groups(reviews):
    """Eight clients; the odd ones call good what the even ones call bad."""
    data = [reviews(60, seed) for seed in range(8)]
    return [d.with_targets(1 - d.labels) if k % 2 else d for k, d in enumerate(data)]


@pytest.mark.parametrize("strategy", [fedavg(), rowwise(), scaffold()], ids=type)
def test_one_model_is_fedavg_bit_for_bit(strategy, clients, small_model, bits):
    local = LocalConfig(2, 4, 0.05, "sgd", max_grad_norm=None)
    plan = Plan(4, 3, local, seed=2, dropout_rate=0.2)
    models = small_model(dropout=0.2), small_model(dropout=0.2)
    one = rounds.run(models[0], clients, strategy, plan)
    other = list(ifca_rounds(models[1:], clients, strategy, plan))
    assert bits(models[0].state_dict()) == bits(models[1].state_dict())
    for left, right in zip(one, other, strict=True):
        assert replace(left, seconds=0) == replace(right, seconds=0, metrics={})
        assert right.metrics == {"model 0": len(right.cohort)}


def test_two_models_find_two_groups_they_were_not_told_of(two_groups, small_model):
    plan, chosen = Plan(6, local=LOCAL, seed=1), {}
    starts, _ = unlike_starts(small_model(), two_groups, plan, 2)
    models = [small_model(), small_model()]
    for model, start in zip(models, starts, strict=True):
        model.load_state_dict(start)
    records = list(ifca_rounds(models, two_groups, fedavg(), plan, chosen=chosen))
    assert len({chosen[client] for client in (0, 2, 4, 6)}) == 1
    assert len({chosen[client] for client in (1, 3, 5, 7)}) == 1
    assert chosen[0] != chosen[1]
    assert records[-1].metrics == {"model 0": 4, "model 1": 4}
    for client, data in enumerate(two_groups):
        assert evaluate(models[chosen[client]], data).accuracy > 0.8
        assert evaluate(models[1 - chosen[client]], data).accuracy < 0.5


def test_every_model_is_sent_to_every_client_and_one_change_comes_back(clients, small_model):
    plan = Plan(1, local=LOCAL)
    ledgers = {}
    for count in (1, 3):
        models = [small_model(seed=seed) for seed in range(count)]
        (ledgers[count],) = ifca_rounds(models, clients, fedavg(), plan)
    assert ledgers[3].bytes_down == 3 * ledgers[1].bytes_down
    assert ledgers[3].bytes_up == ledgers[1].bytes_up
    assert ledgers[3].examples == ledgers[1].examples == sum(map(len, clients))


def test_a_model_that_nobody_takes_stays_as_it_is(clients, small_model, bits):
    models = [small_model(), small_model()]
    with torch.no_grad():
        models[1].head.bias += torch.tensor([50.0, -50.0])  # as wrong as can be, for half
    before = bits(models[1].state_dict())
    (record,) = ifca_rounds(models, clients, fedavg(), Plan(1, local=LOCAL))
    assert record.metrics == {"model 0": 4, "model 1": 0}
    assert bits(models[1].state_dict()) == before


def test_a_client_takes_the_model_with_the_lowest_loss_the_first_of_equals(clients, small_model):
    models = [small_model(seed=seed) for seed in (1, 2, 1, 2)]
    losses = [evaluate(model, clients[0]).loss for model in models]
    assert best_model(models, clients[0]) == losses.index(min(losses)) < 2


def test_a_round_in_which_all_fail_ends_the_run(clients, small_model):
    class Broken:
        keeps_rows = True

        def encode(self, tensors, rng=None):
            raise OSError("no line")

        decode = wire.touched_rows().decode

    wrong = small_model()
    with torch.no_grad():
        wrong.head.bias += torch.tensor([50.0, -50.0])  # nobody takes it, so all take the second
    for models in ([small_model()], [wrong, small_model()]):
        with pytest.raises(NoUpdateLeft, match=r"round 1: every client was left out: .*no line"):
            list(ifca_rounds(models, clients, fedavg(), Plan(1), codec=Broken()))


def test_bad_arguments_are_refused(clients, small_model):
    with pytest.raises(ValueError, match=r"models: got \[\], expected at least one"):
        ifca_rounds([], clients, fedavg(), Plan(1))
    with pytest.raises(ValueError, match="cohort"):
        ifca_rounds([small_model()], clients, krum(1), Plan(1))
    with pytest.raises(
        ValueError, match=r"combine: got PrivateMean.* need not know plan and round"
    ):
        ifca_rounds([small_model()], clients, private(), Plan(1))
    with pytest.raises(ValueError, match="count: got 5, expected 1 to 4"):
        unlike_starts(small_model(), clients, Plan(1), 5)


def test_it_can_be_stopped_between_rounds(clients, small_model):
    import threading

    stop = threading.Event()
    run = ifca_rounds([small_model()], clients, fedavg(), Plan(5, local=LOCAL), stop=stop)
    records = list(islice(run, 2))
    stop.set()
    assert [record.round for record in records] == [1, 2]
    assert list(run) == []


def test_unlike_starts_are_clients_of_both_groups_and_change_nothing(two_groups, small_model, bits):
    model = small_model()
    before = bits(model.state_dict())
    starts, record = unlike_starts(model, two_groups, Plan(1, 2, LOCAL), 2)
    assert bits(model.state_dict()) == before
    assert record.cohort == tuple(range(8))
    models = [small_model(), small_model()]
    for each, start in zip(models, starts, strict=True):
        each.load_state_dict(start)
    picks = [best_model(models, data) for data in two_groups]
    assert picks in ([0, 1] * 4, [1, 0] * 4)


def test_random_starts_are_drawn_each_by_itself(small_model, bits):
    def drawn(count, seed=0):
        starts = random_starts(lambda seed: small_model(seed=seed), count, seed)
        return [bits(model.state_dict()) for model in starts]

    assert drawn(3)[:2] == drawn(2)
    assert len({str(start) for start in drawn(3)}) == 3
    assert drawn(1) != drawn(1, seed=1)
    for count in (0, 1.5):
        with pytest.raises(ValueError, match="count: got"):
            random_starts(small_model, count, 0)


def test_random_starts_can_find_the_groups_as_well(two_groups, small_model):
    """As in the paper: nothing but losses decides, from the first round on."""
    plan, chosen = Plan(12, local=LOCAL, seed=1), {}
    models = random_starts(lambda seed: small_model(seed=seed), 2, 0)
    list(ifca_rounds(models, two_groups, fedavg(), plan, chosen=chosen))
    assert [chosen[k] for k in range(8)] in ([0, 1] * 4, [1, 0] * 4)


def test_an_unlike_start_is_a_clients_own_training(clients, small_model, bits):
    """One client: its start is what FedAvg over it alone would give."""
    model = small_model()
    ((start,), _) = unlike_starts(small_model(), clients[:1], Plan(1, local=LOCAL), 1)
    rounds.run(model, clients[:1], fedavg(), Plan(1, local=LOCAL))
    assert bits(start) == bits(state.of_model(model))


def test_no_start_is_taken_twice(clients, small_model, bits):
    """Also where changes have no direction, or too few clients were trained."""
    same = [clients[0]] * 3
    starts, _ = unlike_starts(small_model(), [*same, clients[1]], Plan(1, local=LOCAL), 2)
    assert bits(starts[0]) != bits(starts[1])
    plan = Plan(1, local=LOCAL, dropout_rate=0.6, seed=4)
    with pytest.raises(ValueError, match=r"count: got 3, expected at most [12], who were not"):
        unlike_starts(small_model(), clients, plan, 3)
