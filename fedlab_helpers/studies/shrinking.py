"""Smaller models: what each way of shrinking brings, alone and together, in bytes and accuracy."""

import tempfile
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import onnx
import pandas as pd
import torch
from torch import Tensor

from fedlab_helpers.compression import Compressed, Float16, TopK
from fedlab_helpers.core.state import of_model
from fedlab_helpers.core.training import predict
from fedlab_helpers.shrinking import factor_recurrent, keep_units, narrow_embedding, trim_model
from fedlab_helpers.shrinking.onnx_model import quantize_dynamically, run_onnx, to_onnx
from fedlab_helpers.studies.small_models import (
    DISTILLED,
    FITS,
    SMALL,
    TRAINED_ON,
    WHOLE,
    WIDTH,
    Candidate,
    Fit,
    Recipe,
    View,
    cut,
    largest_units,
    stored_as,
    student,
    teacher,
    trained_on,
    whole,
)
from fedlab_helpers.studies.study import Row, Settings, Study, against, best, grid, task
from fedlab_helpers.tasks.reviews.words import Vocabulary

_FEWER_WORDS = {words: cut(lambda model: model, words) for words in (8000, 4000, 2000, 1000)}
_CUT = {
    **{f"table of rank {r}": cut(lambda m, r=r: narrow_embedding(m, r)) for r in (32, 16, 8)},
    **{f"{units} units": cut(largest_units(units)) for units in (32, 16)},
    **{
        f"{units} units, without a look": cut(
            lambda m, n=units: keep_units(m, range(0, WIDTH, WIDTH // n))
        )
        for units in (32, 16)
    },
    "recurrent matrix of rank 8": cut(lambda model: factor_recurrent(model, 8)[0]),
}
_CUT_AT_ONCE = {  # words: all that is cut at once
    words: cut(lambda model: largest_units(16)(narrow_embedding(model, 8)), words)
    for words in (None, 4000, 2000)
}
_SHAPES = {
    "4000 words, 32 wide, 32 units": (4000, 32, 32),
    "4000 words, 16 wide, 32 units": (4000, 16, 32),
    "4000 words, 8 wide, 16 units": (4000, 8, 16),
    "2000 words, 16 wide, 32 units": (2000, 16, 32),
    "2000 words, 8 wide, 16 units": (2000, 8, 16),
}
_TUNED = "4000 words, 16 wide, 32 units"
_TINY = "4000 words, 8 wide, 16 units"
_TINIEST = student(_SHAPES[_TINY])

RECIPES: dict[str, Recipe] = {
    "whole, PyTorch": whole("torch"),
    "whole": whole("onnx"),
    "whole, 8 bits": whole("onnx 8"),
    "whole, dynamic int8": whole("onnx dynamic"),
    "whole, 4 bits": whole("onnx 4"),
    "whole, 2 bits": whole("onnx 2"),
    "whole, trained on": trained_on(whole("onnx")),
    **{f"whole, {bits} bits, aware": trained_on(whole("onnx"), bits=bits) for bits in (8, 4, 2)},
    **{f"{words} words, cut": recipe for words, recipe in _FEWER_WORDS.items()},
    **{f"{words} words, trained on": trained_on(recipe) for words, recipe in _FEWER_WORDS.items()},
    "4000 words, from scratch": student((4000, 64, 64), WHOLE),
    "hashed to 4000 rows": student((4000, 64, 64), WHOLE, hashed=True),
    "hashed to 2000 rows": student((2000, 64, 64), WHOLE, hashed=True),
    **{f"{name}, cut": recipe for name, recipe in _CUT.items()},
    **{f"{name}, trained on": trained_on(recipe) for name, recipe in _CUT.items()},
    **{
        f"{share:.0%} pruned, trained on": trained_on(whole("sparse"), pruned=share)
        for share in (0.5, 0.8, 0.9, 0.95)
    },
    **{name: student(shape) for name, shape in _SHAPES.items()},
    **{f"{name}, distilled": student(shape, DISTILLED) for name, shape in _SHAPES.items()},
    "4000 words, 16 wide, 32 GRU units": student((4000, 16, 32), cell="gru"),
    "4000 words, 16 wide, 32 GRU units, distilled": student((4000, 16, 32), DISTILLED, cell="gru"),
    **{
        f"{name}{how}, 8 bits": stored_as("onnx 8", student(shape, kind))
        for (name, shape), (how, kind) in product(
            _SHAPES.items(), {"": SMALL, ", distilled": DISTILLED}.items()
        )
    },
    **{f"{_TINY}, {bits} bits": stored_as(f"onnx {bits}", _TINIEST) for bits in (4, 2)},
    **{f"{_TINY}, {bits} bits, aware": trained_on(_TINIEST, bits=bits) for bits in (4, 2)},
    f"{_TINY}, trained on": trained_on(_TINIEST),
    **{
        f"{name}, as long, {bits} bits": trained_on(
            student(_SHAPES[name]), bits=bits, by=FITS[SMALL]
        )
        for name, bits in product((_TINY, "2000 words, 8 wide, 16 units"), (8, 4))
    },
    **{
        f"{words or 'all'} words, rank 8, 16 units, {bits} bits": trained_on(
            recipe, bits=bits, by=FITS[SMALL]
        )
        for (words, recipe), bits in product(_CUT_AT_ONCE.items(), (8, 4, 2))
    },
}


BITS = {"onnx": 32, "onnx dynamic": 32, "onnx 8": 8, "onnx 4": 4, "onnx 2": 2}


def stored(made: Candidate) -> tuple[bytes, View]:
    """Return the bytes of the file, and what answers out of it: reviews -> logits."""
    if made.stored == "torch":
        with tempfile.TemporaryFile() as file:
            torch.save(of_model(made.model), file)
            file.seek(0)
            return file.read(), partial(predict, made.model)
    if made.stored == "sparse":
        codec = Compressed(TopK(1.0), Float16(), squeeze=19)
        content = codec.encode(of_model(made.model))
        packed = trim_model(made.model, made.words)  # a copy
        packed.load_state_dict(codec.decode(content))
        return content, partial(predict, packed)
    vocab = None if made.hashed else Vocabulary(task().vocab.words[2 : made.words])
    graph = to_onnx(made.model, vocab, bits=BITS[made.stored])
    content = graph.SerializeToString()
    if made.stored == "onnx dynamic":
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / f"{name}.onnx" for name in ("whole", "small")]
            onnx.save(graph, paths[0])
            quantize_dynamically(*paths)
            content = paths[1].read_bytes()
    return content, partial(run_onnx, content)


def measure(settings: Settings) -> list[Row]:
    """Return bytes, accuracies, and how often a model agrees with the teacher of its seed.

    All answers are those of the file. "gained" and "lost" count the test reviews that are right
    here and wrong with the teacher, and the other way round. "off" is how far the file's logits
    are from those of the model in PyTorch, at most.
    """
    seed, data = settings["seed"], task()
    made = RECIPES[settings["recipe"]](seed)
    content, answer = stored(made)
    test, validation = made.view(data.test), made.view(data.validation)
    logits = answer(test)
    own = predict(made.model, test)
    reference = predict(teacher(seed), data.test).argmax(1)
    checked = answer(validation).argmax(1) == validation.labels
    said, labels = logits.argmax(1), data.test.labels
    return [
        {
            "bytes": len(content),
            "parameters": sum(p.numel() for p in made.model.parameters()),
            "validation_accuracy": _share(checked),
            "accuracy": _share(said == labels),
            **against((said == labels).numpy(), (reference == labels).numpy()),
            "agreement": _share(said == reference),
            "off": float((logits - own).abs().max()),
        }
    ]


def _share(right: Tensor) -> float:
    return round(float(right.double().mean()), 5)


# Which training serves a kind of model, on validation reviews and other seeds.

TUNED: dict[str, Callable[[Fit], Recipe]] = {
    WHOLE: lambda by: whole("onnx", by),
    SMALL: lambda by: student(_SHAPES[_TUNED], by=by),
    DISTILLED: lambda by: student(_SHAPES[_TUNED], DISTILLED, by=by),
    TRAINED_ON: lambda by: trained_on(_FEWER_WORDS[4000], by=by),
}


def measure_fit(settings: Settings) -> list[Row]:
    """Return the accuracy on validation reviews of one kind of model, by how it was trained."""
    by = Fit(settings["epochs"], settings["lr"], settings["dropped"])
    made = TUNED[settings["kind"]](by)(settings["seed"])
    validation = made.view(task().validation)
    right = predict(made.model, validation).argmax(1) == validation.labels
    return [{"validation_accuracy": _share(right)}]


def best_fits(table: pd.DataFrame) -> dict[str, Fit]:
    """Return for each kind the training with the highest mean over seeds, from the table of
    `shrinking_rates`; of equals, the first."""
    tried = table.rename(columns={"validation_accuracy": "merit"})
    chosen = best(tried, ["kind"], ["epochs", "lr", "dropped"])
    return {kind: Fit(*setting) for (kind,), setting in chosen.items()}


SHRINKING = Study("shrinking", grid(seed=range(3), recipe=RECIPES), measure)
SHRINKING_AGAIN = Study(  # what is claimed most loudly, on seeds that nothing was chosen by
    "shrinking_again",
    grid(
        seed=range(3, 8),
        recipe=[
            "whole, PyTorch",
            "4000 words, trained on",
            "4000 words, 16 wide, 32 units, 8 bits",
            f"{_TINY}, as long, 8 bits",
            "4000 words, rank 8, 16 units, 8 bits",
            "4000 words, rank 8, 16 units, 4 bits",
            "all words, rank 8, 16 units, 4 bits",
        ],
    ),
    measure,
)
SHRINKING_RATES = Study(
    "shrinking_rates",
    (
        *grid(
            kind=[WHOLE, SMALL, DISTILLED], seed=(100, 101, 102),
            epochs=[6, 12], lr=[5e-3, 1e-2, 2e-2], dropped=[0.1, 0.3],
        ),
        *grid(
            kind=[TRAINED_ON], seed=(100, 101, 102),
            epochs=[2, 4], lr=[1e-3, 3e-3, 1e-2], dropped=[0.1, 0.3],
        ),
    ),
    measure_fit,
)  # fmt: skip
