"""Bytes against accuracy: the same training, its updates sent in fewer and fewer bytes."""

from functools import cache

import numpy as np

from fedlab_helpers import strategies
from fedlab_helpers.compression import (
    Compressed,
    CountSketch,
    Float16,
    LowRank,
    Quantized,
    RandomK,
    Sign,
    Ternary,
    TopK,
    WithFeedback,
    dense_size,
    dgc,
)
from fedlab_helpers.compression.downlink import Changes
from fedlab_helpers.core import wire
from fedlab_helpers.core.messages import Codec
from fedlab_helpers.core.rounds import Plan, rounds
from fedlab_helpers.core.training import LocalConfig, evaluate
from fedlab_helpers.studies.study import (
    Row,
    Settings,
    Study,
    against,
    clients_of,
    grid,
    new_model,
    right_answers,
    task,
)

CLIENTS, COHORT, ROUNDS = 20, 10, 20
LOCAL = LocalConfig(lr=2e-2)  # as tuned for the lossless run: `aggregation.CHOSEN["rowwise"]`
LOSSLESS = "touched rows"
LAST = 5  # the rounds at the end that are looked at


def _squeezed(keep=None, write=None) -> Compressed:
    return Compressed(**{k: v for k, v in (("keep", keep), ("write", write)) if v}, squeeze=19)


def _stc(share: float, momentum: float = 0.0) -> WithFeedback:
    return WithFeedback(_squeezed(TopK(share), Sign()), momentum)


def _low_rank(rank: int, write) -> WithFeedback:
    return WithFeedback(_squeezed(LowRank(rank), write))


CODECS: dict[str, Codec] = {
    LOSSLESS: wire.touched_rows(),
    "touched rows, zstd": _squeezed(),
    "float16": Compressed(write=Float16()),
    "bfloat16": Compressed(write=Float16(brain=True)),
    "8 bits": Compressed(write=Quantized(8)),
    "4 bits, zstd": _squeezed(write=Quantized(4)),
    "2 bits, zstd": _squeezed(write=Quantized(2)),
    "ternary, zstd": _squeezed(write=Ternary()),
    "sign": Compressed(write=Sign()),
    "sign, EF": WithFeedback(Compressed(write=Sign())),
    "random 10%": Compressed(RandomK(0.1), Float16()),
    "random 10%, EF": WithFeedback(Compressed(RandomK(0.1, scaled=False), Float16())),
    **{f"top {100 * s:g}%": Compressed(TopK(s)) for s in (0.1, 0.01, 0.001)},
    **{f"top {100 * s:g}%, EF": WithFeedback(Compressed(TopK(s))) for s in (0.1, 0.01, 0.001)},
    "top 1%, DGC": dgc(_squeezed(TopK(0.01))),
    "top 0.1%, DGC": dgc(_squeezed(TopK(0.001))),
    **{f"top {100 * s:g}% sign, EF": _stc(s) for s in (0.1, 0.02, 0.01)},
    **{
        f"top {100 * s:g}% sign, EF, momentum": _stc(s, 0.9)
        for s in (0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002)
    },
    "rank 1": _squeezed(LowRank(1), Float16()),
    "rank 1, EF": _low_rank(1, Float16()),
    "rank 2, EF": _low_rank(2, Float16()),
    "rank 1 in 4 bits, EF": _low_rank(1, Quantized(4, stochastic=False)),
    "rank 2 in 4 bits, EF": _low_rank(2, Quantized(4, stochastic=False)),
    "rank 1 in signs, EF": _low_rank(1, Sign()),
    "rank 2 in signs, EF": _low_rank(2, Sign()),
    "rank 4 in signs, EF": _low_rank(4, Sign()),
    "sketch 20%": _squeezed(CountSketch(0.2), Float16()),
}
_RANK_2, _TOP_10 = _squeezed(LowRank(2), Float16()), _squeezed(TopK(0.1), Sign())
DOWN: dict[str, Changes | None] = {
    "whole": None,
    "changes in float16": Changes(_squeezed(write=Float16())),
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
    rows = []
    reference = _lossless(settings["partition"], settings["seed"])
    for number, model, up, down in _trained(settings):
        right = right_answers(model)
        rows.append(
            {
                "round": number,
                "validation_accuracy": round(evaluate(model, task().validation).accuracy, 5),
                "accuracy": round(float(right.mean()), 5),
                **against(right, reference[number]),
                "dense_bytes_up": number * COHORT * dense_size(model),
                "bytes_up": up,
                "bytes_down": down,
            }
        )
    return rows


def _trained(settings: Settings):
    """Yield round, model, and bytes up and down so far, every five rounds and in the last ones."""
    model, up, down = new_model(settings["seed"]), 0, 0
    deal = {"partition": settings["partition"], "clients": CLIENTS, "seed": settings["seed"]}
    plan = Plan(ROUNDS, COHORT, LOCAL, settings["seed"], workers=1)
    options = {"codec": CODECS[settings["codec"]], "downlink": DOWN[settings["downlink"]]}
    for record in rounds(model, clients_of(deal), strategies.rowwise(), plan, **options):
        up, down = up + record.bytes_up, down + record.bytes_down
        if record.round % 5 == 0 or record.round > ROUNDS - LAST:
            yield record.round, model, up, down


@cache
def _lossless(partition: str, seed: int) -> dict[int, np.ndarray]:
    """Return, by round, which test reviews the lossless run answers rightly."""
    run = {"partition": partition, "seed": seed, "codec": LOSSLESS, "downlink": "whole"}
    return {number: right_answers(model) for number, model, *_ in _trained(run)}


# Where the frontier bends, once more for clients that differ in their words.
_BY_DOMAIN = (
    LOSSLESS,
    "4 bits, zstd",
    "ternary, zstd",
    "top 1%",
    "top 1%, EF",
    "top 10% sign, EF",
    "top 10% sign, EF, momentum",
    "top 5% sign, EF, momentum",
    "top 2% sign, EF, momentum",
    "top 1% sign, EF, momentum",
    "rank 2, EF",
    "rank 1, EF",
    "rank 2 in 4 bits, EF",
    "rank 1 in 4 bits, EF",
    "rank 1 in signs, EF",
)
COMPRESSION = Study(
    "compression",
    (
        *grid(partition=["iid"], seed=range(3), downlink=["whole"], codec=CODECS),
        *grid(partition=["iid"], seed=range(3), downlink=[*DOWN][1:], codec=BOTH_WAYS),
        *grid(partition=["by_domain"], seed=range(3), downlink=["whole"], codec=_BY_DOMAIN),
    ),
    measure,
)
