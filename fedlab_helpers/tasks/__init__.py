"""Where examples come from, and how they are dealt to clients."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["glucose", "objectives", "partition"])
