"""Bytes against accuracy: the same training, its updates sent in fewer and fewer bytes."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from fedlab_helpers import compression as comp
from fedlab_helpers.compression.downlink import Changes
from fedlab_helpers.compression.registry import make_codec
from fedlab_helpers.core.messages import Codec
from fedlab_helpers.core.rounds import rounds
from fedlab_helpers.core.training import evaluate
from fedlab_helpers.recipe import Recipe
from fedlab_helpers.studies import study
from fedlab_helpers.studies.study import Row, Settings, Study, grid, task
from fedlab_helpers.tasks.reviews.model import SentimentLSTM

# The lossless run, as it was tuned: `aggregation.CHOSEN["rowwise"]`.
RUN = Recipe("rowwise", lr=2e-2, rounds=20)
LOSSLESS = "touched rows"
_OF_THE_RUN = {"partition", "seed", "optimizer", "lr", "rounds"}
LAST = 5  # the rounds at the end that are looked at
SQUEEZE = 19  # the level of Zstandard

CODECS: dict[str, Codec] = {
    LOSSLESS: make_codec("touched_rows"),
    "touched rows, zstd": make_codec("everything", squeeze=SQUEEZE),
    "float16": make_codec("everything", write="float16"),
    "bfloat16": make_codec("everything", write="bfloat16"),
    "8 bits": make_codec("everything", write="bits8"),
    "4 bits, zstd": make_codec("everything", write="bits4", squeeze=SQUEEZE),
    "2 bits, zstd": make_codec("everything", write="bits2", squeeze=SQUEEZE),
    "ternary, zstd": make_codec("everything", write="ternary", squeeze=SQUEEZE),
    "sign": make_codec("everything", write="signs"),
    "sign, EF": make_codec("everything", write="signs", feedback=True),
    "random 10%": make_codec("randomk", 0.1, "float16"),
    "random 10%, EF": make_codec("randomk", 0.1, "float16", feedback=True),
    **{f"top {100 * s:g}%": make_codec("topk", s) for s in (0.1, 0.01, 0.001)},
    **{f"top {100 * s:g}%, EF": make_codec("topk", s, feedback=True) for s in (0.1, 0.01, 0.001)},
    "top 1%, DGC": comp.dgc(make_codec("topk", 0.01, squeeze=SQUEEZE)),
    "top 0.1%, DGC": comp.dgc(make_codec("topk", 0.001, squeeze=SQUEEZE)),
    **{
        f"top {100 * s:g}% sign, EF": make_codec("topk", s, "signs", SQUEEZE, feedback=True)
        for s in (0.1, 0.02, 0.01)
    },
    **{
        f"top {100 * s:g}% sign, EF, momentum": make_codec("topk", s, "signs", SQUEEZE, True, 0.9)
        for s in (0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002)
    },
    "rank 1": make_codec("lowrank", 1, "float16", SQUEEZE),
    **{f"rank {r}, EF": make_codec("lowrank", r, "float16", SQUEEZE, True) for r in (1, 2)},
    **{f"rank {r} in 4 bits, EF": make_codec("lowrank", r, "bits4", SQUEEZE, True) for r in (1, 2)},
    **{
        f"rank {r} in signs, EF": make_codec("lowrank", r, "signs", SQUEEZE, feedback=True)
        for r in (1, 2, 4)
    },
    "sketch 20%": make_codec("sketch", 0.2, "float16", SQUEEZE),
}
_RANK_2 = make_codec("lowrank", 2, "float16", SQUEEZE)
_TOP_10 = make_codec("topk", 0.1, "signs", SQUEEZE)
DOWN: dict[str, Changes | None] = {
    "whole": None,
    "changes in float16": Changes(make_codec("everything", write="float16", squeeze=SQUEEZE)),
    "changes of rank 2": Changes(_RANK_2),
    "changes of rank 2, known start": Changes(_RANK_2, known_start=True),
    "top 10% sign of changes, known start": Changes(_TOP_10, known_start=True),
}
BOTH_WAYS = ("top 10% sign, EF", "top 10% sign, EF, momentum", "rank 1 in signs, EF")


def measure(settings: Settings) -> list[Row]:
    """Return how well the global model does after some rounds, and the bytes up to there.

    "gained" and "lost" count the test reviews that are right here and wrong after the same round
    of the lossless run of this seed and partition, and the other way round.
    """
    run = {name: settings[name] for name in _OF_THE_RUN & settings.keys()}
    lossless = (settings["codec"], settings["downlink"]) == (LOSSLESS, "whole")
    reference, rows = {} if lossless else _lossless(**run), []
    for number, model, up, down in _trained(settings):
        right = study.right_answers(model)
        validation = evaluate(model, task().validation).accuracy
        rows.append(
            {"round": number}
            | study.rounded(validation_accuracy=validation, accuracy=right.mean())
            | study.against(right, reference.get(number, right))
            | {"dense_bytes_up": number * RUN.cohort * comp.dense_size(model)}
            | {"bytes_up": up, "bytes_down": down}
        )
    return rows


def _trained(settings: Settings) -> Iterator[tuple[int, SentimentLSTM, int, int]]:
    """Yield round, model, and bytes up and down so far, every five rounds and in the last ones."""
    recipe = replace(RUN, **{name: settings[name] for name in _OF_THE_RUN & settings.keys()})
    (model, *others), up, down = study.begin(recipe), 0, 0
    options = {"codec": CODECS[settings["codec"]], "downlink": DOWN[settings["downlink"]]}
    for record in rounds(model, *others, **options):
        up, down = up + record.bytes_up, down + record.bytes_down
        if record.round % 5 == 0 or record.round > recipe.rounds - LAST:
            yield record.round, model, up, down


@cache
def _lossless(**run: Any) -> dict[int, np.ndarray]:
    """Return, by round, which test reviews the lossless run answers rightly."""
    run |= {"codec": LOSSLESS, "downlink": "whole"}
    return {number: study.right_answers(model) for number, model, *_ in _trained(run)}


# Where the frontier bends, once more for clients that differ in their words.
_BY_DOMAIN = (
    LOSSLESS, "4 bits, zstd", "ternary, zstd", "top 1%", "top 1%, EF", "top 10% sign, EF",
    *(f"top {percent}% sign, EF, momentum" for percent in (10, 5, 2, 1)),
    "rank 2, EF", "rank 1, EF", "rank 2 in 4 bits, EF", "rank 1 in 4 bits, EF",
    "rank 1 in signs, EF",
)  # fmt: skip
COMPRESSION = Study(
    "compression",
    (
        *grid(partition=["iid"], seed=range(3), downlink=["whole"], codec=CODECS),
        *grid(partition=["iid"], seed=range(3), downlink=[*DOWN][1:], codec=BOTH_WAYS),
        *grid(partition=["by_domain"], seed=range(3), downlink=["whole"], codec=_BY_DOMAIN),
    ),
    measure,
)

# What the text recommends, on seeds that nothing was chosen by: the way up, and both ways.
FAVOURITES = (
    *(("whole", codec) for codec in ("ternary, zstd", "top 10% sign, EF")),
    *(("whole", f"rank {rank} in 4 bits, EF") for rank in (2, 1)),
    ("top 10% sign of changes, known start", "top 10% sign, EF, momentum"),
)
COMPRESSION_AGAIN = Study(
    "compression_again",
    tuple(
        {"seed": seed, "partition": partition, "downlink": downlink, "codec": codec}
        for seed in range(3, 8)
        for partition in ("iid", "by_domain")
        for downlink, codec in FAVOURITES
    ),
    measure,
)


def measure_rate(settings: Settings) -> list[Row]:
    """Return the validation accuracies of the last rounds; the test reviews are not looked at."""
    return [
        {"round": number, "validation_accuracy": evaluate(model, task().validation).accuracy}
        for number, model, *_ in _trained(settings)
    ]


# A codec that sends few values, with clients whose steps are as long as their gradients: SGD.
_SGD = {"partition": ["iid"], "downlink": ["whole"], "optimizer": ["sgd"]}
COMPRESSION_SGD_RATES = Study(
    "compression_sgd_rates",
    grid(**_SGD, seed=[100], rounds=[12], codec=[LOSSLESS], lr=[0.1, 0.3, 1.0, 3.0, 10.0, 30.0]),
    measure_rate,
)
SGD_RATE = 1.0
COMPRESSION_SGD = Study(
    "compression_sgd",
    grid(**_SGD, seed=range(3), lr=[SGD_RATE], codec=["top 1%, EF"]),
    measure,
)
