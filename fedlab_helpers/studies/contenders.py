"""The strategies that are compared, and the settings that each may be tuned over.

Each has the same budget: six settings, tried on the same two partitions and judged on validation
reviews (`aggregation_rates`): as a rule four first, and two more beyond whichever edge did best.
SCAFFOLD with Adam and FedDyn with alpha 1 were tried first, far behind, and gave their places to
other settings.
"""

from collections.abc import Callable
from dataclasses import dataclass

from fedlab_helpers import strategies as by_name
from fedlab_helpers.core.strategy import Mean, Strategy
from fedlab_helpers.strategies.drift import Calibrated
from fedlab_helpers.strategies.server_steps import Momentum

ROWWISE, UNIFORM_ROWWISE = Mean(per_row=True), Mean("uniform", per_row=True)


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


Tries = tuple[Tuning, ...]


def _rates(*lrs: float, optimizer: str = "adam") -> Tries:
    return tuple(Tuning(lr, None, optimizer) for lr in lrs)


def _grid(lrs: tuple[float, ...], parameters: tuple[float, ...], optimizer: str = "adam") -> Tries:
    return tuple(Tuning(lr, parameter, optimizer) for lr in lrs for parameter in parameters)


CENTRALISED = "centralised"  # all data in one place: not a contender, but tuned like one
ADAM, SGD = (5e-3, 1e-2), (3.0, 10.0)
RATES = _rates(2e-3, 5e-3, 1e-2, 2e-2, 4e-2, 8e-2)
CENTRALISED_RATES = _rates(2e-3, 5e-3, 1e-2, 2e-2, 1e-3, 5e-4)

CONTENDERS = {
    "fedavg": Contender(lambda t: by_name.fedavg(), RATES),
    "fedavg_sgd": Contender(
        lambda t: by_name.fedavg(), _rates(1.0, 3.0, 10.0, 30.0, 0.3, 0.1, optimizer="sgd")
    ),
    "uniform": Contender(lambda t: by_name.uniform(), RATES),
    "inverse_loss": Contender(lambda t: by_name.inverse_loss(), RATES),
    "by_norm": Contender(lambda t: by_name.by_norm(), RATES),
    "rowwise": Contender(lambda t: by_name.rowwise(), RATES),
    "fedatt": Contender(
        lambda t: by_name.fedatt(t.parameter),
        _grid(ADAM, (1.2, 2.4)) + _grid((2e-2,), (0.8, 1.2)),
        parameter="epsilon",
    ),
    "fedprox": Contender(
        lambda t: by_name.fedprox(t.parameter),
        _grid(ADAM, (1e-3, 1e-2)) + _grid((2e-2,), (1e-4, 1e-3)),
        parameter="mu",
    ),
    "fedprox_sgd": Contender(
        lambda t: by_name.fedprox(t.parameter),
        _grid((0.3, 1.0, 3.0), (1e-3, 1e-2), "sgd"),
        parameter="mu",
    ),
    "fednova": Contender(lambda t: by_name.fednova(), RATES),
    "scaffold": Contender(
        lambda t: by_name.scaffold(), _rates(1.0, 3.0, 10.0, 30.0, 0.3, 0.1, optimizer="sgd")
    ),
    "feddyn": Contender(
        lambda t: by_name.feddyn(t.parameter),
        _grid((2e-3, 5e-3), (0.1, 0.01)) + _grid((2e-2,), (0.01, 1e-3)),
        parameter="alpha",
    ),
    "fedavgm": Contender(
        lambda t: by_name.fedavgm(1.0, t.parameter),
        _grid(ADAM, (0.5, 0.9)) + _grid((2e-2,), (0.5, 0.9)),
        parameter="beta",
    ),
    "fedadagrad": Contender(
        lambda t: by_name.fedadagrad(t.parameter),
        _grid(ADAM, (0.03, 0.1)) + _grid(ADAM, (0.3,)),
        parameter="server lr",
    ),
    "fedadam": Contender(
        lambda t: by_name.fedadam(t.parameter),
        _grid(ADAM, (0.01, 0.03)) + _grid((2e-2,), (0.03, 0.1)),
        parameter="server lr",
    ),
    "fedyogi": Contender(
        lambda t: by_name.fedyogi(t.parameter),
        _grid(ADAM, (0.01, 0.03)) + _grid((2e-2,), (0.03, 0.1)),
        parameter="server lr",
    ),
    "qfedavg_sgd": Contender(
        lambda t: by_name.qfedavg(t.parameter, t.lr),
        _grid(SGD, (0.1, 1.0), "sgd") + _grid((1.0,), (0.01, 0.1), "sgd"),
        parameter="q",
    ),
    "worst_group": Contender(
        lambda t: by_name.worst_group(t.parameter),
        _grid(ADAM, (0.1, 1.0)) + _grid((2e-2,), (0.01, 0.1)),
        parameter="rate",
    ),
    "rowwise_momentum": Contender(
        lambda t: Strategy(ROWWISE, Momentum(1.0, t.parameter)),
        _grid(ADAM, (0.5, 0.7)) + _grid((2e-2,), (0.3, 0.5)),
        parameter="beta",
    ),
    "rowwise_momentum_2": Contender(
        lambda t: Strategy(ROWWISE, Momentum(1.0, t.parameter)),
        _grid(ADAM, (0.5, 0.7)) + _grid((2e-2,), (0.3, 0.5)),
        epochs=2,
        parameter="beta",
    ),
    "calibrated": Contender(
        lambda t: by_name.calibrated(t.parameter),
        _grid(ADAM, (0.5, 1.0)) + _grid((2e-2,), (1.0, 1.5)),
        parameter="tau",
    ),
    "calibrated_rowwise_momentum_2": Contender(
        lambda t: Calibrated(ROWWISE, Momentum(1.0, t.parameter)),
        _grid(ADAM, (0.5, 0.7)) + _grid((2e-2,), (0.3, 0.5)),
        epochs=2,
        parameter="beta",
    ),
    "calibrated_uniform_rowwise_2": Contender(
        lambda t: Calibrated(UNIFORM_ROWWISE, tau=t.parameter),
        _grid((1e-2, 2e-2, 4e-2), (1.0, 1.5)),
        epochs=2,
        parameter="tau",
    ),
}
