"""The codecs by name, for whatever offers them: what is kept of a change, and how it is written.

A new way to keep or to write values is one entry of `KEEPS` or `WRITES`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fedlab_helpers.compression.codec import Compressed
from fedlab_helpers.compression.feedback import WithFeedback
from fedlab_helpers.compression.keep import Everything, Keep, RandomK, TopK
from fedlab_helpers.compression.structured import CountSketch, LowRank
from fedlab_helpers.compression.values import Float16, Float32, Quantized, Sign, Ternary
from fedlab_helpers.core import wire
from fedlab_helpers.core.messages import Codec


@dataclass(frozen=True)
class Kept:
    """A way to keep a part of a change."""

    make: Callable[[Any, bool], Keep]  # of the amount, and of whether there is error feedback
    usual: float | None = None  # share of the values, or rank; None: there is no choice
    feedback: bool = True  # whether that makes sense: not where more may be lost than there was


LOSSLESS = {"touched_rows": wire.touched_rows, "dense": wire.dense}
KEEPS = {
    "everything": Kept(lambda amount, feedback: Everything()),
    "topk": Kept(lambda amount, feedback: TopK(amount), 0.01),
    "randomk": Kept(lambda amount, feedback: RandomK(amount, scaled=not feedback), 0.01),
    "lowrank": Kept(lambda amount, feedback: LowRank(amount), 1),
    "sketch": Kept(lambda amount, feedback: CountSketch(amount), 0.05, feedback=False),
}
WRITES = {
    "float32": Float32(),
    "float16": Float16(),
    "bfloat16": Float16(brain=True),
    **{f"bits{bits}": Quantized(bits) for bits in (8, 4, 2)},
    "ternary": Ternary(),
    "signs": Sign(),
}
PARTS = ("keep", "amount", "write", "squeeze", "feedback", "momentum")  # of `make_codec`


def feeds_back(keep: str, write: str | None) -> bool:
    """Return whether error feedback makes sense: not where more may be lost than there was."""
    return keep in KEEPS and KEEPS[keep].feedback and write != "ternary"


def settled(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a codec with the usual amount and form where none is given, and None,
    False or 0 where a part does not apply."""
    if parts["keep"] in LOSSLESS:
        none = dict.fromkeys(("amount", "write", "squeeze"))
        return {**parts, **none, "feedback": False, "momentum": 0.0}
    usual, write = KEEPS[parts["keep"]].usual, parts["write"] or "float32"
    amount = usual if parts["amount"] is None else usual and parts["amount"]
    feedback = bool(parts["feedback"]) and feeds_back(parts["keep"], write)
    momentum = parts["momentum"] if feedback and parts["keep"] == "topk" else 0.0
    more = {"amount": amount, "write": write, "feedback": feedback, "momentum": momentum}
    return {**parts, **more}


def make_codec(
    keep: str = "touched_rows",
    amount: float | None = None,
    write: str | None = None,
    squeeze: int | None = None,
    feedback: bool = False,
    momentum: float = 0.0,
) -> Codec:
    """Return the codec of these parts.

    Args:
        keep: what is sent of a change: a name in `LOSSLESS`, or in `KEEPS`.
        amount: share of the values, or rank.
        write: how each value is written, a name in `WRITES`; None: float32.
        squeeze: level of Zstandard over the packed bytes, 1 to 22; None: not squeezed.
        feedback: clients keep what was lost; values are then rounded to the nearest, not at random.
        momentum: of DGC, 0.9; with the largest values and feedback only.

    Raises:
        ValueError: a number is out of range.
    """
    if keep in LOSSLESS:
        return LOSSLESS[keep]()
    values = WRITES[write or "float32"]
    if feedback and isinstance(values, Quantized):
        values = replace(values, stochastic=False)  # with feedback, nearest loses least
    codec = Compressed(KEEPS[keep].make(amount, feedback), values, squeeze)
    return WithFeedback(codec, momentum) if feedback else codec
