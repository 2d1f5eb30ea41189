"""What the rings of secure sums cost in accuracy, over a whole training.

Masks change no bit of a sum, as a test shows, so that these runs leave them out: changes become
elements of a ring, their sum is taken, and it is read as a mean weighted by examples.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from fedlab_helpers.core import compute
from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.rounds import RoundLoop, run
from fedlab_helpers.core.state import State
from fedlab_helpers.core.strategy import Mean, Strategy
from fedlab_helpers.privacy.secure import SecureSum
from fedlab_helpers.recipe import Recipe
from fedlab_helpers.studies.study import Row, Settings, Study, begin, rounded, task

CLIENTS, MOST = 100, 130  # clients, and examples of any one of them at most
CLIP = 1.0


@dataclass(frozen=True)
class RingMean(Mean):
    """The mean that a secure sum gives, without its masks.

    Args:
        secure: the ring.
        seed, number: of the run and the round, which decide how values are rounded; a run sets
            them.
    """

    secure: SecureSum = field(default_factory=lambda: SecureSum(most_examples=MOST))
    seed: int = 0
    number: int = 0

    dense = True

    def in_round(self, loop: RoundLoop, number: int) -> "RingMean":
        """Return the mean of a round."""
        return replace(self, seed=loop.plan.seed, number=number)

    def __call__(self, base: State, updates: Iterable[Update]) -> State:
        """Return the mean; all updates of a round are held, to know how many they are."""
        everyone, strategy = list(updates), Strategy(self)
        total = None
        for update in everyone:
            rng = compute.numpy_rng(self.seed, "ring", self.number, update.client)
            vector = self.secure.encode(update, base, strategy, len(everyone), rng)
            total = vector if total is None else total + vector
        who = [update.client for update in everyone]
        return self.secure.decode(total, base, strategy, len(who), who).delta


def measure_secure_accuracy(settings: Settings) -> list[Row]:
    """Return the accuracy on the test reviews after the last round."""
    names = {name: settings[name] for name in ("cohort", "rounds", "seed")}
    recipe = Recipe("fedavg", partition="iid", clients=CLIENTS, embedding=32, hidden=32, **names)
    model, clients, strategy, plan = begin(recipe)
    if bits := settings["bits"]:
        strategy = Strategy(RingMean(secure=SecureSum(bits, CLIP, MOST)))
    plan = replace(plan, evaluate_every=plan.rounds)
    history = run(model, clients, strategy, plan, test=task().test)
    levels = SecureSum(bits, CLIP, MOST).ring(strategy, recipe.cohort).largest if bits else None
    return [{"levels": levels, **rounded(**history[-1].metrics)}]


SECURE_ACCURACY = Study(
    "secure_accuracy",
    tuple(
        {"cohort": cohort, "rounds": rounds, "bits": bits, "seed": seed}
        for seed in range(3)
        for cohort, rounds in ((16, 20), (100, 10))
        for bits in (None, 16, 8)
    ),
    measure_secure_accuracy,
)
