"""What is to happen in a run, apart from model, data and strategy."""

from dataclasses import dataclass, field
from numbers import Integral

from fedlab_helpers.core import compute
from fedlab_helpers.core.pace import Pace
from fedlab_helpers.core.training import LocalConfig


@dataclass(frozen=True)
class Plan:
    """What is to happen, apart from model, data and strategy.

    Args:
        rounds: how many.
        clients_per_round: size of the cohort drawn each round; None: every client.
        local: how a client trains.
        seed: decides cohorts, order of reviews, dropout masks and dropouts.
        workers: clients that train side by side; "auto": one for each CPU. Changes no bit.
        evaluate_every: the global model is evaluated after every so many rounds, and the last.
        dropout_rate: probability that a client of the cohort never answers.
        pace: simulated speeds of the clients and a deadline; None: each does all its work.

    Raises:
        ValueError: a number is out of range.
    """

    rounds: int
    clients_per_round: int | None = None
    local: LocalConfig = field(default_factory=LocalConfig)
    seed: int = 0
    workers: int | str = "auto"
    evaluate_every: int = 1
    dropout_rate: float = 0.0
    pace: Pace | None = None

    def __post_init__(self):
        for name in ("rounds", "clients_per_round", "evaluate_every"):
            value = getattr(self, name)
            everyone = name == "clients_per_round" and value is None
            if not everyone and not (isinstance(value, Integral) and value >= 1):
                raise ValueError(f"{name}: got {value!r}, expected an integer of at least 1")
        if not 0 <= self.dropout_rate < 1:
            raise ValueError(f"dropout_rate: got {self.dropout_rate!r}, expected it in [0, 1)")
        compute.worker_count(self.workers)

    def evaluates_after(self, number: int) -> bool:
        """Return whether the global model is evaluated after round `number`."""
        return number % self.evaluate_every == 0 or number == self.rounds

    @classmethod
    def fedsgd(cls, rounds: int, lr: float, **others) -> "Plan":
        """Return FedSGD as a plan: each client takes one plain gradient step on all it holds.

        McMahan et al. 2017, arXiv:1602.05629, section 2: E = 1 and B = infinity.
        """
        step = LocalConfig(epochs=1, batch_size=None, lr=lr, optimizer="sgd", max_grad_norm=None)
        return cls(rounds, local=step, **others)
