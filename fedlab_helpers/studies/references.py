"""Reference designs: what people would build by reflex for each brief, and the best that was found.

Each is run three times, with a deal and chance of its own. Scores are of validation; what the exams
say is beside them, and nothing was chosen by it.
"""

from dataclasses import replace

from fedlab_helpers.studies import study
from fedlab_helpers.studies.briefs import BRIEFS, brief_of
from fedlab_helpers.studies.design import SUMS, Design, measure
from fedlab_helpers.studies.study import Row, Settings, Study

PLAIN = {
    "keyboard": Design("gru", 32, lr=0.02, epochs=3, rounds=15, cohort=40),
    "hotels": Design("lstm", 32, lr=0.02, rounds=15, cohort=20),
    "clinics": Design("gru", 16, epochs=2, batch=8, rounds=10, cohort=19),
    "turbines": Design("gru", 32, rounds=20, cohort=4),
}
_PRIVATE = {  # noise that stays within the budget where there is one
    "keyboard": {"strategy": "private", "parameters": {"noise_multiplier": 0.95}},
    "hotels": {"strategy": "private"},
    "clinics": {"strategy": "dp_sgd", "parameters": {"noise_multiplier": 1.6}, "epochs": 1,
                "batch": 16},
    "turbines": {"strategy": "private"},
}  # fmt: skip
_REFLEXES = {
    "plain": {},
    "compressed": {"keep": "topk", "amount": 0.05, "write": "bits8", "feedback": True,
                   "device": "bits8"},
    "robust": {"strategy": "median"},
    "personal": {"tuning": 3},
    "hidden": {"secure": True},
}  # fmt: skip
_AS_IN_12 = {"optimizer": "sgd", "lr": 4.0, "server_rate": 2.0,
             "parameters": {"clip": 2.0, "noise_multiplier": 0.95}}  # fmt: skip
_COMPOSED = {  # of all that the course has, by hand, with the budgets in view
    "keyboard": {"strategy": "private", **_AS_IN_12, "server_rate": 3.0, "size": 24, "epochs": 4,
                 "tuning": 2, "tuning_rate": 2.0, "device": "bits8"},
    "hotels": {"strategy": "norm_clipping", "size": 24, "keep": "everything", "write": "bits4",
               "tuning": 4, "device": "bits8"},
    "clinics": {**_PRIVATE["clinics"], "parameters": {"noise_multiplier": 1.2}, "lr": 0.02,
                "rounds": 6, "tuning": 6, "tuning_rate": 0.01},
    "turbines": {"secure": True, "size": 16, "lr": 0.02, "tuning": 2},
}  # fmt: skip
# The best within all budgets in the table of each search: `search.best` says so.
FOUND: dict[str, str] = {
    "keyboard": (
        '{"cell": "gru", "strategy": "private", "size": 24, "parameters": {"clip": 2.0, '
        '"noise_multiplier": 0.9139056821145212, "beta": 0.8}, "server_rate": 3.0, '
        '"optimizer": "sgd", "lr": 4.0, "epochs": 4, "cohort": 40, "tuning": 2, '
        '"tuning_rate": 2.0, "device": "bits8"}'
    ),
    "hotels": (
        '{"cell": "lstm", "strategy": "fedyogi", "size": 16, "parameters": {"tau": '
        '8.107751853432934e-05}, "server_rate": 0.106845428993968, "optimizer": "sgd", "lr": '
        '1.0273708603216716, "epochs": 2, "batch": 32, "rounds": 11, "cohort": 20, "keep": '
        '"everything", "write": "bits4", "feedback": true, "tuning": 3, "tuning_rate": '
        '1.0716286125297443, "pruned": 0.6, "device": "bits8"}'
    ),
    "clinics": (
        '{"cell": "rnn", "strategy": "dp_sgd", "size": 8, "parameters": {"clip": '
        '0.018320075513594814, "noise_multiplier": 2.7998539292271256}, "server_rate": '
        '0.6201787905986762, "lr": 0.04440934904664903, "epochs": 3, "rounds": 17, "cohort": '
        '19, "keep": "randomk", "amount": 0.31788909739215043, "write": "float16", '
        '"feedback": true, "tuning": 4, "tuning_rate": 0.016932854582298512}'
    ),
    "turbines": (
        '{"cell": "gru", "strategy": "fedavg", "size": 16, "lr": 0.02, "rounds": 20, '
        '"cohort": 4, "secure": true, "tuning": 2}'
    ),
}


def references(brief: str) -> dict[str, Design]:
    """Return the reference designs of a brief, by name; one that cannot be run is not among them:
    a model of sums where clients lie, secure sums where one client stands for many."""
    plain, told = PLAIN[brief_of(brief).name], BRIEFS[brief]
    named = {name: replace(plain, **changes) for name, changes in _REFLEXES.items()}
    if told.stands_for > 1:
        del named["hidden"]
    named["private"] = replace(plain, **_PRIVATE[brief])
    if brief == "keyboard":
        named["private_sgd"] = replace(named["private"], **_AS_IN_12)
    named["composed"] = replace(plain, **_COMPOSED[brief])
    if not told.attackers:
        named["sums"] = Design(SUMS)
    if brief in FOUND:
        named["found"] = Design.from_json(FOUND[brief])
    return named


def measure_reference(settings: Settings) -> list[Row]:
    """Return what a reference design came to, and its exam."""
    brief, name = settings["brief"], settings["design"]
    made = measure(brief, references(brief)[name], settings["seed"])
    alone = sum(made.alone.values()) / len(made.alone)
    figures = study.rounded(score=made.score, alone=alone, exam=made.exam(), **made.used)
    down = {"megabytes_down": round(made.megabytes_down, 3)}
    return [figures | down | {"settings": made.design.to_json()}]


REFERENCE_DESIGNS = Study(
    "reference_designs",
    tuple(
        {"brief": brief, "design": name, "seed": seed}
        for brief in BRIEFS
        for name in references(brief)
        for seed in range(3)
    ),
    measure_reference,
)
