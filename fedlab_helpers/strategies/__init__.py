"""The strategies of the series: what clients and server do to make one model of many.

By name: `make("fedprox", mu=0.01)`, of all in `STRATEGIES`, which `table()` shows; or by their
functions, `fedprox(mu=0.01)`, each of which returns a small frozen value. Its parts combine freely:
each client counts the same with `replace(fedadam(), combine=Mean("uniform"))`. Every file of this
folder is loaded here, and what it has `registered` is handed on.
"""

import importlib
import pkgutil

from fedlab_helpers.strategies.registry import (  # noqa: F401 (handed on, too)
    STRATEGIES,
    Entry,
    Parameter,
    make,
    registered,
    table,
)

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")
globals().update({name: entry.make for name, entry in STRATEGIES.items()})
