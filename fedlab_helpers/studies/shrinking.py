"""Smaller models: what each way of shrinking brings, alone and together, in bytes and accuracy."""

import tempfile
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor

from fedlab_helpers.compression import Compressed, Float16, TopK
from fedlab_helpers.devices import intra_op_threads
from fedlab_helpers.shrinking import factor_recurrent, keep_units, narrow_embedding
from fedlab_helpers.shrinking.onnx_model import quantize_dynamically, run_onnx, to_onnx
from fedlab_helpers.state import of_model
from fedlab_helpers.studies.small_models import (
    DISTILLED,
    FITS,
    ON,
    SMALL,
    WHOLE,
    WIDTH,
    Fit,
    Recipe,
    Small,
    cut,
    largest_units,
    stored_as,
    student,
    teacher,
    trained_on,
    whole,
)
from fedlab_helpers.studies.study import Row, Settings, Study, grid, task
from fedlab_helpers.text import Vocabulary
from fedlab_helpers.training import predict

_FEW = {words: cut(lambda model: model, words) for words in (8000, 4000, 2000, 1000)}
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
_ALL = {  # words: all that is cut at once
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

RECIPES: dict[str, Recipe] = {
    "whole, PyTorch": whole("torch"),
    "whole": whole("onnx"),
    "whole, 8 bits": whole("onnx 8"),
    "whole, dynamic int8": whole("onnx dynamic"),
    "whole, 4 bits": whole("onnx 4"),
    "whole, 2 bits": whole("onnx 2"),
    "whole, trained on": trained_on(whole("onnx")),
    **{f"whole, {bits} bits, aware": trained_on(whole("onnx"), bits=bits) for bits in (8, 4, 2)},
    **{f"{words} words, cut": recipe for words, recipe in _FEW.items()},
    **{f"{words} words, trained on": trained_on(recipe) for words, recipe in _FEW.items()},
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
    **{
        f"{_TINY}, {bits} bits": stored_as(f"onnx {bits}", student(_SHAPES[_TINY]))
        for bits in (4, 2)
    },
    **{
        f"{_TINY}, {bits} bits, aware": trained_on(student(_SHAPES[_TINY]), bits=bits)
        for bits in (4, 2)
    },
    f"{_TINY}, trained on": trained_on(student(_SHAPES[_TINY])),
    **{
        f"{words or 'all'} words, rank 8, 16 units, {bits} bits": trained_on(
            recipe, bits=bits, by=FITS[SMALL]
        )
        for (words, recipe), bits in product(_ALL.items(), (8, 4, 2))
    },
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
    bits = {"onnx 8": 8, "onnx 4": 4, "onnx 2": 2}.get(small.stored, 32)
    made = to_onnx(small.model, Vocabulary(task().vocab.words[2 : small.words]), bits=bits)
    content = made.SerializeToString()
    if small.stored == "onnx dynamic":
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / f"{name}.onnx" for name in ("whole", "small")]
            onnx.save(made, paths[0])
            quantize_dynamically(*paths)
            content = paths[1].read_bytes()
    return content, run_onnx(content, small.view(task().test))


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
    labels = data.test.labels
    return [
        {
            "bytes": len(content),
            "parameters": sum(p.numel() for p in small.model.parameters()),
            "accuracy": _share(said == labels),
            "gained": int(((said == labels) & (reference != labels)).sum()),
            "lost": int(((said != labels) & (reference == labels)).sum()),
            "agreement": _share(said == reference),
            "off": "" if logits is None else float((logits - own).abs().max()),
        }
    ]


def _share(right: Tensor) -> float:
    return round(float(right.double().mean()), 5)


# Which training serves a kind of model, on validation reviews and other seeds.

TUNED: dict[str, Callable[[Fit], Recipe]] = {
    WHOLE: lambda by: lambda seed: Small(teacher(seed, by), lambda data: data, len(task().vocab)),
    SMALL: lambda by: student(_SHAPES[_TUNED], by=by),
    DISTILLED: lambda by: student(_SHAPES[_TUNED], DISTILLED, by=by),
    ON: lambda by: trained_on(_FEW[4000], by=by),
}


def measure_fit(settings: Settings) -> list[Row]:
    """Return the accuracy on validation reviews of one kind of model, by how it was trained."""
    by = Fit(settings["epochs"], settings["lr"], settings["dropped"])
    with intra_op_threads(1):
        small = TUNED[settings["kind"]](by)(settings["seed"])
        validation = small.view(task().validation)
        right = predict(small.model, validation).argmax(1) == validation.labels
    return [{"validation_accuracy": _share(right)}]


def best_fits(rows: Iterable[Row]) -> dict[str, Fit]:
    """Return for each kind the training with the highest mean over seeds, from the rows of
    `shrinking_rates` as read from a CSV."""
    tried: dict[tuple[str, Fit], list[float]] = {}
    for row in rows:
        by = Fit(int(row["epochs"]), float(row["lr"]), float(row["dropped"]))
        tried.setdefault((row["kind"], by), []).append(float(row["validation_accuracy"]))
    best: dict[str, tuple[float, Fit]] = {}
    for (kind, by), scores in tried.items():
        score = float(np.mean(scores))
        if kind not in best or score > best[kind][0]:
            best[kind] = score, by
    return {kind: by for kind, (_, by) in best.items()}


SHRINKING = Study("shrinking", grid(seed=range(3), recipe=RECIPES), measure)
SHRINKING_RATES = Study(
    "shrinking_rates",
    (
        *grid(
            kind=[WHOLE, SMALL, DISTILLED], seed=(100, 101, 102),
            epochs=[6, 12], lr=[5e-3, 1e-2, 2e-2], dropped=[0.1, 0.3],
        ),
        *grid(
            kind=[ON], seed=(100, 101, 102),
            epochs=[2, 4], lr=[1e-3, 3e-3, 1e-2], dropped=[0.1, 0.3],
        ),
    ),
    measure_fit,
)  # fmt: skip
