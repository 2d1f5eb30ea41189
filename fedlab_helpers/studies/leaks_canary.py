"""Whether a model learns a planted secret by heart: one client's own, and the mean of ten.

The canary is a sentence of words that nobody would put together (Carlini et al. 2019,
arXiv:1802.08232, section 4). It stands among the examples of client 0. Who knows how it begins
ranks all ways in which it could go on by the model's loss.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.rounds import rounds
from fedlab_helpers.core.rows import make_whole
from fedlab_helpers.core.state import State, add, of_model
from fedlab_helpers.core.training import LocalConfig, predict
from fedlab_helpers.privacy.leaks import exposure
from fedlab_helpers.strategies import fedavg
from fedlab_helpers.studies import study
from fedlab_helpers.studies.study import Row, Settings, Study, grid, task
from fedlab_helpers.tasks.next_word import NextWordLSTM, next_words
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.model import SentimentLSTM

CLIENTS, REVIEWS, ROUNDS = 10, 200, 8
LOCAL = LocalConfig(epochs=1, batch_size=8)
WORDS = 2_000  # that the next-word model knows
PREFIX = 4  # words that the canary begins with
FREQUENT = range(2, 502)  # ids from which these are drawn
POOL = range(1_000, 1_020)  # ids of words of middling frequency, from which the secret is drawn


class Asked(NamedTuple):
    """One task: its examples and model, and the secret that is planted."""

    examples: Callable[[EncodedReviews], Examples]
    new_model: Callable[[int], nn.Module]  # of a seed
    secret: int  # words of it
    candidates: int  # that are ranked: of four words a sample, of three all


TASKS = {
    "sentiment": Asked(
        lambda reviews: reviews,
        lambda seed: SentimentLSTM(len(task().vocab), seed=seed),
        secret=4,
        candidates=4_096,
    ),
    "next word": Asked(
        lambda reviews: next_words(reviews, WORDS),
        lambda seed: NextWordLSTM(WORDS, seed=seed),
        secret=3,
        candidates=len(POOL) ** 3,
    ),
}


def canaries(secret: int, candidates: int, seed: int) -> EncodedReviews:
    """Return sentences with one beginning and one label, no two alike; the first is the canary.

    Args:
        secret: words that follow the beginning.
        candidates: sentences, at most as many as there are.
        seed: decides words, label, and which of the sentences is the canary.
    """
    rng = numpy_rng(seed, "canary")
    prefix = rng.choice(FREQUENT, PREFIX, replace=False)
    drawn = rng.choice(len(POOL) ** secret, candidates, replace=False)
    words = np.array(POOL)[np.stack(np.unravel_index(drawn, [len(POOL)] * secret), 1)]
    tokens = torch.from_numpy(np.hstack([np.tile(prefix, (candidates, 1)), words]))
    same = torch.ones(candidates, dtype=torch.int64)
    return EncodedReviews(tokens, same * (PREFIX + secret), same * int(rng.integers(2)))


def planted(reviews: EncodedReviews, canary: EncodedReviews, repeats: int) -> EncodedReviews:
    """Return reviews and after them a canary, of no more words, so often."""
    copies, width = canary.subset([0] * repeats), reviews.tokens.shape[1]
    padded = nn.functional.pad(copies.tokens, (0, width - copies.tokens.shape[1]))
    pairs = ((reviews.tokens, padded), (reviews.lengths, copies.lengths))
    tokens, lengths = (torch.cat(pair) for pair in pairs)
    return EncodedReviews(tokens, lengths, torch.cat([reviews.labels, copies.labels]))


def losses(model: nn.Module, candidates: Examples) -> np.ndarray:
    """Return the model's loss on each candidate, (N,), summed over all that is asked of it. What
    their common beginning costs is the same for all, and changes no rank."""
    found = []
    for part in torch.arange(len(candidates)).split(100):
        some = candidates.subset(part)
        rows = some.objective.judge(predict(model, some), some.targets)
        found.append(rows[:, 0].double().view(len(some), -1).sum(1))
    return torch.cat(found).numpy()


def given_away(model: nn.Module, candidates: Examples) -> tuple[float, bool]:
    """Return the exposure of the first candidate in bits, and whether it is the likeliest of all,
    so that a search for that finds it."""
    canary, *others = losses(model, candidates)
    return exposure(canary, np.array(others)), bool(canary < min(others))


@dataclass(eq=False)
class Watch:
    """A transform that changes nothing, and holds the last update of one client."""

    client: int
    update: Update | None = None

    def __call__(self, update: Update, kept: State, rng: torch.Generator) -> tuple[Update, State]:
        if update.client == self.client:
            self.update = update
        return update, kept


def ten_clients(seed: int) -> list[EncodedReviews]:
    """Return the reviews of the clients, equally many each, drawn at random."""
    drawn = numpy_rng(seed, "clients").choice(len(task().train), CLIENTS * REVIEWS, replace=False)
    return task().clients(np.split(drawn, CLIENTS))


def measure_canary(settings: Settings) -> list[Row]:
    """Return for each round what client 0's model and the mean give away of the canary; in the last
    also how well the mean does on the test reviews: its loss, and accuracy or recall@1."""
    seed, asked = settings["seed"], TASKS[settings["task"]]
    sentences, clients = canaries(asked.secret, asked.candidates, seed), ten_clients(seed)
    clients[0] = planted(clients[0], sentences, settings["repeats"])
    clients, candidates = [asked.examples(c) for c in clients], asked.examples(sentences)
    model, test, watch = asked.new_model(seed), asked.examples(task().test), Watch(0)
    own, before, rows = copy.deepcopy(model), of_model(model), []
    plan = Plan(ROUNDS, local=LOCAL, seed=seed, workers=1, evaluate_every=ROUNDS)
    for record in rounds(model, clients, fedavg(), plan, test=test, transforms=[watch]):
        own.load_state_dict(add(before, make_whole(watch.update, before).delta))
        before, row = of_model(model), {"round": record.round}
        for name, trained in (("local", own), ("averaged", model)):
            bits, found = given_away(trained, candidates)
            row |= {f"{name}_exposure": round(bits, 5), f"{name}_extracted": found}
        quality = study.rounded(**record.metrics)
        row |= {"loss": quality.get("loss"), "score": quality.get(test.objective.measure)}
        rows.append(row)
    return rows


LEAKS_CANARY = Study(
    "leaks_canary",
    grid(seed=range(3), task=TASKS, repeats=[0, 1, 5, 20]),
    measure_canary,
)
