"""Fewer bytes: which values are sent, how each is written, and what was lost made up for."""

from fedlab_helpers.compression import bits
from fedlab_helpers.compression.bits import Reader
from fedlab_helpers.compression.codec import Compressed, dense_size
from fedlab_helpers.compression.feedback import WithFeedback, dgc, require_contraction
from fedlab_helpers.compression.keep import Everything, RandomK, TopK
from fedlab_helpers.compression.structured import CountSketch, LowRank
from fedlab_helpers.compression.values import Float16, Float32, Quantized, Sign, Ternary

__all__ = [
    "Compressed", "CountSketch", "Everything", "Float16", "Float32", "LowRank", "Quantized",
    "RandomK", "Reader", "Sign", "Ternary", "TopK", "WithFeedback", "bits", "dense_size", "dgc",
    "require_contraction",
]  # fmt: skip
