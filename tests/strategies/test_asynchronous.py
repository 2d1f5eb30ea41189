"""Buffered asynchronous rounds: who arrives when, from which version, and what it weighs."""

import math
import weakref
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlab_helpers.core import compute, state, wire
from fedlab_helpers.core.history import History, NoUpdateLeft
from fedlab_helpers.core.plan import Pace
from fedlab_helpers.core.rounds import Plan, rounds, sample_cohort
from fedlab_helpers.core.strategy import Mean, Strategy
from fedlab_helpers.core.training import Hooks, LocalConfig
from fedlab_helpers.strategies import (
    asynchronous,
    fedavg,
    fednova,
    krum,
    private,
    rowwise,
    scaffold,
    uniform,
)
from fedlab_helpers.strategies.asynchronous import Arrival, buffered_rounds, speeds, timeline
from fedlab_helpers.strategies.personal import Ditto

LOCAL = LocalConfig(2, 4, 0.1, "sgd")  # 6, 4, 10 and 6 steps for the clients of `conftest`
PLAN = Plan(4, local=LOCAL, seed=3)
SPEEDS = (1.0, 0.3, 2.0, 0.7)


def play(model, clients, strategy=None, plan=PLAN, **options):
    """Return the model's last weights and the records, of two clients at a time by default."""
    chosen = {"speeds": SPEEDS, "concurrency": 2, "buffer": 2} | options
    records = list(buffered_rounds(model, clients, strategy or uniform(), plan, **chosen))
    return state.of_model(model), records


# The timeline


def test_two_clients_by_hand():
    """Both always train, so nobody is drawn: who has arrived starts again.

    Client 0 takes 2 seconds, client 1 takes 3. Arrivals: 0 at 2, 1 at 3 (flush, version 1),
    0 at 4 (from version 0, started at 2), 0 and 1 at 6 (0 started at 4; 1 at 3, from version 1).
    """
    flushes = timeline([2.0, 3.0], 2, concurrency=2, buffer=2, seed=0)
    assert [flush.arrivals for flush in flushes] == [
        (Arrival(2.0, 0, 1, 0), Arrival(3.0, 1, 1, 0)),
        (Arrival(4.0, 0, 2, 0), Arrival(6.0, 0, 4, 1)),
    ]
    assert [flush.started for flush in flushes] == [(0, 1, 0), (1, 0)]


def test_at_one_instant_the_buffer_is_flushed_before_anybody_starts():
    """Four arrive at once and fill the buffer twice: the second two are one version behind."""
    flushes = timeline([1.0] * 4, 4, concurrency=4, buffer=2, seed=0)
    arrivals = [[(a.client, a.version, a.time) for a in flush.arrivals] for flush in flushes]
    assert arrivals == [
        [(0, 0, 1.0), (1, 0, 1.0)],
        [(2, 0, 1.0), (3, 0, 1.0)],
        [(0, 2, 2.0), (1, 2, 2.0)],
        [(2, 2, 2.0), (3, 2, 2.0)],
    ]
    assert [flush.started for flush in flushes] == [(0, 1, 2, 3), (), (0, 1, 2, 3), ()]


@pytest.mark.parametrize("size", [1, 3, 10])
def test_equal_clients_and_a_buffer_for_all_are_synchronous_cohorts(size):
    plan = Plan(6, clients_per_round=size, seed=5)
    flushes = timeline([2.0] * 10, 6, concurrency=size, buffer=size, seed=5)
    for number, flush in enumerate(flushes, start=1):
        cohort = sample_cohort(plan, number, 10)
        assert flush.arrivals == tuple(
            Arrival(2.0 * number, client, number, number - 1) for client in cohort
        )
        assert flush.started == cohort


@given(
    durations=st.lists(st.sampled_from([1.0, 1.5, 2.0, 7.0, 0.1]), min_size=1, max_size=6),
    buffer=st.integers(1, 5),
    seed=st.integers(0, 9),
    data=st.data(),
)
def test_a_timeline_keeps_its_rules(durations, buffer, seed, data):
    concurrency = data.draw(st.integers(1, len(durations)))
    options = {"concurrency": concurrency, "buffer": buffer, "seed": seed}
    flushes = timeline(durations, 6, **options)
    assert flushes[:4] == timeline(durations, 4, **options), "longer runs begin like shorter ones"
    arrivals = [arrival for flush in flushes for arrival in flush.arrivals]
    assert all(len(flush.arrivals) == buffer for flush in flushes)
    assert [a.time for a in arrivals] == sorted(a.time for a in arrivals)
    assert len({(a.client, a.call) for a in arrivals}) == len(arrivals)
    ends = [0.0, *(flush.arrivals[-1].time for flush in flushes)]
    free = {}
    for number, flush in enumerate(flushes):
        for arrival in flush.arrivals:
            begun = arrival.time - durations[arrival.client]
            assert arrival.version <= number
            assert ends[arrival.version] - 1e-9 <= begun <= ends[arrival.version + 1] + 1e-9
            assert begun >= free.get(arrival.client, 0.0) - 1e-9, "one training at a time"
            free[arrival.client] = arrival.time
    starts = Counter(client for flush in flushes for client in flush.started)
    ended = Counter(arrival.client for arrival in arrivals)
    assert all(starts[client] - ended[client] in (0, 1) for client in starts)
    assert sum(starts.values()) - len(arrivals) <= concurrency


def test_new_clients_are_drawn_uniformly():
    flushes = timeline([1.0] * 8, 300, concurrency=2, buffer=2, seed=1)
    drawn = Counter(client for flush in flushes for client in flush.started)
    assert all(50 <= drawn[client] <= 100 for client in range(8))  # 75 expected, sd 7.5


# Training


@pytest.mark.parametrize(("strategy", "size"), [(uniform(), 2), (fednova(), 4), (rowwise(), 4)])
def test_equal_clients_and_a_buffer_for_all_are_a_synchronous_run(
    reviews, small_model, bits, strategy, size
):
    """Bit for bit, and in every number of the records but the wall time."""
    data, test = [reviews(9, seed) for seed in range(4)], reviews(15, 9)
    plan = replace(PLAN, evaluate_every=2)
    model = small_model(dropout=0.3)
    synchronous = list(
        rounds(model, data, strategy, replace(plan, clients_per_round=size), test=test)
    )
    options = {"speeds": [2.0] * 4, "concurrency": size, "buffer": size, "test": test}
    weights, records = play(small_model(dropout=0.3), data, strategy, plan, **options)
    assert bits(weights) == bits(state.of_model(model))
    for number, (record, other) in enumerate(zip(records, synchronous, strict=True), start=1):
        simulated = {"clock": 3.0 * number, "staleness": 0.0}  # 6 steps, 2 a second
        assert record.metrics == other.metrics | simulated
        assert replace(record, seconds=0, metrics={}) == replace(other, seconds=0, metrics={})


def test_a_stale_change_is_scaled_by_one_over_the_root_of_one_plus_its_staleness(
    small_model, reviews
):
    """Each client moves every bias by 1: a mean of changes is then a mean of their scales.

    Of four equal clients two flushes are made at each instant: scale 1, then 1/√2.
    """

    class MovesByOne(Strategy):
        def begin(self, turn):
            self_, start = turn.model.head.bias, turn.model.head.bias.detach().clone()

            def move(model):
                # SGD at rate 1 without clipping: w - gradient = start + 1
                self_.grad = self_.detach() - start - 1

            return Hooks(gradients=move)

    model, data = small_model(), [reviews(9, seed) for seed in range(4)]
    before = model.head.bias.detach().clone()
    plan = Plan(4, local=LocalConfig(1, None, 1.0, "sgd", max_grad_norm=None))
    options = {"speeds": [1.0] * 4, "concurrency": 4, "buffer": 2}
    expected = 0.0
    for record in buffered_rounds(model, data, MovesByOne(Mean("uniform")), plan, **options):
        late = record.round % 2 == 0
        expected += 1 / math.sqrt(2) if late else 1
        assert record.metrics == {"clock": (record.round + 1) // 2, "staleness": float(late)}
        torch.testing.assert_close(model.head.bias.detach(), before + expected)


def test_clients_train_from_the_version_they_started_from(clients, small_model, bits):
    """The weights each client begins with, against those after each flush."""
    begun = []

    class Watches(Strategy):
        def begin(self, turn):
            begun.append((len(turn.data), bits(turn.weights)))
            return super().begin(turn)

    model = small_model()
    after = [bits(state.of_model(model))]
    plan = replace(PLAN, rounds=8, workers=1)
    options = {"speeds": SPEEDS, "concurrency": 3, "buffer": 2, "codec": wire.dense()}
    for _ in buffered_rounds(model, clients, Watches(Mean()), plan, **options):
        after.append(bits(state.of_model(model)))
    durations = [steps / speed for steps, speed in zip((6, 4, 10, 6), SPEEDS, strict=True)]
    flushes = timeline(durations, 8, concurrency=3, buffer=2, seed=3)
    arrivals = [arrival for flush in flushes for arrival in flush.arrivals]
    assert begun == [(len(clients[a.client]), after[a.version]) for a in arrivals]
    assert len({a.version for a in arrivals}) > 3


def test_only_versions_that_are_still_needed_are_in_memory(clients, small_model, monkeypatch):
    sent = []

    def clone(weights):
        kept = state.clone(weights)
        sent.append(weakref.ref(kept["head.bias"]))
        return kept

    monkeypatch.setattr(asynchronous, "clone", clone)
    plan, options = replace(PLAN, rounds=7), {"concurrency": 3, "buffer": 2}
    durations = [steps / speed for steps, speed in zip((6, 4, 10, 6), SPEEDS, strict=True)]
    flushes = timeline(durations, 7, **options, seed=3)
    for number, _ in enumerate(
        buffered_rounds(small_model(), clients, uniform(), plan, speeds=SPEEDS, **options)
    ):
        alive = {version for version, reference in enumerate(sent) if reference() is not None}
        assert alive <= {a.version for flush in flushes[number:] for a in flush.arrivals}
        assert len(alive) <= 3, "one for each client in training"


def test_a_client_that_starts_twice_from_one_version_draws_anew(clients, small_model):
    """One client at a time and a buffer of three: all start from the first version."""
    losses = []

    def watch(base, updates):
        updates = list(updates)
        losses.extend(update.losses for update in updates)
        return Mean()(base, updates)

    watch.per_row = False
    options = {"speeds": [1.0], "concurrency": 1, "buffer": 3}
    _, (record,) = play(
        small_model(dropout=0.5), clients[:1], Strategy(watch), replace(PLAN, rounds=1), **options
    )
    assert record.cohort == (0, 0, 0)
    assert len(set(losses)) == 3
    assert (record.steps, record.examples) == (18, 36)
    assert record.metrics == {"clock": 18.0, "staleness": 0.0}


@pytest.mark.parametrize("codec", [wire.dense(), wire.touched_rows()])
def test_bytes_are_what_was_encoded_on_both_ways(clients, small_model, codec):
    sent = []

    class Counts:
        keeps_rows = codec.keeps_rows

        def encode(self, tensors, rng=None):
            sent.append(len(payload := codec.encode(tensors)))
            return payload

        def decode(self, payload):
            return codec.decode(payload)

    options = {"concurrency": 3, "buffer": 2, "codec": Counts()}
    _, records = play(small_model(), clients, plan=replace(PLAN, workers=1), **options)
    weights = len(wire.dense().encode(state.of_model(small_model())))
    assert [record.bytes_up for record in records] == [
        sum(sent[at : at + 2]) for at in range(0, 8, 2)
    ]
    assert records[0].bytes_down == weights * 4, "three at the start, one after the first arrival"
    assert sum(record.bytes_down for record in records) == weights * 10  # two are still training
    frame = History(tuple(records)).to_frame()
    assert frame["clock"].is_monotonic_increasing
    assert {"staleness", "total_bytes"} <= set(frame.columns)


def test_who_drops_out_takes_a_place_in_the_buffer(clients, small_model):
    plan = replace(PLAN, rounds=6, dropout_rate=0.3)
    _, records = play(small_model(), clients, plan=plan, buffer=4)
    assert any(record.left_out for record in records)
    for record in records:
        assert len(record.cohort) == 4
        assert set(record.left_out.values()) <= {"dropped out (simulated)"}
        assert record.left_out.keys() | record.client_losses.keys() == set(record.cohort)


def test_a_flush_without_any_update_ends_the_run(clients, small_model):
    class Fails(Strategy):
        def begin(self, turn):
            raise OSError("unplugged")

    with pytest.raises(NoUpdateLeft, match=r"round 1: every client was left out: .*unplugged"):
        play(small_model(), clients, Fails(Mean()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strategy": scaffold()}, "strategy: clients of Scaffold keep something between"),
        ({"strategy": krum(0)}, "cohort: got 2, expected at least 3 clients for Krum"),
        ({"strategy": Ditto()}, "strategy: clients of Ditto keep something between"),
        ({"strategy": fedavg("weights")}, "strategy: clients of Strategy send whole weights"),
        ({"strategy": rowwise(), "codec": wire.dense()}, r"strategy: got .*to average row by row"),
        ({"plan": replace(PLAN, clients_per_round=2)}, "plan: its clients_per_round: got 2, exp"),
        ({"plan": replace(PLAN, sampling="poisson")}, "plan: its sampling: got 'poisson', exp"),
        ({"strategy": private()}, r"combine: got PrivateMean.* need not know plan and round"),
        ({"plan": replace(PLAN, pace=Pace(SPEEDS, 9.0))}, r"plan: its pace: got Pace\("),
        ({"speeds": SPEEDS[:3]}, "speeds: got 3 speeds, expected 4, one for each client"),
        ({"speeds": (1.0, 0.0, 1.0, 1.0)}, "speeds: got 0.0, expected finite numbers above 0"),
        ({"concurrency": 5}, "concurrency: got 5, expected an integer from 1 to 4, the clients"),
        ({"concurrency": 1.5}, "concurrency: got 1.5, expected an integer"),
        ({"buffer": None}, "buffer: got None, expected an integer of at least 1"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_flush(clients, small_model, change, message):
    options = {"speeds": SPEEDS, "concurrency": 2, "buffer": 2, "strategy": uniform(), "plan": PLAN}
    with pytest.raises(ValueError, match=message):
        buffered_rounds(small_model(), clients, **options | change)


def test_speeds_are_log_normal_around_one_and_seeded():
    drawn = speeds(4000, compute.numpy_rng(1), 0.5)
    assert drawn == speeds(4000, compute.numpy_rng(1), 0.5)
    assert drawn != speeds(4000, compute.numpy_rng(2), 0.5)
    assert np.median(drawn) == pytest.approx(1, abs=0.05)
    assert np.log(drawn).std() == pytest.approx(0.5, abs=0.03)
    assert speeds(3, compute.numpy_rng(1), 0) == (1.0, 1.0, 1.0)
    for spread in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"spread: got {spread!r}, expected a finite number"):
            speeds(3, compute.numpy_rng(1), spread)
    with pytest.raises(ValueError, match="n_clients: got 0, expected an integer of at least 1"):
        speeds(0, compute.numpy_rng(1), 0.5)


def test_the_clock_counts_steps_that_are_taken(small_model, clients):
    """Examples of which nothing is asked are not trained on, and take no time."""
    first, *others = clients
    asked = torch.arange(len(first)) < 4
    part = first.with_targets(first.labels.where(asked, -100))
    ends = [play(small_model(), [data, *others])[1] for data in (part, part.only_asked())]
    clocks = [[(r.cohort, r.metrics["clock"]) for r in records] for records in ends]
    assert clocks[0] == clocks[1]
