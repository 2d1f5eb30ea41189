"""Checks of the exercises, one module a notebook; each is loaded when it is first used."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules={
        "averaging", "baseline", "briefs", "chinese_text", "clinic", "compression", "differences",
        "leaks", "local_work", "models", "network", "personalization", "recurrent", "shrinking",
        "start_here", "protection", "sequences", "strategies",
    },
)  # fmt: skip
