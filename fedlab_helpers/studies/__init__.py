"""The measured studies of the series: their tables, and the command that makes them.

A study is imported when it is asked for; to read a table (`studies.results`), none is.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from fedlab_helpers.core.require import require

if TYPE_CHECKING:
    from fedlab_helpers.studies.study import Study

STUDIES = {  # name of the study and of its table -> module, which has it in capitals
    "aggregation": "aggregation",
    "aggregation_again": "aggregation",
    "aggregation_rates": "aggregation",
    "article_loop": "article_loop",
    "article_loop_epochs": "article_loop",
    "attacks_again": "attacks_again",
    "audits": "audits",
    "baselines": "baselines",
    "baselines_rates": "baselines",
    "block_drift": "what_to_average",
    "chaos": "chaos",
    "compression": "compression",
    "compression_again": "compression",
    "compression_sgd": "compression",
    "compression_sgd_rates": "compression",
    "drift": "drift",
    "example_level": "example_level",
    "example_level_rates": "example_level",
    "federated_distillation": "federated_distillation",
    "label_skew": "label_skew",
    "leaks_canary": "leaks_canary",
    "leaks_clock": "leaks",
    "leaks_matching": "leaks",
    "leaks_membership": "leaks",
    "leaks_sentences": "leaks",
    "leaks_words": "leaks",
    "local_training": "local_training",
    "local_work": "local_work",
    "local_work_rates": "local_work",
    "long_memory": "long_memory",
    "newcomers": "newcomers",
    "open_gates": "open_gates",
    "personalization": "personalization",
    "personalization_rates": "personalization",
    "private": "private",
    "private_layers": "private_layers",
    "private_layers_rates": "private_layers",
    "private_patients": "private_patients",
    "private_patients_rates": "private_patients",
    "private_rates": "private",
    "reach": "long_memory",
    "reference_designs": "references",
    "robustness": "robustness",
    "secure_accuracy": "secure_accuracy",
    "sequences": "sequences",
    "sequences_rates": "sequences",
    "shrinking": "shrinking",
    "shrinking_again": "shrinking",
    "shrinking_rates": "shrinking",
    "unequal_work": "unequal_work",
    "unequal_work_rates": "unequal_work",
    "what_to_average": "what_to_average",
    "which_glucose": "which_model",
    "which_glucose_rates": "which_model",
    "which_reviews": "which_model",
    "which_reviews_rates": "which_model",
    "which_words": "which_model",
    "which_words_rates": "which_model",
}


def load(name: str) -> "Study":
    """Return a study. Raises ValueError: none has this name."""
    require(name in STUDIES, "study", name, f"one of {sorted(STUDIES)}")
    return getattr(import_module(f"{__name__}.{STUDIES[name]}"), name.upper())
