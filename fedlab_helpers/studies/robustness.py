"""What strategies stand: attacks by some of the clients, and combinations made against them."""

from fedlab_helpers import strategies
from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.core.history import NoUpdateLeft
from fedlab_helpers.core.rounds import rounds
from fedlab_helpers.strategies import attacks
from fedlab_helpers.studies.study import Row, Settings, Study, begin, grid, recipe_of, task

HALF_AS_LONG = 20.0  # an honest client's first change is some 40 long at this rate
# Each cohort of 10 may hold up to 4 of the hostile clients; more than 3 are seldom drawn.
COMBINATIONS = {
    "fedavg": strategies.fedavg,
    "uniform": strategies.uniform,
    "norm_clipping": lambda: strategies.norm_clipping(HALF_AS_LONG),
    "median": strategies.median,
    "trimmed_mean": lambda: strategies.trimmed_mean(0.3),
    "krum": lambda: strategies.krum(3),
    "multi_krum": lambda: strategies.krum(3, keep=5),
    "geometric_median": strategies.geometric_median,
}
ATTACKS = ("none", *attacks.STRENGTHS)


def measure_attack(settings: Settings) -> list[Row]:
    """Return accuracy and loss after every round; a run without any usable update ends there."""
    share = settings["hostile"] if settings["attack"] != "none" else 0.0
    hostile = attacks.choose(settings["clients"], share, numpy_rng(settings["seed"], "hostile"))
    model, clients, _, plan = begin(recipe_of(settings))
    clients, transforms = attacks.attacked(clients, hostile, settings["attack"])
    strategy, rows = COMBINATIONS[settings["strategy"]](), []
    options = {"test": task().test, "transforms": transforms}
    try:
        for record in rounds(model, clients, strategy, plan, **options):
            rows.append(
                {
                    "round": record.round,
                    "hostile_in_cohort": len(set(hostile) & set(record.cohort)),
                    "left_out": len(record.left_out),
                    "accuracy": round(record.metrics["accuracy"], 5),
                    "loss": round(record.metrics["loss"], 4),
                }
            )
    except NoUpdateLeft:
        pass  # the global weights have broken down
    return rows


ROBUSTNESS = Study(
    "robustness",
    grid(
        seed=range(3),
        partition=["iid"],
        clients=[20],
        cohort=[10],
        rounds=[12],
        lr=[2e-2],
        hostile=[0.2],
        attack=ATTACKS,
        strategy=COMBINATIONS,
    ),
    measure_attack,
)
