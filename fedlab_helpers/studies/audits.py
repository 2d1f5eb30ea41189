"""What an audit by canaries says of mechanisms that claim an epsilon: the true one, such as hold
less than they claim, and such as an audit is blind to."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count

import torch

from fedlab_helpers.core.compute import child_seed
from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.state import State, add, of_model, subtract
from fedlab_helpers.privacy.budget import noise_multiplier_for
from fedlab_helpers.privacy.canaries import Canaries, audit
from fedlab_helpers.privacy.private_mean import PrivateMean
from fedlab_helpers.studies.study import Row, Settings, Study, grid, rounded, task
from fedlab_helpers.tasks.reviews.model import PublicWordsLSTM, SentimentLSTM

ROUNDS = 20
BARE = "recurrent.weight_hh_l0"  # the layer whose noise is forgotten
HEAD = "head.weight"  # with 16 hidden values it has 32 weights, fewer than there are canaries
MODELS = {
    "public words": lambda: PublicWordsLSTM(torch.zeros(2, 64), hidden_size=16, seed=0),
    "all words": lambda: SentimentLSTM(len(task().vocab), seed=0),
}
CANARIES = {"public words": 1_000, "all words": 250}

Released = Callable[[PrivateMean, State, Sequence[Update]], State]


def honest(mean: PrivateMean, like: State, updates: Sequence[Update]) -> State:
    """Return what the mean says that it releases."""
    return mean(like, updates)


def each_layer(mean: PrivateMean, like: State, updates: Sequence[Update]) -> State:
    """Return it with each layer clipped by itself, so that a whole update is longer."""
    found: State = {}
    for name, tensor in like.items():
        layers = [replace(update, delta={name: update.delta[name]}) for update in updates]
        found |= replace(mean, seed=child_seed(mean.seed, name))({name: tensor}, layers)
    return found


def bare(layer: str) -> Released:
    """Return the mechanism that forgets the noise of a layer."""

    def released(mean: PrivateMean, like: State, updates: Sequence[Update]) -> State:
        without = replace(mean, noise_multiplier=0.0)(like, updates)
        return mean(like, updates) | {layer: without[layer]}

    return released


def a_tenth(mean: PrivateMean, like: State, updates: Sequence[Update]) -> State:
    """Return it with a tenth of the noise."""
    return replace(mean, noise_multiplier=mean.noise_multiplier / 10)(like, updates)


def unclipped(mean: PrivateMean, like: State, updates: Sequence[Update]) -> State:
    """Return it with noise, and no update clipped."""
    whole = replace(mean, clip=math.inf, noise_multiplier=0.0)(like, updates)
    return add(whole, mean(like, []))


def seed_known(mean: PrivateMean, like: State, updates: Sequence[Update]) -> State:
    """Return what is left of it to whoever knows the seed, and draws the noise again."""
    return subtract(mean(like, updates), mean(like, []))


def released_by(act: Released, mean: PrivateMean, like: State) -> Callable[[list[State]], State]:
    """Return a mechanism to audit, which draws other noise in each round."""
    numbers = count(1)

    def mechanism(updates: list[State]) -> State:
        sent = [Update(client, update) for client, update in enumerate(updates)]
        return act(replace(mean, number=next(numbers)), like, sent)

    return mechanism


# name -> the mechanism, and how its canaries are other than usual
FOUND: dict[str, tuple[Released, dict[str, float]]] = {
    "as claimed": (honest, {}),
    "each layer clipped": (each_layer, {}),
    "a layer without noise": (bare(BARE), {}),
    "a tenth of the noise": (a_tenth, {}),
}
BLIND = {  # the usual audit sees little or nothing of these, one that looks there does
    "each layer clipped, 60 canaries": (each_layer, {"count": 60}),
    "not clipped, short canaries": (unclipped, {"norm": 1.0}),
    "not clipped": (unclipped, {}),
    "a small layer without noise": (bare(HEAD), {}),
    "a small layer without noise, 30 canaries": (bare(HEAD), {"count": 30}),
    "the seed is public": (honest, {}),
    "the seed is public, noise subtracted": (seed_known, {}),
}


def measure_audits(settings: Settings) -> Iterator[Row]:
    """Yield what the audit says of each mechanism; of the blind spots with the small model only."""
    kind, claim, seed = settings["model"], settings["claim"], settings["seed"]
    like = of_model(MODELS[kind]())
    usual = Canaries(like, CANARIES[kind], seed=seed)
    noise = noise_multiplier_for(claim, ROUNDS, usual.count, usual.count, "all")
    everybody = {"clients": usual.count, "cohort": usual.count, "sampling": "all"}
    mean = PrivateMean(1.0, noise, **everybody, repeatable=True, seed=seed)
    for name, (act, other) in (FOUND | BLIND if kind == "public words" else FOUND).items():
        canaries = replace(usual, **other)
        told = audit(released_by(act, mean, like), canaries, ROUNDS)
        made = {"canaries": canaries.count, "norm": canaries.norm, "layers": len(canaries.tensors)}
        yield {"mechanism": name, **made, **rounded(**vars(told))}


AUDITS = Study(
    "audits",
    grid(seed=range(3), model=["public words"], claim=[8.0, 2.0])
    + grid(seed=range(3), model=["all words"], claim=[8.0]),
    measure_audits,
)
