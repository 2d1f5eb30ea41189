"""How well each layer that reads does under the noise of epsilon 8, on `which_model`'s tasks.

Reviews: 1,000 clients of 12 over public word vectors, as in `private`, a cohort of 150. Words and
glucose: the briefs of the keyboard maker, where 200 clients stand for 60,000, and of the clinics,
where epsilon is of one example, a window of four hours.
"""

import math
from dataclasses import replace

import pandas as pd

from fedlab_helpers.core.training import evaluate
from fedlab_helpers.privacy.budget import Mechanism
from fedlab_helpers.studies import private, study
from fedlab_helpers.studies.design import Design, measure, noise_within
from fedlab_helpers.studies.private import World
from fedlab_helpers.studies.references import references
from fedlab_helpers.studies.study import Row, Settings, Study, task
from fedlab_helpers.tasks.layers import LAYERS

TUNING_SEED = 100
EPSILON = 8.0
WORLD = World(1_000, 150, 20)
BRIEFS = {"words": ("keyboard", "private_sgd"), "glucose": ("clinics", "private")}
# (clients' rate, clip, server's rate): as many for each layer.
TRIES = {
    "reviews": tuple((lr, 2.0, rate) for lr in (0.25, 1.0, 4.0) for rate in (1.0, 2.0)),
    "words": (*((lr, 2.0, rate) for lr in (1.0, 4.0) for rate in (1.0, 3.0)),
              (4.0, 2.0, 6.0), (16.0, 2.0, 3.0)),
    "glucose": tuple((lr, clip, 1.0) for lr in (0.005, 0.02, 0.05) for clip in (0.3, 1.0)),
}  # fmt: skip
# The best on validation, by `best_settings` from the table of `private_layers_rates`.
CHOSEN: dict[tuple[str, str], tuple[float, float, float]] = {
    ("reviews", "lstm"): (4.0, 2.0, 1.0),
    ("reviews", "gru"): (1.0, 2.0, 2.0),
    ("reviews", "rnn"): (1.0, 2.0, 1.0),
    ("reviews", "mingru"): (1.0, 2.0, 1.0),
    ("reviews", "transformer"): (0.25, 2.0, 1.0),
    ("reviews", "bag"): (1.0, 2.0, 1.0),
    ("words", "lstm"): (4.0, 2.0, 3.0),
    ("words", "gru"): (4.0, 2.0, 6.0),
    ("words", "rnn"): (1.0, 2.0, 3.0),
    ("words", "mingru"): (4.0, 2.0, 3.0),
    ("words", "transformer"): (4.0, 2.0, 3.0),
    ("words", "bag"): (4.0, 2.0, 6.0),
    ("glucose", "lstm"): (0.05, 0.3, 1.0),
    ("glucose", "gru"): (0.05, 1.0, 1.0),
    ("glucose", "rnn"): (0.05, 0.3, 1.0),
    ("glucose", "mingru"): (0.05, 1.0, 1.0),
    ("glucose", "transformer"): (0.02, 1.0, 1.0),
    ("glucose", "bag"): (0.05, 0.3, 1.0),
}


def best_settings(table: pd.DataFrame) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Return for each task and layer what did best in the table of `private_layers_rates`."""
    return study.best(table, ["task", "cell"], ["lr", "clip", "server_rate"])


def design_of(settings: Settings) -> Design:
    """Return the private reference design of a task's brief, with this layer and these rates, and
    with as much noise as its budget asks for."""
    brief, name = BRIEFS[settings["task"]]
    usual = references(brief)[name]
    own = {**dict(usual.parameters), "clip": settings["clip"], "noise_multiplier": 1.0}
    rates = {"lr": settings["lr"], "server_rate": settings["server_rate"]}
    design = replace(usual, cell=settings["cell"], parameters=own, **rates)
    noise = math.ceil(1e3 * noise_within(brief, design)) / 1e3
    return replace(design, parameters={**own, "noise_multiplier": noise})


def _measured(settings: Settings, test: bool) -> dict[str, float]:
    """Return the measure on validation, and on the test if that may be looked at; the noise, and
    what the accountant says of it."""
    if settings["task"] == "reviews":
        model, noise = private.trained(replace(WORLD, cell=settings["cell"]), settings)
        found = {"validation": evaluate(model, task().validation).accuracy}
        found |= {"test": evaluate(model, task().test).accuracy} if test else {}
        told = WORLD.rounds, WORLD.clients, WORLD.cohort, "poisson", WORLD.delta
        spent = Mechanism(noise, *told).epsilon()
        return found | {"noise_multiplier": noise, "accounted": spent}
    design, (brief, _) = design_of(settings), BRIEFS[settings["task"]]
    made = measure(brief, design, settings["seed"])
    found = {"validation": made.score} | ({"test": made.exam()} if test else {})
    noise = dict(design.parameters)["noise_multiplier"]
    return found | {"noise_multiplier": noise, "accounted": made.used["epsilon"]}


def measure_try(settings: Settings) -> list[Row]:
    """Return the merit on validation, larger is better. The test is not looked at."""
    sign = -1 if settings["task"] == "glucose" else 1
    return [study.rounded(merit=sign * _measured(settings, test=False)["validation"])]


def measure_private_layers(settings: Settings) -> list[Row]:
    """Return the score on validation and test, an error where the task is glucose."""
    return [study.rounded(**_measured(settings, test=True))]


def _run(name: str, cell: str, rates: tuple, seed: int) -> Settings:
    chosen = dict(zip(("lr", "clip", "server_rate"), rates, strict=True))
    return {"task": name, "cell": cell, "epsilon": EPSILON, **chosen, "seed": seed}


PRIVATE_LAYERS_RATES = Study(
    "private_layers_rates",
    tuple(
        _run(name, cell, rates, TUNING_SEED)
        for name, tries in TRIES.items()
        for cell in LAYERS
        for rates in tries
    ),
    measure_try,
)
PRIVATE_LAYERS = Study(
    "private_layers",
    tuple(
        _run(name, cell, CHOSEN[name, cell], seed)
        for name in TRIES
        for cell in LAYERS
        for seed in range(3)
    ),
    measure_private_layers,
)
