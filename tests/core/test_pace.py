"""Simulated speeds and deadlines: who finishes how much, and what becomes of it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlab_helpers.core import state, wire
from fedlab_helpers.core.plan import Pace
from fedlab_helpers.core.rounds import Plan, rounds, run
from fedlab_helpers.core.strategy import Strategy
from fedlab_helpers.core.training import LocalConfig
from fedlab_helpers.strategies import fedavg, scaffold
from fedlab_helpers.strategies.means import NormalizedMean

# Clients of 12, 7, 20 and 9 reviews, as `conftest` makes them, have these steps to take.
LOCAL, WHOLE = LocalConfig(2, 4, 0.1, "sgd"), (6, 4, 10, 6)
PLAN = Plan(2, local=LOCAL, seed=2)
EQUAL = (1.0, 1.0, 1.0, 1.0)


def after(model, clients, strategy, plan, **options):
    history = run(model, clients, strategy, plan, **options)
    return state.of_model(model), history


# The value


def test_steps_by_hand():
    pace = Pace((0.5, 2.0, 0.01), deadline=13.0)
    assert [pace.steps(client, 38) for client in range(3)] == [6, 26, 0]  # of 6.5, 26, 0.13
    assert [pace.steps(client, 20) for client in range(3)] == [6, 20, 0]


def test_who_is_late_is_told_by_numbers():
    late = Pace((0.5, 2.0, 0.01), 13.0, partial=False)
    assert late.missed(0, 38) == "missed the deadline (simulated): 6 of 38 steps"
    assert late.missed(1, 26) is None
    assert late.missed(1, 27) == "missed the deadline (simulated): 26 of 27 steps"
    kept = replace(late, partial=True)
    assert kept.missed(0, 38) is None
    assert kept.missed(2, 38) == "missed the deadline (simulated): 0 of 38 steps"


@given(speed=st.floats(1e-3, 1e3), deadline=st.floats(1e-2, 1e4), whole=st.integers(1, 500))
def test_steps_are_the_most_that_fit(speed, deadline, whole):
    pace = Pace((speed,), deadline)
    done = pace.steps(0, whole)
    assert 0 <= done <= whole
    assert done / speed <= deadline * (1 + 1e-12)
    assert done == whole or (done + 1) / speed >= deadline * (1 - 1e-12)
    assert (pace.missed(0, whole) is None) == (done > 0)
    assert (replace(pace, partial=False).missed(0, whole) is None) == (done == whole)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((), 1.0), "steps_per_second: got 0 speeds, expected at least one"),
        (((1.0, 0.0), 1.0), "steps_per_second: got 0.0, expected finite numbers above 0"),
        (((1.0, math.inf), 1.0), "steps_per_second: got inf"),
        (((math.nan,), 1.0), "steps_per_second: got nan"),
        (((1.0,), 0), "deadline: got 0.0, expected a number above 0, or inf"),
        (((1.0,), math.nan), "deadline: got nan"),
    ],
)
def test_a_pace_that_cannot_be_is_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        Pace(*arguments)


def test_a_pace_may_come_from_an_array():
    assert Pace(np.float32([0.5, 2]), np.int64(3)) == Pace((0.5, 2.0), 3.0)


# In a run


@pytest.mark.parametrize("partial", [True, False])
@pytest.mark.parametrize("deadline", [10.0, 1e9, math.inf])
def test_a_deadline_that_all_meet_changes_no_bit(clients, small_model, bits, deadline, partial):
    """The largest client has ten steps to take, one a second."""
    without, _ = after(small_model(dropout=0.3), clients, fedavg(), PLAN)
    plan = replace(PLAN, pace=Pace(EQUAL, deadline, partial))
    paced, history = after(small_model(dropout=0.3), clients, fedavg(), plan)
    assert bits(paced) == bits(without)
    assert [(record.steps, record.left_out) for record in history] == [(sum(WHOLE), {})] * 2


def test_stragglers_are_left_out_and_do_not_train(clients, small_model):
    """As if a client that is late had never been asked: hooks are not even made for it."""
    trained = []

    class Watches(Strategy):
        def begin(self, turn):
            trained.append(len(turn.data))
            return super().begin(turn)

    plan = replace(PLAN, rounds=1, pace=Pace(EQUAL, 6.0, partial=False))
    model, start = small_model(), state.of_model(small_model())
    (record,) = run(model, clients, Watches(NormalizedMean()), plan)
    assert record.left_out == {2: "missed the deadline (simulated): 6 of 10 steps"}
    assert record.client_losses.keys() == {0, 1, 3}
    assert sorted(trained) == [7, 9, 12]
    assert record.steps == 6 + 4 + 6
    assert record.bytes_down == 4 * len(wire.dense().encode(start)), "it received the weights"


def test_partial_work_is_kept_and_told(clients, small_model):
    plan = replace(PLAN, rounds=1, pace=Pace((1.0, 0.5, 0.5, 0.15), 6.0))
    taken = {}

    def watch(update, kept, rng):
        taken[update.client] = update.steps, update.examples, len(update.losses)
        return update, kept

    (record,) = run(small_model(), clients, fedavg(), plan, transforms=[watch])
    # 6 of 6 steps; 3 of 4, in the second epoch; 3 of 10, in the first; none of 6.
    assert taken == {0: (6, 12, 2), 1: (3, 7, 2), 2: (3, 20, 1)}
    assert record.left_out == {3: "missed the deadline (simulated): 0 of 6 steps"}
    assert record.steps == 12


def test_fednova_divides_by_the_steps_that_were_taken(clients, small_model):
    """Two clients of equal size; the one that takes a quarter of the steps counts as if the mean
    number of steps had been taken by both."""
    pair = [clients[0], clients[0]]
    plan = Plan(1, local=LocalConfig(4, None, 0.1, "sgd"), pace=Pace((4.0, 1.0), 1.0))
    seen, start = {}, state.of_model(small_model())

    def watch(update, kept, rng):
        seen[update.client] = update
        return update, kept

    weights, _ = after(
        small_model(), pair, Strategy(NormalizedMean()), plan, codec=wire.dense(),
        transforms=[watch],
    )  # fmt: skip
    assert [seen[client].steps for client in (0, 1)] == [4, 1]
    for name, moved in state.subtract(weights, start).items():
        expected = 2.5 * (seen[0].delta[name] / 4 + seen[1].delta[name] / 1) / 2
        assert (moved - expected).abs().max() < 1e-6


@pytest.mark.parametrize("count", [3, 5])
def test_one_speed_for_each_client_is_asked_before_the_first_round(clients, small_model, count):
    plan = replace(PLAN, pace=Pace((1.0,) * count, 9.0))
    with pytest.raises(ValueError, match=f"pace: got {count} speeds, expected 4, one for each"):
        rounds(small_model(), clients, fedavg(), plan)


def test_a_run_with_a_pace_goes_on_from_its_checkpoint(clients, small_model, bits, tmp_path):
    plan = replace(PLAN, rounds=4, pace=Pace((1.0, 0.5, 0.5, 0.15), 6.0))
    through, history = after(small_model(), clients, scaffold(), plan)
    run(small_model(), clients, scaffold(), replace(plan, rounds=2), checkpoint=tmp_path)
    resumed, again = after(small_model(), clients, scaffold(), plan, checkpoint=tmp_path)
    assert bits(resumed) == bits(through)
    assert [record.left_out for record in again] == [record.left_out for record in history]
