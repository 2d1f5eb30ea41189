"""A tiny task that a tiny model learns in seconds."""

from dataclasses import dataclass, field

import torch

from fedlab_helpers.compression import Compressed
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.model import SentimentLSTM

VOCABULARY = 50


def make_reviews(n: int, seed: int = 0, longest: int = 8) -> EncodedReviews:
    """Return reviews of 2 to `longest` words, half of which tell the label (as in 2 + 20·label)."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (n,), generator=rng)
    lengths = torch.randint(2, longest + 1, (n,), generator=rng)
    telling = torch.randint(20, (n, longest), generator=rng) + 2 + 20 * labels[:, None]
    anything = torch.randint(2, VOCABULARY, (n, longest), generator=rng)
    tokens = torch.where(torch.rand(n, longest, generator=rng) < 0.5, telling, anything)
    inside = torch.arange(longest) < lengths[:, None]
    return EncodedReviews(tokens * inside, lengths, labels)


def make_model(**options) -> SentimentLSTM:
    """Return a small model, the same at each call."""
    return SentimentLSTM(VOCABULARY, 6, 5, **{"seed": 0, **options})


@dataclass(frozen=True)
class Listening(Compressed):
    """Sends everything, and writes down which generator each payload was drawn from."""

    seeds: list[int] = field(default_factory=list)

    def encode(self, state, rng=None):
        self.seeds.append(rng.initial_seed())
        return super().encode(state, rng)
