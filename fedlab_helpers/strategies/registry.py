"""The strategies that a panel offers, with the range of each parameter.

Each begins with the parameters of its own that were tuned (`studies.aggregation.CHOSEN`), if any
were; the clients' rate is not among them.
"""

from collections.abc import Callable
from dataclasses import dataclass

from fedlab_helpers import strategies
from fedlab_helpers.core.strategy import Strategy


@dataclass(frozen=True)
class Parameter:
    """One number of a strategy, and the range in which it is worth trying.

    Args:
        name: by which `Offer.make` takes it.
        default: where a slider begins.
        low: least value.
        high: largest value.
        log: whether a slider goes by powers of ten; a range that begins at 0 cannot.
    """

    name: str
    default: float
    low: float
    high: float
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether it is a count."""
        return isinstance(self.default, int)


@dataclass(frozen=True)
class Offer:
    """One strategy as it can be chosen.

    Args:
        make: its parameters -> the strategy.
        parameters: its own, beside the server rate.
        server_rate: where the learning rate of its server step begins; None: it has no such step,
            or one whose size its own rule decides.
        for_sgd: whether its theory is one of plain SGD on the clients.
    """

    make: Callable[..., Strategy]
    parameters: tuple[Parameter, ...] = ()
    server_rate: float | None = 1.0
    for_sgd: bool = False


_BETA = Parameter("beta", 0.5, 0.0, 0.99)
_TAU = Parameter("tau", 1e-3, 1e-5, 1e-1, log=True)

OFFERS = {
    "fedavg": Offer(strategies.fedavg),
    "uniform": Offer(strategies.uniform),
    "rowwise": Offer(strategies.rowwise),
    "inverse_loss": Offer(strategies.inverse_loss),
    "by_norm": Offer(strategies.by_norm),
    "fedatt": Offer(strategies.fedatt, (Parameter("epsilon", 1.2, 0.1, 4.0),), server_rate=None),
    "calibrated": Offer(strategies.calibrated, (Parameter("tau", 1.5, 0.0, 2.0),)),
    "fednova": Offer(strategies.fednova, for_sgd=True),
    "fedprox": Offer(strategies.fedprox, (Parameter("mu", 1e-4, 1e-5, 10.0, log=True),)),
    "scaffold": Offer(strategies.scaffold, for_sgd=True),
    "feddyn": Offer(
        strategies.feddyn, (Parameter("alpha", 1e-3, 1e-4, 10.0, log=True),), server_rate=None
    ),
    "fedavgm": Offer(strategies.fedavgm, (_BETA,)),
    "fedadagrad": Offer(strategies.fedadagrad, (_TAU,), server_rate=0.3),
    "fedadam": Offer(strategies.fedadam, (_TAU,), server_rate=0.03),
    "fedyogi": Offer(strategies.fedyogi, (_TAU,), server_rate=0.03),
    "qfedavg": Offer(
        strategies.qfedavg, (Parameter("q", 0.1, 0.0, 5.0),), server_rate=None, for_sgd=True
    ),
    "worst_group": Offer(strategies.worst_group, (Parameter("rate", 0.1, 0.0, 2.0),)),
    "median": Offer(strategies.median),
    "trimmed_mean": Offer(strategies.trimmed_mean, (Parameter("share", 0.2, 0.0, 0.45),)),
    "krum": Offer(strategies.krum, (Parameter("f", 2, 0, 10), Parameter("keep", 1, 1, 20))),
    "geometric_median": Offer(strategies.geometric_median),
    "norm_clipping": Offer(
        strategies.norm_clipping, (Parameter("max_norm", 20.0, 1.0, 100.0, log=True),)
    ),
}
