"""What a promise to each patient costs: the promise is the accountant's, and the choice is fair."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from owner_toys import make_owners

from fedlab_helpers import strategies
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.rounds import run
from fedlab_helpers.core.training import LocalConfig, evaluate
from fedlab_helpers.privacy.budget import Mechanism
from fedlab_helpers.studies import private_patients as study
from fedlab_helpers.studies import results, sequences
from fedlab_helpers.studies.sequences import CASES, CHOSEN, TUNING_SEED
from fedlab_helpers.tasks.objectives import Numbers
from fedlab_helpers.tasks.owners import together
from fedlab_helpers.tasks.series import SeriesRNN

ROUNDS, RATE = 3, 0.02
SETTINGS = {"noise_multiplier": 1.0, "clip": 0.3, "seed": 0}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Three owners of small series in the place of the patients."""
    case = replace(
        CASES["glucose"],
        owners=lambda seed: make_owners(),
        new_model=lambda seed: SeriesRNN(1, 3, each_step=True, seed=seed),
        rounds=ROUNDS,
        batch=8,
    )
    monkeypatch.setitem(CASES, "glucose", case)
    monkeypatch.setitem(CHOSEN, ("glucose", "federated"), RATE)
    sequences.owners_of.cache_clear()
    yield case
    sequences.owners_of.cache_clear()


def test_the_clips_are_those_that_the_table_chose():
    table = pd.read_csv(results.RESULTS / "private_patients_rates.csv")
    assert study.best_clips(table) == study.CHOSEN_CLIP


def test_the_best_clip_of_each_noise_has_the_most_merit():
    rows = [(0.0, 1.0, -3.0), (0.0, 0.1, -2.0), (1.0, 1.0, -1.0)]
    table = pd.DataFrame(rows, columns=["noise_multiplier", "clip", "merit"])
    assert study.best_clips(table) == {0.0: 0.1, 1.0: 1.0}


@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0])
def test_epsilon_is_the_accountants_for_everybody_in_every_round(noise):
    (row,) = study.measure_private_patients(SETTINGS | {"noise_multiplier": noise})
    run = Mechanism(noise, ROUNDS, 3, 3, "all", study.DELTA)
    assert row["epsilon"] == run.epsilon()
    assert row["epsilon"] > 0


def test_without_noise_nothing_is_promised():
    (row,) = study.measure_private_patients(SETTINGS | {"noise_multiplier": 0.0})
    assert row["epsilon"] == math.inf


def test_less_noise_promises_less_and_delta_is_far_below_one_in_nineteen():
    found = [
        study.measure_private_patients(SETTINGS | {"noise_multiplier": noise})[0]["epsilon"]
        for noise in study.NOISES
    ]
    assert found == sorted(found, reverse=True)
    assert study.DELTA < 0.05 / 19


def test_everybody_takes_part_in_every_round():
    records = [record for record, _ in study.trained(SETTINGS)]
    assert [sorted(record.cohort) for record in records] == [[0, 1, 2]] * ROUNDS
    assert [record.told["epsilon"] for record in records] == [
        Mechanism(1.0, number, 3, 3, "all", study.DELTA).epsilon() for number in (1, 2, 3)
    ]


def test_a_run_is_dp_fedavg_without_momentum(tiny, bits):
    *_, (_, model) = study.trained(SETTINGS)
    own, owners = tiny.new_model(0), make_owners()
    strategy = strategies.private(0.3, 1.0, beta=0.0, delta=study.DELTA, repeatable=True)
    plan = Plan(ROUNDS, None, LocalConfig(tiny.local_epochs, 4, RATE), 0)
    run(own, [owner.train for owner in owners], strategy, plan)
    assert bits(model.state_dict()) == bits(own.state_dict())


def test_one_patient_moves_the_weights_by_no_more_than_the_clip(tiny):
    """The first round without noise: whoever is there, each change is at most the clip over how
    many there are."""
    before = tiny.new_model(0).state_dict()
    (_, model), *_ = list(_first(SETTINGS | {"noise_multiplier": 0.0, "clip": 0.01}))
    moved = [(model[name] - before[name]).double().flatten() for name in before]
    assert 0 < float(torch.cat(moved).norm()) <= 0.01 * (1 + 1e-5)


def _first(settings):
    for record, model in study.trained(settings):
        yield record, {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_a_try_is_judged_on_validation_after_the_last_round(tiny, monkeypatch):
    (row,) = study.measure_try(SETTINGS)
    *_, (_, model) = study.trained(SETTINGS)
    loss = evaluate(model, together([own.validation for own in make_owners()])).loss
    assert row == {"merit": round(-loss, 5)}
    blind = [
        replace(own, test=own.test.with_inputs(own.test.inputs[0] * torch.nan))
        for own in make_owners()
    ]
    monkeypatch.setitem(CASES, "glucose", replace(tiny, owners=lambda seed: blind))
    sequences.owners_of.cache_clear()
    assert study.measure_try(SETTINGS) == [row]


def test_a_row_is_of_each_patients_test():
    (row,) = study.measure_private_patients(SETTINGS)
    *_, (_, model) = study.trained(SETTINGS)
    errors = [evaluate(model, own.test)["rmse"] for own in make_owners()]
    assert row["rmse"] == pytest.approx(np.mean(errors), abs=1e-4)
    assert row["worst"] == pytest.approx(max(errors), abs=1e-4)
    assert row["values"] == sum(p.numel() for p in model.parameters())
    assert isinstance(make_owners()[0].test.objective, Numbers)


def test_the_runs_use_the_clip_of_their_noise_and_other_seeds_than_the_tries():
    for each in study.PRIVATE_PATIENTS.runs:
        assert each["clip"] == study.CHOSEN_CLIP[each["noise_multiplier"]]
    tries = study.PRIVATE_PATIENTS_RATES.runs
    assert {each["seed"] for each in tries} == {TUNING_SEED}
    assert {(e["noise_multiplier"], e["clip"]) for e in tries} == {
        (noise, clip) for noise in study.NOISES for clip in study.CLIPS
    }
