"""Helpers for a course on federated learning of recurrent networks.

What a run needs is here by name, each loaded when it is first used; the rooms behind these names
are `core`, `tasks`, `compression`, `privacy`, `strategies`, `shrinking`, `personal`, the module
`recipe`, `network`, `studies` and `lessons`. A room imports only from those before it.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules={"compression", "network", "personal", "privacy", "shrinking", "strategies"},
    submod_attrs={
        "core": ["compute", "state", "wire"],
        "core.examples": ["Examples"],
        "core.history": ["History", "RoundRecord"],
        "core.messages": ["Received", "Update"],
        "core.plan": ["Plan"],
        "core.rounds": ["rounds", "run"],
        "core.rows": ["make_whole"],
        "core.state": ["of_model"],
        "core.training": [
            "OPTIMIZERS", "LocalConfig", "clip_gradients", "evaluate", "predict", "train",
        ],
        "compression.downlink": ["Changes"],
        "network.machines": ["Network"],
        "network.node": ["write_reviews"],
        "personal.fine_tuning": ["correct_priors", "fine_tune"],
        "recipe": ["Recipe"],
        "strategies.personal": ["keep_private"],
        "studies.results": ["RESULTS"],
        "tasks": ["objectives", "partition"],
        "tasks.reviews.corpus": ["Review", "load_reviews"],
        "tasks.reviews.model": ["SentimentLSTM"],
        "tasks.reviews.task": ["load_task"],
        "tasks.reviews.encoded": ["EncodedReviews", "encode_reviews"],
        "tasks.reviews.words": ["Vocabulary", "tokenize", "tokenize_all"],
    },
)  # fmt: skip
