"""The strategies that are compared, and the settings that each may be tuned over.

Each has the same budget: four settings, tried on the same two partitions, chosen on validation
reviews (`aggregation_rates`).
"""

from collections.abc import Callable
from dataclasses import dataclass

from fedlab_helpers import aggregation as by_name
from fedlab_helpers.drift import Calibrated
from fedlab_helpers.means import Mean
from fedlab_helpers.server_steps import Momentum
from fedlab_helpers.strategy import Strategy

ROWWISE = Mean(per_row=True)


@dataclass(frozen=True)
class Tuning:
    """One setting of a strategy.

    Args:
        lr: the clients' learning rate.
        parameter: the strategy's own; None where it has none.
        optimizer: of the clients.
    """

    lr: float
    parameter: float | None = None
    optimizer: str = "adam"


@dataclass(frozen=True)
class Contender:
    """A strategy in the comparison.

    Args:
        make: the setting -> the strategy.
        tries: the settings it is tuned over; as many for each contender.
        epochs: local epochs a round.
        parameter: name of the parameter that is tuned beside the learning rate.
    """

    make: Callable[[Tuning], Strategy]
    tries: tuple[Tuning, ...]
    epochs: int = 1
    parameter: str = ""


RATES = tuple(Tuning(lr) for lr in (2e-3, 5e-3, 1e-2, 2e-2))


def _pairs(lrs: tuple[float, float], parameters: tuple[float, float], optimizer: str = "adam"):
    return tuple(Tuning(lr, parameter, optimizer) for lr in lrs for parameter in parameters)


ADAM, SGD = (5e-3, 1e-2), (3.0, 10.0)

CONTENDERS = {
    "fedavg": Contender(lambda t: by_name.fedavg(), RATES),
    "fedavg_sgd": Contender(
        lambda t: by_name.fedavg(), tuple(Tuning(lr, None, "sgd") for lr in (1.0, 3.0, 10.0, 30.0))
    ),
    "uniform": Contender(lambda t: by_name.uniform(), RATES),
    "inverse_loss": Contender(lambda t: by_name.inverse_loss(), RATES),
    "by_norm": Contender(lambda t: by_name.by_norm(), RATES),
    "rowwise": Contender(lambda t: by_name.rowwise(), RATES),
    "fedatt": Contender(
        lambda t: by_name.fedatt(t.parameter), _pairs(ADAM, (1.2, 2.4)), parameter="epsilon"
    ),
    "fedprox": Contender(
        lambda t: by_name.fedprox(t.parameter), _pairs(ADAM, (1e-3, 1e-2)), parameter="mu"
    ),
    "fedprox_sgd": Contender(
        lambda t: by_name.fedprox(t.parameter), _pairs(SGD, (1e-3, 1e-2), "sgd"), parameter="mu"
    ),
    "fednova": Contender(lambda t: by_name.fednova(), RATES),
    "scaffold": Contender(
        lambda t: by_name.scaffold(),
        (*(Tuning(lr) for lr in (2e-3, 5e-3)), *(Tuning(lr, None, "sgd") for lr in SGD)),
    ),
    "feddyn": Contender(
        lambda t: by_name.feddyn(t.parameter), _pairs((2e-3, 5e-3), (0.1, 1.0)), parameter="alpha"
    ),
    "fedavgm": Contender(
        lambda t: by_name.fedavgm(1.0, t.parameter), _pairs(ADAM, (0.5, 0.9)), parameter="beta"
    ),
    "fedadagrad": Contender(
        lambda t: by_name.fedadagrad(t.parameter), _pairs(ADAM, (0.03, 0.1)), parameter="server lr"
    ),
    "fedadam": Contender(
        lambda t: by_name.fedadam(t.parameter), _pairs(ADAM, (0.01, 0.03)), parameter="server lr"
    ),
    "fedyogi": Contender(
        lambda t: by_name.fedyogi(t.parameter), _pairs(ADAM, (0.01, 0.03)), parameter="server lr"
    ),
    "qfedavg_sgd": Contender(
        lambda t: by_name.qfedavg(t.parameter, t.lr), _pairs(SGD, (0.1, 1.0), "sgd"), parameter="q"
    ),
    "worst_group": Contender(
        lambda t: by_name.worst_group(t.parameter), _pairs(ADAM, (0.1, 1.0)), parameter="rate"
    ),
    "rowwise_momentum": Contender(
        lambda t: Strategy(ROWWISE, Momentum(1.0, t.parameter)),
        _pairs(ADAM, (0.5, 0.7)),
        parameter="beta",
    ),
    "rowwise_momentum_2": Contender(
        lambda t: Strategy(ROWWISE, Momentum(1.0, t.parameter)),
        _pairs(ADAM, (0.5, 0.7)),
        epochs=2,
        parameter="beta",
    ),
    "calibrated": Contender(
        lambda t: by_name.calibrated(t.parameter), _pairs(ADAM, (0.5, 1.0)), parameter="tau"
    ),
    "calibrated_rowwise_momentum_2": Contender(
        lambda t: Calibrated(ROWWISE, Momentum(1.0, t.parameter)),
        _pairs(ADAM, (0.5, 0.7)),
        epochs=2,
        parameter="beta",
    ),
}
