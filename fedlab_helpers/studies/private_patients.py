"""What a promise to each of 19 patients costs: DP-FedAvg on glucose, and few people to hide among.

All of them take part in every round. The clip was tried on another seed, for each noise.
"""

from collections.abc import Iterator

import pandas as pd

from fedlab_helpers import strategies
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.rounds import rounds
from fedlab_helpers.core.state import of_model
from fedlab_helpers.core.training import LocalConfig, evaluate, judged
from fedlab_helpers.studies import study
from fedlab_helpers.studies.sequences import CASES, CHOSEN, TUNING_SEED, owners_of
from fedlab_helpers.studies.study import Row, Settings, Study
from fedlab_helpers.tasks.owners import score, together

NAME, DELTA = "glucose", 1e-3  # far below one in 19
NOISES = (0.0, 0.3, 1.0, 3.0)  # standard deviations of the noise on the sum, in clips
CLIPS = (0.1, 0.3, 1.0, 3.0)
CHOSEN_CLIP: dict[float, float] = {0.0: 3.0, 0.3: 1.0, 1.0: 0.3, 3.0: 0.3}


def best_clips(table: pd.DataFrame) -> dict[float, float]:
    """Return for each noise the clip that did best in the table of `private_patients_rates`."""
    won = study.best(table, ["noise_multiplier"], ["clip"])
    return {noise: clip for (noise,), (clip,) in won.items()}


def trained(settings: Settings) -> Iterator[tuple]:
    """Yield record and model of each round."""
    case, seed, noise = CASES[NAME], settings["seed"], settings["noise_multiplier"]
    model, owners = case.new_model(seed), owners_of(NAME, seed)
    local = LocalConfig(case.local_epochs, case.batch // 2, CHOSEN[NAME, "federated"])
    strategy = strategies.private(settings["clip"], noise, beta=0.0, delta=DELTA, repeatable=True)
    plan = Plan(case.rounds, None, local, seed, workers=1)
    for record in rounds(model, [own.train for own in owners], strategy, plan):
        yield record, model


def measure_try(settings: Settings) -> list[Row]:
    """Return the loss after the last round on all validation together, negative."""
    *_, (_, model) = trained(settings)
    validation = together([own.validation for own in owners_of(NAME, settings["seed"])])
    return [study.rounded(merit=-evaluate(model, validation).loss)]


def measure_private_patients(settings: Settings) -> list[Row]:
    """Return the error after the last round on each patient's test, and epsilon."""
    *_, (record, model) = trained(settings)
    owners = owners_of(NAME, settings["seed"])
    rows = [judged(model, own.test) for own in owners]
    figures = score(owners[0].test.objective, rows)
    values = sum(tensor.numel() for tensor in of_model(model).values())
    told = study.rounded(rmse=figures["own"]["rmse"], worst=figures["worst"]["rmse"])
    return [{"values": values, "epsilon": record.told["epsilon"], **told}]


def _settings(noise: float, clip: float, seed: int) -> Settings:
    return {"noise_multiplier": noise, "clip": clip, "seed": seed}


PRIVATE_PATIENTS_RATES = Study(
    "private_patients_rates",
    tuple(_settings(noise, clip, TUNING_SEED) for noise in NOISES for clip in CLIPS),
    measure_try,
)
PRIVATE_PATIENTS = Study(
    "private_patients",
    tuple(_settings(noise, CHOSEN_CLIP[noise], seed) for noise in NOISES for seed in range(3)),
    measure_private_patients,
)
