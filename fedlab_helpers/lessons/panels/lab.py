"""The settings of a federated run as a panel offers them, and what is wrong with a combination."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.core.rounds import Plan, sample_cohort
from fedlab_helpers.core.strategy import Strategy, require_cohort
from fedlab_helpers.core.training import LocalConfig
from fedlab_helpers.lessons.words import text
from fedlab_helpers.strategies import attacks
from fedlab_helpers.strategies.attacks import STRENGTHS
from fedlab_helpers.strategies.registry import STRATEGIES
from fedlab_helpers.tasks.partition import Parts
from fedlab_helpers.tasks.reviews.task import DEALS, Task

# Rates in the middle of those that strategies were tuned to: `studies.aggregation.CHOSEN`.
LOCAL = {
    "adam": LocalConfig(lr=2e-2),
    "sgd": LocalConfig(lr=1.0, optimizer="sgd", max_grad_norm=None),
}


@dataclass(frozen=True)
class Setup:
    """All that decides a run. What does not apply becomes None, so that equal runs are equal.

    Args:
        strategy: a name in `registry.STRATEGIES`.
        parameters: its own, as a dictionary; those left out are as they were tuned.
        server_rate: learning rate of the server's step; None: as it was tuned.
        optimizer: of the clients, a name in `LOCAL`.
        lr: the clients' learning rate; None: as in `LOCAL`.
        epochs: local epochs a round.
        partition: how reviews are dealt to clients, a name in `task.DEALS`.
        alpha: of a Dirichlet partition; the smaller, the more clients differ.
        clients: how many.
        cohort: how many of them train in each round.
        attackers: share of the clients that are hostile.
        attack: what those do, a name in `attacks.STRENGTHS`.
        rounds: how many.
        seed: decides the first weights, the partition, the cohorts and the attackers.

    Raises:
        ValueError: a name is not among those.
    """

    strategy: str = "fedavg"
    parameters: Any = ()
    server_rate: float | None = None
    optimizer: str = "adam"
    lr: float | None = None
    epochs: int = 1
    partition: str = "dirichlet"
    alpha: float | None = 0.5
    clients: int = 20
    cohort: int = 10
    attackers: float = 0.0
    attack: str | None = "sign"
    rounds: int = 15
    seed: int = 0

    def __post_init__(self):
        _require_names(self)
        offer, given = STRATEGIES[self.strategy], dict(self.parameters)
        own = {parameter.name: parameter.default for parameter in offer.parameters}
        if odd := sorted(given.keys() - own.keys()):
            raise ValueError(f"parameters: got {odd}, {self.strategy} has {sorted(own)}")
        rate = offer.server_rate if self.server_rate is None else self.server_rate
        settled = {
            "parameters": tuple((own | given).items()),
            "server_rate": None if offer.server_rate is None else rate,
            "lr": LOCAL[self.optimizer].lr if self.lr is None else self.lr,
            "alpha": self.alpha if DEALS[self.partition].uses_alpha else None,
            "attack": self.attack if self.attackers else None,
        }
        for name, value in settled.items():
            object.__setattr__(self, name, value)

    @property
    def name(self) -> str:
        """What a reader calls the strategy, with its own parameters."""
        own = self.settings()["parameters"]
        return text(self.strategy) + (f" ({own})" if own else "")

    def settings(self) -> dict[str, Any]:
        """Return each setting by its name, the parameters as one string."""
        own = ", ".join(f"{name}={value:g}" for name, value in self.parameters)
        return asdict(self) | {"parameters": own}

    def make(self) -> Strategy:
        """Return the strategy. Raises ValueError: a parameter is out of range."""
        # A client's rate is known to the strategy whose step depends on it.
        more = {"lr": self.lr} if self.strategy == "qfedavg" else {}
        strategy = STRATEGIES[self.strategy].make(**dict(self.parameters), **more)
        if self.server_rate is None:
            return strategy
        return replace(strategy, step=replace(strategy.step, lr=self.server_rate))

    def plan(self) -> Plan:
        """Return the plan. Raises ValueError: a number is out of range."""
        local = replace(LOCAL[self.optimizer], lr=self.lr, epochs=self.epochs)
        return Plan(self.rounds, self.cohort, local, self.seed)

    def hostile(self) -> tuple[int, ...]:
        """Return the clients that attack. Raises ValueError: the share is not in [0, 1]."""
        return attacks.choose(self.clients, self.attackers, numpy_rng(self.seed, "attackers"))

    def deal(self, task: Task) -> Parts:
        """Return each client's indices. Raises ValueError: they cannot be dealt like that."""
        rng = numpy_rng(self.seed, "partition")
        return task.deal(self.partition, self.clients, rng, self.alpha)


def _require_names(setup: Setup) -> None:
    known = {"strategy": STRATEGIES, "optimizer": LOCAL, "partition": DEALS}
    if setup.attackers:
        known["attack"] = STRENGTHS
    for name, names in known.items():
        if (value := getattr(setup, name)) not in names:
            raise ValueError(f"{name}: got {value!r}, expected one of {sorted(names)}")


def problem(setup: Setup, task: Task) -> str | None:
    """Return why these settings cannot be run, in words for a learner; None if they can."""
    trials = {
        "bad_partition": lambda: setup.deal(task),
        "bad_plan": lambda: sample_cohort(setup.plan(), 1, setup.clients),
        "bad_strategy": setup.make,
        "bad_cohort": lambda: require_cohort(setup.make().combine, setup.cohort),
        "bad_attackers": setup.hostile,
    }
    for key, trial in trials.items():
        try:
            trial()
        except ValueError as error:
            return text(key, why=error)
    if setup.attackers and not setup.hostile():
        return text("no_attackers", share=setup.attackers, clients=setup.clients)
    return None


def advice(setup: Setup) -> str | None:
    """Return what to know of a combination that runs, but not as its theory has it."""
    if STRATEGIES[setup.strategy].for_sgd and setup.optimizer != "sgd":
        return text("made_for_sgd", strategy=text(setup.strategy))
    return None
