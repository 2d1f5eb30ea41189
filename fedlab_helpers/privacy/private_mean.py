"""The mean of DP-FedAvg: what everybody sees of a round hardly depends on any one client.

McMahan, Ramage, Talwar and Zhang 2018, arXiv:1710.06963, Algorithm 1, with the estimator of fixed
denominator: each client's whole change is clipped, the changes are summed, Gaussian noise is added
to the sum, and it is divided by the number of clients that was expected.

plan = Plan(20, 300, sampling="poisson")
history = run(model, clients, Strategy(PrivateMean(1.0, 0.8)), plan)
history[-1].told["epsilon"]
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch

from fedlab_helpers.core.compute import torch_rng
from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.require import require
from fedlab_helpers.core.rounds import RoundLoop
from fedlab_helpers.core.rows import make_whole
from fedlab_helpers.core.state import State, norm
from fedlab_helpers.privacy.beside import require_nothing_beside
from fedlab_helpers.privacy.budget import Mechanism, Sampling
from fedlab_helpers.privacy.noise import Clip, require_clip_and_noise, require_none_frozen
from fedlab_helpers.privacy.randomness import normal


@dataclass(frozen=True)
class PrivateMean:
    """Sums clipped changes, adds noise, and divides by the expected cohort, whoever came.

    Every client counts the same. The server clips what arrives, for it need not believe that a
    client did, nor that a codec made no change longer. So epsilon says what the weights of all
    rounds tell to those who see nothing else: the server sees the updates themselves; losses,
    numbers of examples and cohorts in the records are no part of it; and to whoever knows the
    plan's seed, and by it the cohorts, a run is one of `sampling` "all" with fewer rounds.

    Noise is drawn secretly (`randomness`), so a run is not repeatable, as its records say. Cohorts
    are drawn from the plan's seed. With secure sums epsilon takes it for granted that with one
    client more or less there is a sum in either case.

    Args:
        clip: the largest Euclidean norm of a client's change, above 0; inf, without noise only:
            none is clipped.
        noise_multiplier: standard deviation of the noise on each value of the sum, in `clip`s, at
            least 0; with 0, epsilon is inf.
        clients: clients in all; None: as many as the run has.
        cohort: the fixed denominator, the expected number of clients in a round; None: that of the
            plan.
        sampling: as in `Mechanism`; None: that of the plan, or "all" where its cohort is everybody.
        delta: above 0 and below 1.
        repeatable: draw from the plan's seed after all; protects nobody, but can be shown twice.
        seed: of repeatable noise; a run sets it to its plan's.
        number: rounds seen, this one included; a run sets it.
        slack: how much longer than `clip` a change can become by the rounding of a secure sum, for
            which noise is added as well; a run sets it.

    Raises:
        ValueError: a value is out of range; in a run, also where it is not as the plan has it,
            clients send whole weights or something beside the change, the strategy aggregates in
            its own way, or the model has buffers, or weights that are frozen, which noise would
            move, or no floating-point numbers.
    """

    clip: float
    noise_multiplier: float
    clients: int | None = None
    cohort: int | None = None
    sampling: Sampling | None = None
    delta: float = 1e-5
    repeatable: bool = False
    seed: int = 0
    number: int = 0
    slack: float = 0.0

    per_row = False
    linear, weights = True, "uniform"  # a secure sum is enough
    dense = True  # which rows a client touched names its words
    least_cohort = 0  # nobody's sum is noise alone, and whether that is so must not be seen

    def __post_init__(self):
        require_clip_and_noise(self.clip, self.noise_multiplier)
        some = {"clients": self.clients, "cohort": self.cohort, "sampling": self.sampling}
        given = {name: value for name, value in some.items() if value is not None}
        # The accountant looks at all numbers; those that a run is to give cannot be wrong yet.
        cohort = given.get("cohort", given.get("clients", 1))
        usual = {"clients": cohort, "cohort": cohort, "sampling": "poisson"}
        Mechanism(self.noise_multiplier or 1.0, self.number, **usual | given, delta=self.delta)

    @property
    def transform(self) -> Clip | None:
        """The client's side, for `rounds(transforms=[…])`, where the server is to be sent nothing
        longer, as for a secure sum; None with a `clip` of inf."""
        return Clip(self.clip) if self.clip < math.inf else None

    @property
    def secret(self) -> bool:
        """Whether nobody may be able to draw the same noise again."""
        return self.noise_multiplier > 0 and not self.repeatable

    def in_round(self, run: RoundLoop, number: int) -> "PrivateMean":
        """Return the mean for round `number` of a run. Raises ValueError where it does not fit."""
        accounted = getattr(run.strategy, "accounted", False)
        require_nothing_beside(run.strategy, run.server.params, run.buffers, accounted)
        if self.noise_multiplier:
            require_none_frozen(run.model, run.workers.shared)
        plan, clients = run.plan, run.workers.size
        cohort = clients if plan.clients_per_round is None else plan.clients_per_round
        samplings = ("all", plan.sampling) if cohort == clients else (plan.sampling,)
        asked = {"clients": (clients,), "cohort": (cohort,), "sampling": samplings}
        for name, accepted in asked.items():
            value = getattr(self, name)
            expected = f"{' or '.join(map(repr, accepted))}, as in the run, or None"
            require(value is None or value in accepted, name, value, expected)
        secure, values = getattr(run.workers, "secure", None), run.server.params.values()
        return replace(
            self,
            clients=clients,
            cohort=cohort,
            sampling=self.sampling or samplings[0],
            seed=plan.seed,
            number=number,
            slack=secure.slack(sum(t.numel() for t in values), clients) if secure else 0.0,
        )

    def __call__(self, base: State, updates: Iterable[Update]) -> State:
        """Return the noisy mean, as large as `base`; `updates` are gone through once. Raises
        ValueError outside of a run where it does not know the expected cohort."""
        require(self.cohort is not None, "cohort", None, "the number to divide by: this is no run")
        longest = self.clip + self.slack
        total = {n: torch.zeros_like(t, dtype=torch.float64) for n, t in base.items()}
        for update in updates:
            change = make_whole(update, base).delta
            scale = min(1.0, longest / max(norm(change), 1e-300))
            for name, tensor in change.items():
                total[name].add_(tensor, alpha=scale * max(1, len(update.sum_of)))
        std = self.noise_multiplier * longest if self.noise_multiplier else 0.0
        rng = None if self.secret else torch_rng(self.seed, "noise", self.number)
        for tensor in total.values():
            tensor.add_(normal(tensor.shape, rng).to(tensor.device), alpha=std)
        return {name: (total[name] / self.cohort).to(base[name].dtype) for name in base}

    def told(self) -> dict[str, float]:
        """Return epsilon after the rounds so far, at `delta`, for the neighbours of `Mechanism`."""
        if self.noise_multiplier == 0:
            return {"epsilon": math.inf}
        run = (self.noise_multiplier, self.number, self.clients, self.cohort, self.sampling)
        return {"epsilon": Mechanism(*run, self.delta).epsilon()}
