"""The algorithm: what trains, averages, encodes and counts. It imports no other room.

Read examples, training, strategy, client, rounds, history; the other files serve these.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["compute", "state", "wire"])
