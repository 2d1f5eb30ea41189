"""Few of the real reviews in the place of all, so that a run of a study takes a moment."""

import sys

import pytest

from fedlab_helpers.studies.study import task
from fedlab_helpers.tasks.reviews.task import Task


@pytest.fixture(scope="session")
def few_reviews():
    """One in eight of the real training reviews, one in ten of the others; the same words."""
    texts, tensors = [], []
    for part, step in (("train", 8), ("validation", 10), ("test", 10)):
        own = getattr(task(), f"{part}_reviews")[::step]
        texts.append(own)
        tensors.append(getattr(task(), part).subset(range(0, step * len(own), step)))
    return Task(*texts, task().vocab, *tensors)


@pytest.fixture
def few(monkeypatch, few_reviews):
    """Let all studies that were imported work on few reviews, and forget what they know of all."""
    names = [name for name in sys.modules if name.startswith("fedlab_helpers.studies.")]
    modules = [sys.modules[name] for name in names]
    cached = [f for module in modules for f in vars(module).values() if hasattr(f, "cache_clear")]
    cached = [function for function in cached if function is not task]
    for module in modules:
        if hasattr(module, "task"):
            monkeypatch.setattr(module, "task", lambda: few_reviews)
    for function in cached:
        function.cache_clear()
    yield few_reviews
    for function in cached:
        function.cache_clear()
