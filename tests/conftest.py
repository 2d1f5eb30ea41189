"""A tiny task that a tiny model learns in seconds, shared by the tests of the upper floors."""

import pytest
import torch
from hypothesis import HealthCheck, settings
from toys import VOCABULARY, make_model, make_reviews

from fedlab_helpers.tasks.reviews.corpus import Review
from fedlab_helpers.tasks.reviews.task import Task
from fedlab_helpers.tasks.reviews.words import Vocabulary

SIZES = (12, 7, 20, 9)

# A busy machine is slow: no test may fail for that.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
# Two threads inside one operation on tiny tensors only wait for each other.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def reviews():
    return make_reviews


@pytest.fixture(scope="session")
def small_model():
    return make_model


@pytest.fixture(scope="session")
def clients():
    return [make_reviews(size, seed) for seed, size in enumerate(SIZES)]


@pytest.fixture(scope="session")
def bits():
    """Return a function that turns states, nested as one likes, into values that compare by bit."""

    def of(value):
        if isinstance(value, torch.Tensor):
            plain = value.detach().cpu().contiguous()
            raw = plain.flatten().view(torch.uint8).tolist() if plain.numel() else []
            return str(plain.dtype), tuple(plain.shape), raw
        if isinstance(value, dict):
            return {key: of(inner) for key, inner in value.items()}
        return value

    return of


@pytest.fixture(scope="session")
def small_task():
    """A task of 240 small training reviews of two domains, which learns within a few rounds."""
    vocab = Vocabulary(f"word{i}" for i in range(VOCABULARY - 2))
    parts = [make_reviews(size, seed) for seed, size in enumerate((240, 60, 60))]
    texts = [
        tuple(Review(f"{i}", int(y), ("book", "hotel")[i % 2]) for i, y in enumerate(part.labels))
        for part in parts
    ]
    return Task(*texts, vocab, *parts)
