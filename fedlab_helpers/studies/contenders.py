"""The strategies that are compared, and the settings that each may be tuned over.

Each has the same budget: six settings, tried on the same two partitions and judged on validation
reviews (`aggregation_rates`): as a rule four first, and two more beyond whichever edge did best.
SCAFFOLD with Adam and FedDyn with alpha 1 were tried first, far behind, and gave their places to
other settings; so did FedAdagrad with 0.005 and 0.3.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

from fedlab_helpers.core.strategy import Mean, Strategy
from fedlab_helpers.recipe import Recipe
from fedlab_helpers.strategies.drift import Calibrated

Tries = tuple[tuple[float, float | None], ...]


@dataclass(frozen=True)
class Contender:
    """A strategy in the comparison.

    Args:
        base: the recipe of its runs, but for what it is tuned over.
        tries: the settings it is tuned over, as many for each contender: the clients' learning
            rate, and the strategy's own number, None where none is tuned.
        parameter: name of that number; "": none.
        change: what becomes of the strategy that the recipe names.
    """

    base: Recipe
    tries: Tries
    parameter: str = ""
    change: Callable[[Strategy], Strategy] = lambda strategy: strategy

    def recipe(self, lr: float, number: float | None = None) -> Recipe:
        """Return the recipe in one setting; a number of None is as the registry has it."""
        if self.parameter == "server_rate":
            return replace(self.base, lr=lr, server_rate=number)
        own = {} if number is None else {self.parameter: number}
        return replace(self.base, lr=lr, parameters=own)

    def number(self, recipe: Recipe) -> float | None:
        """Return the strategy's own number in a recipe; None where none is tuned."""
        own = dict(recipe.parameters) | {"server_rate": recipe.server_rate}
        return own[self.parameter] if self.parameter else None

    def make(self, recipe: Recipe) -> Strategy:
        """Return the strategy of a recipe."""
        return self.change(recipe.new_strategy())


def _tries(*grids: tuple[tuple[float, ...], tuple[float | None, ...]]) -> Tries:
    return tuple(setting for rates, numbers in grids for setting in product(rates, numbers))


def _rowwise(strategy: Strategy) -> Strategy:
    return replace(strategy, combine=Mean(per_row=True))


CENTRALISED = "centralised"  # all data in one place: not a contender, but tuned like one
NONE, ADAM, FAST, SGD = (None,), (5e-3, 1e-2), (2e-2,), (3.0, 10.0)
RATES = _tries(((2e-3, 5e-3, 1e-2, 2e-2, 4e-2, 8e-2), NONE))
SGD_RATES = _tries(((1.0, 3.0, 10.0, 30.0, 0.3, 0.1), NONE))
MOMENTUM = _tries((ADAM, (0.5, 0.7)), (FAST, (0.3, 0.5))), "beta"
ADAPTIVE = _tries((ADAM, (0.01, 0.03)), (FAST, (0.03, 0.1))), "server_rate"
CENTRAL = Contender(Recipe(), _tries(((2e-3, 5e-3, 1e-2, 2e-2, 1e-3, 5e-4), NONE)))

CONTENDERS = {
    "fedavg": Contender(Recipe("fedavg"), RATES),
    "fedavg_sgd": Contender(Recipe("fedavg", optimizer="sgd"), SGD_RATES),
    "uniform": Contender(Recipe("uniform"), RATES),
    "inverse_loss": Contender(Recipe("inverse_loss"), RATES),
    "by_norm": Contender(Recipe("by_norm"), RATES),
    "rowwise": Contender(Recipe("rowwise"), RATES),
    "fedatt": Contender(
        Recipe("fedatt"), _tries((ADAM, (1.2, 2.4)), (FAST, (0.8, 1.2))), "epsilon"
    ),
    "fedprox": Contender(
        Recipe("fedprox"), _tries((ADAM, (1e-3, 1e-2)), (FAST, (1e-4, 1e-3))), "mu"
    ),
    "fedprox_sgd": Contender(
        Recipe("fedprox", optimizer="sgd"), _tries(((0.3, 1.0, 3.0), (1e-3, 1e-2))), "mu"
    ),
    "fednova": Contender(Recipe("fednova"), RATES),
    "scaffold": Contender(Recipe("scaffold", optimizer="sgd"), SGD_RATES),
    "feddyn": Contender(
        Recipe("feddyn"), _tries(((2e-3, 5e-3), (0.1, 0.01)), (FAST, (0.01, 1e-3))), "alpha"
    ),
    "fedavgm": Contender(Recipe("fedavgm"), _tries((ADAM, (0.5, 0.9)), (FAST, (0.5, 0.9))), "beta"),
    "fedadagrad": Contender(
        Recipe("fedadagrad"),
        (*_tries((ADAM, (0.03, 0.1))), (1e-2, 0.3), (2e-2, 0.1)),
        "server_rate",
    ),
    "fedadam": Contender(Recipe("fedadam"), *ADAPTIVE),
    "fedyogi": Contender(Recipe("fedyogi"), *ADAPTIVE),
    "qfedavg_sgd": Contender(
        Recipe("qfedavg", optimizer="sgd"), _tries((SGD, (0.1, 1.0)), ((1.0,), (0.01, 0.1))), "q"
    ),
    "worst_group": Contender(
        Recipe("worst_group"), _tries((ADAM, (0.1, 1.0)), (FAST, (0.01, 0.1))), "rate"
    ),
    "rowwise_momentum": Contender(Recipe("fedavgm"), *MOMENTUM, _rowwise),
    "rowwise_momentum_2": Contender(Recipe("fedavgm", epochs=2), *MOMENTUM, _rowwise),
    "calibrated": Contender(
        Recipe("calibrated"), _tries((ADAM, (0.5, 1.0)), (FAST, (1.0, 1.5))), "tau"
    ),
    "calibrated_rowwise_momentum_2": Contender(
        Recipe("fedavgm", epochs=2),
        *MOMENTUM,
        lambda strategy: Calibrated(Mean(per_row=True), strategy.step, tau=1.0),
    ),
    "calibrated_uniform_rowwise_2": Contender(
        Recipe("calibrated", epochs=2),
        _tries(((1e-2, 2e-2, 4e-2), (1.0, 1.5))),
        "tau",
        lambda strategy: replace(strategy, combine=Mean("uniform", per_row=True)),
    ),
}
