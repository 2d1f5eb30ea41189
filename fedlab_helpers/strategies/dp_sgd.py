"""FedAvg whose clients train by DP-SGD: each protects its examples, from the server too."""

from dataclasses import dataclass, field

from fedlab_helpers.core.strategy import LocalRun, Strategy
from fedlab_helpers.core.training import Hooks
from fedlab_helpers.privacy.per_example import PerExample
from fedlab_helpers.strategies.registry import registered


@dataclass(frozen=True)
class DpSgd(Strategy):
    """FedAvg whose clients train as `private` has it, with the configuration of the plan.

    A client's epsilon is `private.epsilon(examples, plan.local, rounds)`, of its own examples and
    the rounds that it took part in. `PerExample` says what that covers: not the weight of a client
    in a mean by examples, which tells their number, nor a choice that it makes, as in clusters.
    """

    private: PerExample = field(kw_only=True)

    dense = True  # which rows a client touched names its words

    @property
    def secret(self) -> bool:
        """Whether what clients draw is seeded by the system, so that no run repeats."""
        return self.private.secret

    def begin(self, run: LocalRun) -> Hooks:
        return self.private.hooks(run.model, run.data, run.config, run.seed)


@registered(clip=(0.01, 10.0), noise_multiplier=(0.0, 10.0))
def dp_sgd(
    clip: float = 1.0,
    noise_multiplier: float = 1.0,
    delta: float = PerExample.delta,
    repeatable: bool = False,
) -> DpSgd:
    """DP-SGD on each client: a clipped gradient for each example, and noise on their sum."""
    return DpSgd(private=PerExample(clip, noise_multiplier, delta, repeatable))
