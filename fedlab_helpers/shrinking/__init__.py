"""A smaller model: pruned, factored, with fewer words, taught by a larger one, in fewer bits."""

from fedlab_helpers.shrinking.distill import agreement, cooled, softened, taught
from fedlab_helpers.shrinking.exchange import Exchange, distillation_rounds
from fedlab_helpers.shrinking.factor import best_factors, factor_recurrent, narrow_embedding
from fedlab_helpers.shrinking.integers import Rounded, to_integers
from fedlab_helpers.shrinking.prune import (
    apply_masks,
    keep_pruned,
    keep_units,
    smallest_masks,
    unit_sizes,
)
from fedlab_helpers.shrinking.words import (
    drop_words,
    hash_reviews,
    trim_model,
    trim_reviews,
)

__all__ = [
    "Exchange",
    "Rounded",
    "agreement",
    "apply_masks",
    "best_factors",
    "cooled",
    "distillation_rounds",
    "drop_words",
    "factor_recurrent",
    "hash_reviews",
    "keep_pruned",
    "keep_units",
    "narrow_embedding",
    "smallest_masks",
    "softened",
    "taught",
    "to_integers",
    "trim_model",
    "trim_reviews",
    "unit_sizes",
]
