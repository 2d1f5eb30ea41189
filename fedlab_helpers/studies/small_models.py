"""How the models of `shrinking` are made: trained whole, cut and trained on, or trained small."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial

from fedlab_helpers.core.compute import child_seed, torch_rng
from fedlab_helpers.core.training import Hooks, LocalConfig, predict, train
from fedlab_helpers.shrinking import (
    Rounded,
    apply_masks,
    cooled,
    drop_words,
    hash_reviews,
    keep_pruned,
    keep_units,
    smallest_masks,
    taught,
    trim_model,
    trim_reviews,
    unit_sizes,
)
from fedlab_helpers.studies.study import task
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.model import SentimentLSTM

WIDTH, TEMPERATURE = 64, 2.0
Shape = tuple[int, int, int]  # words, numbers a word, hidden units
View = Callable[[EncodedReviews], EncodedReviews]


@dataclass(frozen=True)
class Fit:
    """A training: epochs, the rate that it begins with, and the share of words made unknown."""

    epochs: int
    lr: float
    dropped: float


WHOLE, TRAINED_ON, SMALL, DISTILLED = "whole", "trained on", "small", "small, distilled"
DROPOUT = {WHOLE: 0.3, SMALL: 0.1, DISTILLED: 0.1}  # of values; who is trained on keeps its own
# Chosen by `best_fits` from the table of `shrinking_rates`.
FITS = {
    WHOLE: Fit(12, 5e-3, 0.3),
    SMALL: Fit(12, 5e-3, 0.3),
    DISTILLED: Fit(12, 1e-2, 0.1),
    TRAINED_ON: Fit(2, 3e-3, 0.3),
}


@dataclass(frozen=True, eq=False)
class Candidate:
    """A model, how it reads reviews, and in which form it is stored.

    Args:
        model: in PyTorch.
        view: what it reads in place of a task's reviews.
        words: how many of the vocabulary's words it knows.
        stored: "torch", "sparse", "onnx", "onnx 8", "onnx 4" or "onnx 2" (bits), or
            "onnx dynamic".
        hashed: whether words share rows, so that its file needs none.
    """

    model: SentimentLSTM
    view: View
    words: int
    stored: str = "onnx"
    hashed: bool = False


Recipe = Callable[[int], Candidate]  # seed -> model


def fit(model, data: EncodedReviews, by: Fit, seed: int, hooks: Hooks | None = None) -> None:
    """Train in place: Adam with a rate that falls in even steps to a tenth, and some words
    unknown, at random anew each epoch."""
    for epoch in range(by.epochs):
        lr = by.lr * (1 - 0.9 * epoch / max(1, by.epochs - 1))
        seen = drop_words(data, by.dropped, torch_rng(seed, "words", epoch))
        train(model, seen, LocalConfig(lr=lr), seed=child_seed(seed, "epoch", epoch), hooks=hooks)


@cache
def teacher(seed: int, by: Fit | None = None) -> SentimentLSTM:
    """Return the model that all are compared with."""
    sizes = len(task().vocab), WIDTH, WIDTH
    made = SentimentLSTM(*sizes, pooling="mean", dropout=DROPOUT[WHOLE], seed=seed)
    fit(made, task().train, by or FITS[WHOLE], seed)
    return made


@cache
def _lesson(seed: int) -> EncodedReviews:
    """Return the training reviews with the teacher's answers."""
    return taught(task().train, predict(teacher(seed), task().train), TEMPERATURE)


def whole(stored: str, by: Fit | None = None) -> Recipe:
    """Return a recipe: the teacher itself, stored in some form."""
    return lambda seed: Candidate(teacher(seed, by), lambda data: data, len(task().vocab), stored)


def student(
    shape: Shape, kind: str = SMALL, *, cell: str = "lstm", hashed: bool = False,
    by: Fit | None = None,
) -> Recipe:  # fmt: skip
    """Return a recipe: a model of these sizes, trained from scratch.

    Args:
        shape: of the model.
        kind: in `FITS`; `DISTILLED`: the teacher's answers are its labels.
        cell: "lstm", "gru" or "rnn".
        hashed: whether words share rows by their hash; else rare words are unknown.
        by: how; None: as tuned for the kind.
    """

    @cache
    def make(seed: int) -> Candidate:
        words, *sizes = shape
        view = partial(trim_reviews, size=words)
        if hashed:
            view = partial(hash_reviews, vocab=task().vocab, size=words)
        made = SentimentLSTM(
            words, *sizes, cell=cell, pooling="mean", dropout=DROPOUT[kind], seed=seed
        )
        distil = kind == DISTILLED
        data = _lesson(seed) if distil else task().train
        hooks = cooled(TEMPERATURE) if distil else None
        fit(made, view(data), by or FITS[kind], seed, hooks)
        return Candidate(made, view, words, hashed=hashed)

    return make


def cut(change: Callable[[SentimentLSTM], SentimentLSTM], words: int | None = None) -> Recipe:
    """Return a recipe: the teacher changed.

    Args:
        change: the teacher -> a smaller model.
        words: that stay; None: all.
    """

    def make(seed: int) -> Candidate:
        size = words or len(task().vocab)
        model = change(trim_model(teacher(seed), size))
        return Candidate(model, partial(trim_reviews, size=size), size)

    return make


def trained_on(
    recipe: Recipe, *, bits: int = 32, pruned: float = 0.0, by: Fit | None = None
) -> Recipe:
    """Return a recipe: what another makes, trained on.

    Args:
        recipe: makes the model.
        bits: of matrices while it trains on and where it is stored; 32: as they are.
        pruned: share of each matrix's weights that is set to zero before, and stays so.
        by: how; None: as tuned.
    """

    def make(seed: int) -> Candidate:
        small = recipe(seed)
        model = trim_model(small.model, small.words)  # a copy
        masks = smallest_masks(model, pruned)
        apply_masks(model, masks)
        learner = model if bits == 32 else Rounded(model, bits)
        hooks = keep_pruned(masks) if pruned else None
        data, own_seed = small.view(task().train), child_seed(seed, "on")
        fit(learner, data, by or FITS[TRAINED_ON], own_seed, hooks)
        form = "sparse" if pruned else small.stored if bits == 32 else f"onnx {bits}"
        return replace(small, model=model, stored=form)

    return make


def stored_as(form: str, recipe: Recipe) -> Recipe:
    """Return a recipe: what another makes, stored in some form."""
    return lambda seed: replace(recipe(seed), stored=form)


def largest_units(count: int) -> Callable[[SentimentLSTM], SentimentLSTM]:
    """Return what keeps so many hidden units, those with the largest weights."""
    return lambda model: keep_units(model, unit_sizes(model).topk(count).indices.sort().values)
