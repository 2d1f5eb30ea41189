"""Identities of federated averaging, each through the general path of `federated.rounds`."""

import random
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlab_helpers.core import rows, state, wire
from fedlab_helpers.core.compute import child_seed
from fedlab_helpers.core.rounds import Plan, run
from fedlab_helpers.core.strategy import Mean, Strategy
from fedlab_helpers.core.training import LocalConfig, train
from fedlab_helpers.strategies import (
    calibrated,
    fedavg,
    fedavgm,
    feddyn,
    fedprox,
    fedyogi,
    rowwise,
    scaffold,
    uniform,
)
from fedlab_helpers.strategies.personal import APFL, Ditto
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews

CODECS = [wire.dense(), wire.touched_rows()]
ALL_ROUNDS = 3


def joined(parts: list[EncodedReviews]) -> EncodedReviews:
    """Return the reviews of all clients in one place."""
    fields = ("tokens", "lengths", "labels")
    return EncodedReviews(*(torch.cat([getattr(part, name) for part in parts]) for name in fields))


def after_run(model, clients, strategy, plan, **options) -> state.State:
    history = run(model, clients, strategy, plan, **options)
    assert not any(record.left_out for record in history)
    return state.of_model(model)


def largest_difference(left: state.State, right: state.State) -> float:
    assert left.keys() == right.keys()
    return float(state.flatten(state.subtract(left, right)).abs().max())


def alone(model, data: EncodedReviews, plan: Plan) -> state.State:
    """Train without federation: the same batches and dropout keys, a new optimiser each round."""
    for number in range(1, plan.rounds + 1):
        train(model, data, plan.local, seed=child_seed(plan.seed, "local", number, 0))
    return state.of_model(model)


@pytest.mark.parametrize(("optimizer", "dropout"), [("sgd", 0.0), ("adam", 0.3)])
@pytest.mark.parametrize("codec", CODECS)
def test_one_client_holding_everything_is_training_without_federation(
    clients, small_model, bits, codec, optimizer, dropout
):
    """One client holding everything, against the same local training done without federation
    (same batches, same dropout keys, optimiser reset at the same places): within 1e-6; bitwise
    when whole weights are sent instead of a change."""
    everything = joined(clients)
    plan = Plan(ALL_ROUNDS, local=LocalConfig(2, 8, 0.02, optimizer), seed=11)
    expected = alone(small_model(dropout=dropout), everything, plan)
    change = after_run(small_model(dropout=dropout), [everything], fedavg(), plan, codec=codec)
    assert largest_difference(change, expected) < 1e-6
    weights = after_run(
        small_model(dropout=dropout), [everything], fedavg(sends="weights"), plan, codec=codec
    )
    assert bits(weights) == bits(expected)
    start = small_model().state_dict()
    assert largest_difference(expected, start) > 0.01, "something was learnt at all"


@pytest.mark.parametrize(("cell", "pooling"), [("lstm", "last"), ("gru", "mean"), ("rnn", "last")])
def test_fedsgd_is_one_centralised_gradient_step(clients, small_model, cell, pooling):
    """Full batch, one plain SGD step, no clipping, no dropout, weighted by examples = one
    centralised gradient step, within 1e-6 (FedSGD). Here for several rounds, and for clients of
    unequal sizes."""
    plan = Plan.fedsgd(ALL_ROUNDS, lr=0.5)
    model = small_model(cell=cell, pooling=pooling)
    federated_weights = after_run(model, clients, fedavg(), plan)

    central, everything = small_model(cell=cell, pooling=pooling), joined(clients)
    for _ in range(ALL_ROUNDS):
        logits = central(everything.tokens, everything.lengths)
        loss = torch.nn.functional.cross_entropy(logits, everything.labels)
        gradients = torch.autograd.grad(loss, list(central.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(central.parameters(), gradients, strict=True):
                parameter -= 0.5 * gradient
    assert largest_difference(federated_weights, state.of_model(central)) < 1e-6
    unweighted = after_run(small_model(cell=cell, pooling=pooling), clients, uniform(), plan)
    assert largest_difference(unweighted, state.of_model(central)) > 1e-4, "the weights matter"


@pytest.mark.parametrize("strategy", [fedprox(0.0), calibrated(0.0), fedavgm(1.0, 0.0)], ids=type)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_strategy_whose_number_is_nothing_is_fedavg_bit_for_bit(
    clients, small_model, bits, strategy, optimizer
):
    plan = Plan(2, local=LocalConfig(2, 4, 0.05, optimizer), seed=1)
    ends = [after_run(small_model(dropout=0.2), clients, s, plan) for s in (fedavg(), strategy)]
    assert bits(ends[0]) == bits(ends[1])


@pytest.mark.parametrize(
    "strategy", [scaffold(), feddyn(), fedavgm(), fedyogi(), Ditto(), APFL()], ids=type
)
def test_runs_go_on_from_a_checkpoint_with_all_memories(
    clients, small_model, bits, tmp_path, strategy
):
    """Cohorts of two: a client that rests keeps what it has."""

    def play(rounds_, **options):
        local, states = LocalConfig(2, 4, 0.1, "sgd", max_grad_norm=None), {}
        plan = Plan(rounds_, 2, local, seed=1)
        options |= {"client_states": states}
        return bits(after_run(small_model(), clients, strategy, plan, **options)), bits(states)

    whole = play(4)
    play(2, checkpoint=tmp_path)
    assert play(4, checkpoint=tmp_path) == whole


@settings(max_examples=8)
@given(sizes=st.lists(st.integers(1, 9), min_size=2, max_size=4), uniformly=st.booleans())
def test_identical_updates_give_that_update_whatever_the_weights(
    clients, small_model, sizes, uniformly
):
    """Identical updates: any weights give that update. Clients hold the same few reviews, each
    a different number of times over: the mean gradient of a full batch is the same."""
    few = clients[1].subset([0, 1, 2])
    plan = Plan.fedsgd(2, lr=0.5)
    strategy = uniform() if uniformly else fedavg()
    one = after_run(small_model(), [few], strategy, plan)
    many = after_run(small_model(), [joined([few] * size) for size in sizes], strategy, plan)
    assert largest_difference(one, many) < 1e-6


@pytest.mark.parametrize("strategy", [fedavg(), uniform(), rowwise(), fedavg("weights")])
def test_permuted_updates_have_the_same_mean(clients, small_model, strategy):
    """Permuted updates: the same mean, within 1e-6. A client's seed comes from its place, so the
    clients train on full batches without dropout, where the seed decides nothing."""
    plan = Plan.fedsgd(2, lr=0.5)
    ends = [
        after_run(small_model(), [clients[i] for i in order], strategy, plan)
        for order in ([0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 1, 0])
    ]
    assert largest_difference(ends[0], ends[1]) < 1e-6
    assert largest_difference(ends[0], ends[2]) < 1e-6


@dataclass(frozen=True)
class InFloat32(Strategy):
    """A mean that is summed in float32: the order of the updates shows in its last bits."""

    def aggregate(self, server, updates):
        total, count = state.zeros_like(server.params), 0
        for update in updates:
            total, count = state.add(total, rows.make_whole(update, total).delta), count + 1
        params = state.add(server.params, total, 1 / count)
        return replace(server, params=params, round=server.round + 1)


@pytest.mark.parametrize("strategy", [fedavg(), rowwise(), fedavg("weights"), InFloat32(Mean())])
def test_neither_the_order_of_finishing_nor_workers_change_a_bit(
    clients, reviews, small_model, bits, strategy
):
    """The order in which clients finish changes no bit (updates are consumed in cohort order),
    nor does `workers`, tried with clients that sleep at random: not of the weights, not of what
    clients keep, not of the records (seconds aside)."""

    def sleep(update, kept, rng):
        time.sleep(0.02 * random.random())  # not of the run's seed: another each time
        noise = torch.rand((), generator=rng)
        delta = {name: tensor + 1e-3 * noise for name, tensor in update.delta.items()}
        return replace(update, delta=delta), {"noise": noise}

    many = [*clients, *(reviews(6 + i, seed=60 + i) for i in range(4))]
    ends = []
    for workers in (1, 4):
        model, states = small_model(dropout=0.3), {}
        plan = Plan(2, 6, LocalConfig(1, 5, 0.05), seed=3, workers=workers, dropout_rate=0.2)
        history = run(
            model,
            many,
            strategy,
            plan,
            transforms=[sleep],
            shared=lambda name: name != "head.bias",
            client_states=states,
        )
        records = [replace(record, seconds=0) for record in history]
        for record in records:
            answered = [client for client in record.cohort if client not in record.left_out]
            assert list(record.client_losses) == answered, "they were taken in cohort order"
        ends.append((bits(state.of_model(model)), bits(states), records))
    assert all(end == ends[0] for end in ends[1:])
    assert any(record.left_out for record in ends[0][2]), "dropouts were part of it"


@dataclass(frozen=True)
class Recorder:
    """A transform that keeps a copy of every update it sees, whole."""

    like: state.State
    seen: dict = field(default_factory=lambda: defaultdict(list))

    def __call__(self, update, kept, rng):
        self.seen[update.client].append(rows.make_whole(update, self.like).delta)
        return update, kept


@pytest.mark.parametrize(("optimizer", "max_grad_norm"), [("sgd", None), ("adam", 0.05)])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_training_on_selected_rows_changes_no_bit(
    clients, small_model, bits, cell, optimizer, max_grad_norm
):
    """Training on selected embedding rows changes no bit (without weight decay): every update of
    every round, and the weights at the end, against training on the whole table."""
    plan = Plan(ALL_ROUNDS, local=LocalConfig(2, 5, 0.02, optimizer, max_grad_norm), seed=6)
    ends, updates = [], []
    for codec in CODECS:
        model = small_model(cell=cell, dropout=0.2)
        recorder = Recorder(state.of_model(model))
        ends.append(
            bits(after_run(model, clients, fedavg(), plan, codec=codec, transforms=[recorder]))
        )
        updates.append({client: bits(dict(enumerate(d))) for client, d in recorder.seen.items()})
    assert updates[0] == updates[1]
    assert ends[0] == ends[1]
