"""Smaller models: what each way of shrinking brings, alone and together, in bytes and accuracy."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import onnx
import onnxruntime
import torch
from torch import Tensor

from fedlab_helpers.compression import Compressed, Float16, TopK
from fedlab_helpers.devices import child_seed, intra_op_threads, torch_rng
from fedlab_helpers.models import SentimentLSTM
from fedlab_helpers.shrinking import (
    apply_masks,
    cooled,
    drop_words,
    factor_recurrent,
    hash_reviews,
    keep_pruned,
    keep_units,
    narrow_embedding,
    smallest_masks,
    taught,
    trim_model,
    trim_reviews,
    unit_sizes,
)
from fedlab_helpers.shrinking.onnx_model import quantize_dynamically, to_onnx
from fedlab_helpers.state import of_model
from fedlab_helpers.studies.study import Row, Settings, Study, grid, task
from fedlab_helpers.text import EncodedReviews, Vocabulary
from fedlab_helpers.training import Hooks, LocalConfig, predict, train

EPOCHS, MORE = 12, 3  # of a model from scratch, and of one that was cut
LR, DROPPED, TEMPERATURE = 1e-2, 0.1, 2.0
WIDTH = 64

View = Callable[[EncodedReviews], EncodedReviews]


@dataclass(frozen=True, eq=False)
class Small:
    """A model, how it reads reviews, and in which form it is stored.

    Args:
        model: in PyTorch.
        view: what it reads in place of a task's reviews.
        words: how many of the vocabulary's words it knows.
        stored: "onnx", "onnx int8", "onnx dynamic int8", "torch", or "sparse".
    """

    model: SentimentLSTM
    view: View
    words: int
    stored: str = "onnx"


def fit(
    model: SentimentLSTM, data: EncodedReviews, epochs: int, seed: int, hooks: Hooks | None = None
) -> SentimentLSTM:
    """Train in place and return the model: Adam with a rate that falls in even steps to a tenth,
    a tenth of all words unknown, at random anew each epoch."""
    for epoch in range(epochs):
        lr = LR * (1 - 0.9 * epoch / max(1, epochs - 1))
        rng = torch_rng(seed, "words", epoch)
        seen = drop_words(data, DROPPED, rng)
        train(model, seen, LocalConfig(lr=lr), seed=child_seed(seed, "epoch", epoch), hooks=hooks)
    return model


@cache
def teacher(seed: int) -> SentimentLSTM:
    """Return the model that all are compared with."""
    made = SentimentLSTM(len(task().vocab), WIDTH, WIDTH, pooling="mean", dropout=0.3, seed=seed)
    return fit(made, task().train, EPOCHS, seed)


@cache
def _lesson(seed: int) -> EncodedReviews:
    """Return the training reviews with the teacher's answers."""
    train_part = task().train
    return taught(train_part, predict(teacher(seed), train_part), TEMPERATURE)


def student(
    words: int, width: int, hidden: int, *, cell: str = "lstm", distil: bool = False,
    hashed: bool = False, stored: str = "onnx",
) -> Callable[[int], Small]:  # fmt: skip
    """Return a recipe: seed -> a model of these sizes, trained from scratch."""

    def make(seed: int) -> Small:
        view = partial(trim_reviews, size=words)
        if hashed:
            view = partial(hash_reviews, vocab=task().vocab, size=words)
        made = SentimentLSTM(
            words, width, hidden, cell=cell, pooling="mean", dropout=0.1, seed=seed
        )
        data = _lesson(seed) if distil else task().train
        fit(made, view(data), EPOCHS, seed, cooled(TEMPERATURE) if distil else None)
        return Small(made, view, words, stored)

    return make


def whole(stored: str) -> Callable[[int], Small]:
    """Return a recipe: the teacher itself, stored in some form."""
    return lambda seed: Small(teacher(seed), lambda data: data, len(task().vocab), stored)


def cut(
    change: Callable[[SentimentLSTM], SentimentLSTM], words: int | None = None, more: bool = True
) -> Callable[[int], Small]:
    """Return a recipe: the teacher changed, and trained on for a while.

    Args:
        change: the teacher -> a smaller model.
        words: that stay; None: all.
        more: whether it is trained on.
    """

    def make(seed: int) -> Small:
        size = words or len(task().vocab)
        view = partial(trim_reviews, size=size)
        made = change(trim_model(teacher(seed), size))
        if more:
            fit(made, view(task().train), MORE, seed)
        return Small(made, view, size)

    return make


def _largest_units(count: int) -> Callable[[SentimentLSTM], SentimentLSTM]:
    return lambda model: keep_units(model, unit_sizes(model).topk(count).indices.sort().values)


def pruned(share: float) -> Callable[[int], Small]:
    """Return a recipe: the teacher without its smallest weights, trained on."""

    def make(seed: int) -> Small:
        made = trim_model(teacher(seed), len(task().vocab))  # a copy
        masks = smallest_masks(made, share)
        apply_masks(made, masks)
        fit(made, task().train, MORE, seed, keep_pruned(masks))
        return Small(made, lambda data: data, len(task().vocab), "sparse")

    return make


RECIPES: dict[str, Callable[[int], Small]] = {
    "whole, PyTorch": whole("torch"),
    "whole, ONNX": whole("onnx"),
    "whole, int8": whole("onnx int8"),
    "whole, dynamic int8": whole("onnx dynamic int8"),
    **{
        f"{words} words, {'cut' if not more else 'trained on'}": cut(
            lambda model: model, words, more
        )
        for words in (8000, 4000, 2000, 1000)
        for more in (False, True)
    },
    **{f"hashed to {rows} rows": student(rows, WIDTH, WIDTH, hashed=True) for rows in (4000, 2000)},
    **{f"table of rank {r}": cut(partial(narrow_embedding, rank=r)) for r in (32, 16, 8)},
    **{f"{units} units": cut(_largest_units(units)) for units in (32, 16)},
    "recurrent matrix of rank 8": cut(lambda model: factor_recurrent(model, 8)[0]),
    **{f"{share:.0%} pruned": pruned(share) for share in (0.5, 0.8, 0.9)},
    "4000 words, 32 wide, 32 units": student(4000, 32, 32),
    "4000 words, 32 wide, 32 units, distilled": student(4000, 32, 32, distil=True),
    "4000 words, 16 wide, 32 units": student(4000, 16, 32),
    "4000 words, 16 wide, 32 units, distilled": student(4000, 16, 32, distil=True),
    "4000 words, 16 wide, 32 GRU units, distilled": student(4000, 16, 32, cell="gru", distil=True),
    "4000 words, 16 wide, 32 units, int8": student(4000, 16, 32, stored="onnx int8"),
    "4000 words, 16 wide, 32 units, distilled, int8": student(
        4000, 16, 32, distil=True, stored="onnx int8"
    ),
    "4000 words, 8 wide, 16 units, int8": student(4000, 8, 16, stored="onnx int8"),
    "2000 words, 16 wide, 32 units, int8": student(2000, 16, 32, stored="onnx int8"),
}


def stored(small: Small) -> tuple[bytes, Tensor | None]:
    """Return the bytes of the file, and the logits of the test reviews if a runtime gives them."""
    if small.stored == "torch":
        with tempfile.TemporaryFile() as file:
            torch.save(of_model(small.model), file)
            file.seek(0)
            return file.read(), None
    if small.stored == "sparse":
        codec = Compressed(TopK(1.0), Float16(), squeeze=19)
        return codec.encode(of_model(small.model)), None
    vocab = Vocabulary(task().vocab.words[2 : small.words])
    made = to_onnx(small.model, vocab, bits=8 if small.stored == "onnx int8" else 32)
    content = made.SerializeToString()
    if small.stored == "onnx dynamic int8":
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / f"{name}.onnx" for name in ("whole", "small")]
            onnx.save(made, paths[0])
            quantize_dynamically(*paths)
            content = paths[1].read_bytes()
    return content, run_onnx(content, small.view(task().test))


def run_onnx(content: bytes, data: EncodedReviews) -> Tensor:
    """Return the logits that ONNX Runtime gives, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    parts = data.tokens.split(256)
    return torch.cat(
        [torch.from_numpy(session.run(None, {"tokens": part.numpy()})[0]) for part in parts]
    )


def measure(settings: Settings) -> list[Row]:
    """Return bytes, accuracies, and how often a model agrees with the teacher of its seed.

    "gained" and "lost" count the test reviews that are right here and wrong with the teacher, and
    the other way round. "off" is how far the runtime's logits are from PyTorch's, at most.
    """
    seed, data = settings["seed"], task()
    with intra_op_threads(1):  # the same sums on a machine with more cores
        small = RECIPES[settings["recipe"]](seed)
        content, logits = stored(small)
        own = predict(small.model, small.view(data.test))
        said = (own if logits is None else logits).argmax(1)
        reference = predict(teacher(seed), data.test).argmax(1)
        checked = predict(small.model, small.view(data.validation)).argmax(1)
    labels = data.test.labels
    return [
        {
            "bytes": len(content),
            "parameters": sum(p.numel() for p in small.model.parameters()),
            "validation_accuracy": _share(checked == data.validation.labels),
            "accuracy": _share(said == labels),
            "gained": int(((said == labels) & (reference != labels)).sum()),
            "lost": int(((said != labels) & (reference == labels)).sum()),
            "agreement": _share(said == reference),
            "off": "" if logits is None else float((logits - own).abs().max()),
        }
    ]


def _share(right: Tensor) -> float:
    return round(float(right.double().mean()), 5)


SHRINKING = Study("shrinking", grid(seed=range(3), recipe=RECIPES), measure)
