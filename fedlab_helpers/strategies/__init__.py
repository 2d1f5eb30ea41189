"""The strategies of the series: what clients and server do to make one model of many.

By name: `make("fedprox", mu=0.01)`, of all in `STRATEGIES`; or by their functions, each of which
returns a small frozen value. Its parts combine freely: each client counts the same with
`replace(fedadam(), combine=Mean("uniform"))`. Those with a model for each client: `personal`.
"""
# ruff: noqa: F401  (these names are handed on)

from fedlab_helpers.strategies.drift import calibrated, feddyn, fedprox, scaffold
from fedlab_helpers.strategies.fairness import qfedavg, worst_group
from fedlab_helpers.strategies.means import (
    by_norm,
    fedatt,
    fedavg,
    fednova,
    inverse_loss,
    rowwise,
    uniform,
)
from fedlab_helpers.strategies.registry import STRATEGIES, Entry, Parameter, make, registered
from fedlab_helpers.strategies.robust import (
    geometric_median,
    krum,
    median,
    norm_clipping,
    trimmed_mean,
)
from fedlab_helpers.strategies.server_steps import fedadagrad, fedadam, fedavgm, fedyogi
