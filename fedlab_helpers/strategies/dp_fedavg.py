"""FedAvg with an account of what its rounds tell of any one client."""

from fedlab_helpers.core.strategy import Strategy
from fedlab_helpers.privacy.private_mean import PrivateMean
from fedlab_helpers.strategies.registry import registered
from fedlab_helpers.strategies.server_steps import Momentum


@registered(clip=(0.01, 10.0), noise_multiplier=(0.0, 10.0), beta=(0.0, 0.99))
def private(
    clip: float = 1.0,
    noise_multiplier: float = 1.0,
    lr: float = Momentum.lr,
    beta: float = 0.8,
    delta: float = PrivateMean.delta,
    repeatable: bool = False,
) -> Strategy:
    """DP-FedAvg: clipped changes, noise on their sum, and momentum on the server."""
    mean = PrivateMean(clip, noise_multiplier, delta=delta, repeatable=repeatable)
    return Strategy(mean, Momentum(lr, beta))
