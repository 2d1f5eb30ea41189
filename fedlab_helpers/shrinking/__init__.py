"""A smaller model: pruned, factored, with fewer words, taught by a larger one, in fewer bits.

Each name is loaded when it is first used: `classify` and `Suggestions` run without PyTorch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "distill": ["agreement", "cooled", "softened", "taught"],
        "exchange": ["Exchange", "distillation_rounds"],
        "factor": ["best_factors", "factor_recurrent", "narrow_embedding"],
        "integers": ["Rounded", "to_integers"],
        "keyboard": ["Suggestions"],
        "prune": ["apply_masks", "keep_pruned", "keep_units", "smallest_masks", "unit_sizes"],
        "words": ["drop_words", "hash_reviews", "trim_model", "trim_reviews"],
    },
)
