"""The model as an ONNX graph, with its vocabulary inside, for a runtime that knows no PyTorch.

The graph is written by hand, node by node: fourteen of them, or fewer, are all that a model does.
"""

import json
import logging
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic
from torch import Tensor

from fedlab_helpers.core.require import require
from fedlab_helpers.core.state import of_model
from fedlab_helpers.shrinking.classify import CUT, NEXT_WORD, SENTIMENT, one_thread, seal
from fedlab_helpers.shrinking.integers import to_integers
from fedlab_helpers.shrinking.prune import require_plain
from fedlab_helpers.tasks.next_word import TiedLSTM
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.model import SentimentLSTM
from fedlab_helpers.tasks.reviews.words import Vocabulary, dictionary

# In which order ONNX stacks the gates that PyTorch has as i f g o, r z n, or alone.
_GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}
_PACKED = {4: TensorProto.INT4, 2: TensorProto.INT2}
WORDS = "words"  # the key under which the vocabulary stands in the file
CLASSES, MAX_LEN = "classes", "max_len"  # what classes are called; how far a model reads


class _Graph:
    """Nodes and constants as they are added."""

    def __init__(self, bits: int):
        self.bits, self.nodes, self.weights = bits, [], []

    def constant(self, name: str, array: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, operator: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def matrix(self, name: str, array: np.ndarray) -> str:
        """Add a matrix, in few bits as whole numbers and a scale for each column, if asked for."""
        if self.bits == 32:
            return self.constant(name, array)
        whole, scale = self.integers(name, array)
        wide = self.add("Cast", [whole], f"{name}_whole", to=TensorProto.FLOAT)
        return self.add("Mul", [wide, scale], name)

    def integers(self, name: str, array: np.ndarray) -> tuple[str, str]:
        """Add whole numbers, as int8 for what follows, and the scale of each column."""
        whole, scale = (part.numpy() for part in to_integers(torch.from_numpy(array), self.bits))
        scale = self.constant(f"{name}_scale", scale)
        if self.bits == 8:
            return self.constant(f"{name}_int8", whole), scale
        narrow = whole.astype(helper.tensor_dtype_to_np_dtype(_PACKED[self.bits]))
        packed = self.constant(f"{name}_int{self.bits}", narrow)
        # Once, as the file is loaded: a runtime looks up no rows of so few bits.
        return self.add("Cast", [packed], f"{name}_int8", to=TensorProto.INT8), scale


def to_onnx(
    model: SentimentLSTM | TiedLSTM, vocab: Vocabulary | None, *, bits: int = 32
) -> onnx.ModelProto:
    """Return the model as a graph from "tokens", (B, T) int64, right-padded with 0, to "logits":
    of each class, (B, C), or of each word that may follow the last one, (B, V).

    Args:
        model: with one recurrent layer of any cell, and either pooling; or one of next words.
        vocab: whose words are written into the file, by the id that each has, and with them what
            it knows of classes and of the length that is read; None: nothing is.
        bits: of the weights in matrices: 32, 8, 4 or 2. In few, rows of a table that is only
            read are widened after they are looked up; one that scores words, too, is widened as
            a whole, once, when the file is loaded.

    Raises:
        ValueError: the vocabulary is not of the model's size, or names other classes, `bits` is
            none of these, or a weight is NaN or infinite.
    """
    require(bits in (32, 8, *_PACKED), "bits", bits, "32, 8, 4 or 2")
    require_plain(model, (SentimentLSTM, TiedLSTM))
    state = {name: tensor.cpu().numpy() for name, tensor in of_model(model).items()}
    for name, array in state.items():
        require(np.isfinite(array).all(), f"model, {name}", "NaN or inf", "finite weights")
    tied, rows = type(model) is TiedLSTM, len(state["embedding.weight"])
    scores = rows if tied else len(state["head.bias"])
    if vocab is not None:
        if tied:  # it tells no classes apart
            vocab = Vocabulary(vocab.words[2:], max_len=vocab.max_len)
        _require_vocabulary(vocab, rows, scores)
    graph = _Graph(bits)
    graph.add("Transpose", ["tokens"], "steps", perm=[1, 0])  # (T, B)
    graph.add("Equal", ["steps", graph.constant("padding", np.int64(0))], "is_padding")
    graph.add("Cast", [graph.add("Not", ["is_padding"], "is_word")], "mask", to=TensorProto.FLOAT)
    if tied:
        _suggest(graph, state, type(model.recurrent).__name__)
    else:
        _classify(graph, state, type(model.recurrent).__name__, model.pooling)
    return _finished(graph, NEXT_WORD if tied else SENTIMENT, scores, vocab)


def _require_vocabulary(vocab: Vocabulary, rows: int, classes: int) -> None:
    require(len(vocab) == rows, "vocab", len(vocab), f"{rows} words, the model's rows")
    odd = [word for word in vocab.words if "\n" in word]
    require(not odd, "vocab", odd[:3], "words without line breaks")
    fits = vocab.classes is None or len(vocab.classes) == classes
    require(fits, "vocab", vocab.classes, f"the model's {classes} classes")


def _classify(graph: _Graph, state: dict[str, np.ndarray], cell: str, pooling: str) -> None:
    """Add what a `SentimentLSTM` does."""
    _look_up(graph, state["embedding.weight"])
    _recur(graph, cell, state, pooling)
    head = [graph.matrix("head", state["head.weight"])]
    head += [graph.constant("head_bias", state["head.bias"])]
    graph.add("Gemm", ["pooled", *head], "logits", transB=1)


def _suggest(graph: _Graph, state: dict[str, np.ndarray], cell: str) -> None:
    """Add what a `TiedLSTM` does, with one table, (V, E + 1), for both of its ends.

    A row is read with its bias, to which the recurrent layer gives a weight of 0; and it scores
    with its bias, as the outputs are followed by a 1.
    """
    _look_up(graph, state["embedding.weight"], scores=True)
    inner = np.pad(state["recurrent.weight_ih_l0"], [(0, 0), (0, 1)])
    _recur(graph, cell, state | {"recurrent.weight_ih_l0": inner}, "last")
    ends = [graph.constant("ends", np.array([0, 0, 0, 1])), graph.constant("one", np.float32(1))]
    graph.add("Pad", ["pooled", *ends], "followed")  # (B, E + 1)
    graph.add("Gemm", ["followed", "table"], "logits", transB=1)


def _look_up(graph: _Graph, table: np.ndarray, scores: bool = False) -> None:
    """Add the vectors of the words, (T, B, E), of a table that scores words, too, or does not."""
    if graph.bits == 32 or scores:
        graph.add("Gather", [graph.matrix("table", table), "steps"], "vectors")
        return
    whole, scale = graph.integers("table", table)
    graph.add("Gather", [whole, "steps"], "narrow")
    graph.add("Cast", ["narrow"], "wide", to=TensorProto.FLOAT)
    graph.add("Mul", ["wide", scale], "vectors")


def _recur(graph: _Graph, cell: str, state: dict[str, np.ndarray], pooling: str) -> None:
    """Add the recurrent layer, and what is taken of its outputs, (B, H)."""

    def turned(name: str) -> np.ndarray:
        parts = np.split(state[f"recurrent.{name}"], len(_GATES[cell]))
        return np.concatenate([parts[gate] for gate in _GATES[cell]])

    hidden = state["recurrent.weight_hh_l0"].shape[1]
    biases = np.concatenate([turned("bias_ih_l0"), turned("bias_hh_l0")])[None]
    inputs = ["vectors", graph.matrix("W", turned("weight_ih_l0")[None])]
    inputs += [graph.matrix("R", turned("weight_hh_l0")[None]), graph.constant("B", biases)]
    # PyTorch's GRU applies the reset gate after the matrix.
    extra = {"linear_before_reset": 1} if cell == "GRU" else {}
    first = graph.constant("first", np.array([0]))
    graph.add("ReduceSum", ["mask", first], "count", keepdims=0)  # (B,)
    if pooling == "last":
        graph.add("Cast", ["count"], "lengths", to=TensorProto.INT32)
        graph.nodes.append(
            helper.make_node(cell, [*inputs, "lengths"], ["", "end"], hidden_size=hidden, **extra)
        )
        graph.add("Squeeze", ["end", first], "pooled")
        return
    graph.add(cell, inputs, "outputs", hidden_size=hidden, **extra)  # (T, 1, B, H)
    last = graph.constant("last", np.array([-1]))
    graph.add("Squeeze", ["outputs", graph.constant("second", np.array([1]))], "each")
    graph.add("Mul", ["each", graph.add("Unsqueeze", ["mask", last], "wide_mask")], "seen")
    graph.add("ReduceSum", ["seen", first], "sum", keepdims=0)
    graph.add("Div", ["sum", graph.add("Unsqueeze", ["count", last], "wide_count")], "pooled")


def _finished(graph: _Graph, kind: str, scores: int, vocab: Vocabulary | None) -> onnx.ModelProto:
    tokens = helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", "time"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", scores])
    made = helper.make_graph(graph.nodes, kind, [tokens], [logits], graph.weights)
    # Numbers of two bits are in ONNX since 2025; all else runs in older runtimes, too.
    opset, ir = (25, 13) if graph.bits == 2 else (21, 10)
    made = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    if vocab is not None:
        told = {WORDS: "\n".join(vocab.words[2:])}
        if vocab.classes is not None:
            told[CLASSES] = json.dumps(vocab.classes)
        if vocab.max_len is not None:
            told[MAX_LEN] = str(vocab.max_len)
        helper.set_model_props(made, told)
    onnx.checker.check_model(made, full_check=True)
    return made


def sealed(made: onnx.ModelProto) -> bytes:
    """Return the bytes of a file that `classify` or `Suggestions` answers from: the model, with
    which dictionary jieba cuts now, so that `classify` cuts alike, then the SHA-256 of these, so
    that a damaged file is refused."""
    cut = onnx.StringStringEntryProto(key=CUT, value=dictionary())
    # One message after the other is both in one.
    content = made.SerializeToString() + onnx.ModelProto(metadata_props=[cut]).SerializeToString()
    return content + seal(content)


def quantize_dynamically(path: str | Path, to: str | Path) -> None:
    """Write the model of one file to another with ONNX Runtime's own dynamic int8 quantization:
    weights ahead, the inputs of matrix products as they come. It leaves a GRU as it is."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it asks for a preparation that changes nothing here
    try:
        quantize_dynamic(str(path), str(to))
    finally:
        logger.setLevel(level)


def run_onnx(content: bytes, reviews: EncodedReviews, batch_size: int = 256) -> Tensor:
    """Return the logits that ONNX Runtime gives, (N, C), on one thread.

    Raises:
        ValueError: there is no review (the runtime ends the process then), or word ids stand
            elsewhere than in the first `lengths` places.
    """
    require(len(reviews), "reviews", len(reviews), "at least one")
    inside = torch.arange(reviews.tokens.shape[1], device="cpu") < reviews.lengths.cpu()[:, None]
    right_padded = torch.equal(reviews.tokens.cpu() > 0, inside)
    wrong = "padding inside a review, or a word id outside or below 0"
    require(right_padded, "reviews", wrong, "word ids above 0, then padding")
    session, parts = one_thread(content), reviews.tokens.cpu().split(batch_size)
    return torch.cat(
        [torch.from_numpy(session.run(None, {"tokens": part.numpy()})[0]) for part in parts]
    )
