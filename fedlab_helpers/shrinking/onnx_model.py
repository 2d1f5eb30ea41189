"""The model as an ONNX graph, with its vocabulary inside, for a runtime that knows no PyTorch.

The graph is written by hand, node by node: fourteen of them are all that the model does.
"""

import json
import logging
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic
from torch import Tensor

from fedlab_helpers.core.require import require
from fedlab_helpers.core.state import of_model
from fedlab_helpers.shrinking.classify import seal
from fedlab_helpers.shrinking.integers import to_integers
from fedlab_helpers.shrinking.prune import require_plain
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.model import SentimentLSTM
from fedlab_helpers.tasks.reviews.words import Vocabulary

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


def to_onnx(model: SentimentLSTM, vocab: Vocabulary | None, *, bits: int = 32) -> onnx.ModelProto:
    """Return the model as a graph from "tokens", (B, T) int64, right-padded with 0, to "logits".

    Args:
        model: with one recurrent layer of any cell, and either pooling.
        vocab: whose words are written into the file, by the id that each has, and with them what
            it knows of classes and of the length that is read; None: nothing is.
        bits: of the weights in matrices: 32, 8, 4 or 2. In few, rows of the table are widened
            after they are looked up: else the whole table would be, for each review.

    Raises:
        ValueError: the vocabulary is not of the model's size, or names other classes, or `bits`
            is none of these.
    """
    require(bits in (32, 8, *_PACKED), "bits", bits, "32, 8, 4 or 2")
    require_plain(model)
    state = {name: tensor.cpu().numpy() for name, tensor in of_model(model).items()}
    if vocab is not None:
        _require_vocabulary(vocab, len(state["embedding.weight"]), len(state["head.bias"]))
    graph = _Graph(bits)
    graph.add("Transpose", ["tokens"], "steps", perm=[1, 0])  # (T, B)
    graph.add("Equal", ["steps", graph.constant("padding", np.int64(0))], "is_padding")
    graph.add("Cast", [graph.add("Not", ["is_padding"], "is_word")], "mask", to=TensorProto.FLOAT)
    _look_up(graph, state["embedding.weight"])
    _recur(graph, type(model.recurrent).__name__, state, model.pooling)
    head = [graph.matrix("head", state["head.weight"])]
    head += [graph.constant("head_bias", state["head.bias"])]
    graph.add("Gemm", ["pooled", *head], "logits", transB=1)
    return _finished(graph, len(state["head.bias"]), vocab)


def _require_vocabulary(vocab: Vocabulary, rows: int, classes: int) -> None:
    require(len(vocab) == rows, "vocab", len(vocab), f"{rows} words, the model's rows")
    odd = [word for word in vocab.words if "\n" in word]
    require(not odd, "vocab", odd[:3], "words without line breaks")
    fits = vocab.classes is None or len(vocab.classes) == classes
    require(fits, "vocab", vocab.classes, f"the model's {classes} classes")


def _look_up(graph: _Graph, table: np.ndarray) -> None:
    """Add the vectors of the words, (T, B, E)."""
    if graph.bits == 32:
        graph.add("Gather", [graph.constant("table", table), "steps"], "vectors")
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

    hidden = state["head.weight"].shape[1]
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


def _finished(graph: _Graph, classes: int, vocab: Vocabulary | None) -> onnx.ModelProto:
    tokens = helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", "time"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])
    made = helper.make_graph(graph.nodes, "sentiment", [tokens], [logits], graph.weights)
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
    """Return the bytes of a file that `classify` answers from: the model, then its SHA-256, so
    that a damaged file is refused."""
    content = made.SerializeToString()
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
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    parts = reviews.tokens.cpu().split(batch_size)
    return torch.cat(
        [torch.from_numpy(session.run(None, {"tokens": part.numpy()})[0]) for part in parts]
    )
