"""The strategies that are compared, and the settings that each may be tuned over.

Each has the same budget: six settings, tried on the same two partitions and judged on validation
reviews (`aggregation_rates`): as a rule four first, and two more beyond whichever edge did best.
SCAFFOLD with Adam and FedDyn with alpha 1 were tried first, far behind, and gave their places to
other settings.
"""

from collections.abc import Callable
from dataclasses import dataclass

from fedlab_helpers import strategies
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
        strategy: its name in `STRATEGIES`; or its one number -> the strategy.
        tries: the settings it is tuned over; as many for each contender.
        parameter: name of the parameter that is tuned beside the learning rate; "": none.
        epochs: local epochs a round.
    """

    strategy: str | Callable[[float], Strategy]
    tries: tuple[Tuning, ...]
    parameter: str = ""
    epochs: int = 1

    def make(self, tuning: Tuning) -> Strategy:
        """Return the strategy in this setting."""
        if not isinstance(self.strategy, str):
            return self.strategy(tuning.parameter)
        own = {self.parameter: tuning.parameter} if self.parameter else {}
        knows = strategies.STRATEGIES[self.strategy].knows_client_rate
        return strategies.make(self.strategy, **own, **({"lr": tuning.lr} if knows else {}))


Tries = tuple[Tuning, ...]


def _rates(*lrs: float, optimizer: str = "adam") -> Tries:
    return tuple(Tuning(lr, None, optimizer) for lr in lrs)


def _grid(lrs: tuple[float, ...], parameters: tuple[float, ...], optimizer: str = "adam") -> Tries:
    return tuple(Tuning(lr, parameter, optimizer) for lr in lrs for parameter in parameters)


CENTRALISED = "centralised"  # all data in one place: not a contender, but tuned like one
ADAM, SGD = (5e-3, 1e-2), (3.0, 10.0)
RATES = _rates(2e-3, 5e-3, 1e-2, 2e-2, 4e-2, 8e-2)
CENTRALISED_RATES = _rates(2e-3, 5e-3, 1e-2, 2e-2, 1e-3, 5e-4)

SGD_RATES = _rates(1.0, 3.0, 10.0, 30.0, 0.3, 0.1, optimizer="sgd")
MOMENTUM_TRIES = _grid(ADAM, (0.5, 0.7)) + _grid((2e-2,), (0.3, 0.5))
ADAPTIVE_TRIES = _grid(ADAM, (0.01, 0.03)) + _grid((2e-2,), (0.03, 0.1))

CONTENDERS = {
    "fedavg": Contender("fedavg", RATES),
    "fedavg_sgd": Contender("fedavg", SGD_RATES),
    "uniform": Contender("uniform", RATES),
    "inverse_loss": Contender("inverse_loss", RATES),
    "by_norm": Contender("by_norm", RATES),
    "rowwise": Contender("rowwise", RATES),
    "fedatt": Contender("fedatt", _grid(ADAM, (1.2, 2.4)) + _grid((2e-2,), (0.8, 1.2)), "epsilon"),
    "fedprox": Contender("fedprox", _grid(ADAM, (1e-3, 1e-2)) + _grid((2e-2,), (1e-4, 1e-3)), "mu"),
    "fedprox_sgd": Contender("fedprox", _grid((0.3, 1.0, 3.0), (1e-3, 1e-2), "sgd"), "mu"),
    "fednova": Contender("fednova", RATES),
    "scaffold": Contender("scaffold", SGD_RATES),
    "feddyn": Contender(
        "feddyn", _grid((2e-3, 5e-3), (0.1, 0.01)) + _grid((2e-2,), (0.01, 1e-3)), "alpha"
    ),
    "fedavgm": Contender("fedavgm", _grid(ADAM, (0.5, 0.9)) + _grid((2e-2,), (0.5, 0.9)), "beta"),
    "fedadagrad": Contender(
        "fedadagrad", _grid(ADAM, (0.03, 0.1)) + _grid(ADAM, (0.3,)), "server_rate"
    ),
    "fedadam": Contender("fedadam", ADAPTIVE_TRIES, "server_rate"),
    "fedyogi": Contender("fedyogi", ADAPTIVE_TRIES, "server_rate"),
    "qfedavg_sgd": Contender(
        "qfedavg", _grid(SGD, (0.1, 1.0), "sgd") + _grid((1.0,), (0.01, 0.1), "sgd"), "q"
    ),
    "worst_group": Contender(
        "worst_group", _grid(ADAM, (0.1, 1.0)) + _grid((2e-2,), (0.01, 0.1)), "rate"
    ),
    "rowwise_momentum": Contender(
        lambda beta: Strategy(ROWWISE, Momentum(1.0, beta)), MOMENTUM_TRIES, "beta"
    ),
    "rowwise_momentum_2": Contender(
        lambda beta: Strategy(ROWWISE, Momentum(1.0, beta)), MOMENTUM_TRIES, "beta", epochs=2
    ),
    "calibrated": Contender(
        "calibrated", _grid(ADAM, (0.5, 1.0)) + _grid((2e-2,), (1.0, 1.5)), "tau"
    ),
    "calibrated_rowwise_momentum_2": Contender(
        lambda beta: Calibrated(ROWWISE, Momentum(1.0, beta), tau=1.0),
        MOMENTUM_TRIES,
        "beta",
        epochs=2,
    ),
    "calibrated_uniform_rowwise_2": Contender(
        lambda tau: Calibrated(UNIFORM_ROWWISE, tau=tau),
        _grid((1e-2, 2e-2, 4e-2), (1.0, 1.5)),
        "tau",
        epochs=2,
    ),
}
