"""Which class a sentence is of, by a model in an ONNX file. (Needs no PyTorch.)"""

import json
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnxruntime

from fedlab_helpers.core.require import require
from fedlab_helpers.tasks.reviews.words import UNKNOWN, Vocabulary, dictionary, is_word, tokenize

USAGE = """usage: python -m fedlab_helpers classify MODEL SENTENCE
for example: python -m fedlab_helpers classify model.onnx 房间很干净"""
CUT = "cut"  # the key under which a file says with which dictionary its texts were cut
MAX_LEN = 64  # words that are read where a file does not say
SENTIMENT, NEXT_WORD = "sentiment", "next_word"  # what a graph is called, by what it answers


def seal(content: bytes) -> bytes:
    """Return what ends a file of this content: its SHA-256, in the form of an ONNX property."""
    entry = b"\x0a\x06sha256\x12\x40" + sha256(content).hexdigest().encode()
    return b"\x72" + bytes([len(entry)]) + entry  # field 14 of a model: metadata_props


def one_thread(content: bytes) -> onnxruntime.InferenceSession:
    """Return what runs the model of these bytes, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def opened(
    content: bytes, kind: str
) -> tuple[onnxruntime.InferenceSession, Vocabulary, int, list[str] | None]:
    """Return what runs the model of a file, its words, how many of a text it reads, and what its
    classes are called, if the file says so.

    Args:
        content: of the file, as `onnx_model.sealed` returns it.
        kind: `SENTIMENT` or `NEXT_WORD`; a file that holds the other is refused.

    Raises:
        Exception: whatever the runtime makes of content that is none of this.
    """
    body = content[: -len(seal(b""))]
    if content != body + seal(body):
        raise ValueError("its end is not its checksum: damaged, or not written as `sealed`")
    session = one_thread(content)
    meta = session.get_modelmeta()
    name, told = meta.graph_name, meta.custom_metadata_map
    require(name == kind or NEXT_WORD not in (name, kind), "its graph", name, repr(kind))
    vocab = Vocabulary(told["words"].split("\n"))
    longest, names = int(told.get("max_len", MAX_LEN)), json.loads(told.get("classes", "null"))
    return session, vocab, longest, names


def shares(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of logits, (C,), float64."""
    powers = np.exp(logits.astype(np.float64) - logits.max())
    return powers / powers.sum()


def answer(path: str | Path, sentence: str) -> str:
    """Return what the model of a file makes of a sentence: "positive: 97.3%", and in brackets how
    many of its words the model does not know, or does not read.

    Where the classes have other names, or are not two, it is the most probable one that is told;
    a class that the file does not name is told by its number.

    Raises:
        ValueError: the file is no model with its words, `onnx_model.sealed`, or is damaged; its
            texts were cut otherwise than jieba cuts here; or the sentence has no word that the
            model knows.
    """
    try:
        session, vocab, longest, names = opened(Path(path).read_bytes(), SENTIMENT)
    except Exception as error:  # whatever the runtime makes of a file
        raise ValueError(f"{path}: no model with its words: {error}") from error
    here = dictionary()
    if session.get_modelmeta().custom_metadata_map.get(CUT, here) != here:
        raise ValueError(
            f"{path}: cut with other words than here: call `classify.answer` from Python, after "
            "jieba was told what it was told when this file was written (add_word, …), in order"
        )
    words = tokenize(sentence)
    tokens = vocab.encode(words[:longest])  # as in training
    if not tokens:
        raise ValueError("the sentence has no word")
    known = [w for w, token in zip(words, tokens, strict=False) if token != UNKNOWN]
    if not any(map(is_word, known)):
        raise ValueError(f"the model knows none of the {len(tokens)} words that it would read")
    logits = session.run(None, {"tokens": np.array([tokens], np.int64)})[0][0]
    names = names or [f"class {number}" for number in range(len(logits))]
    if len(names) != len(logits):
        raise ValueError(f"{path}: {len(logits)} classes, expected the {len(names)} of {names}")
    place, name = logits.argmax(), None
    if names == ["0", "1"] or names[1:] == ["positive"]:
        place, name = 1, "positive"
    said = f"{name or names[place]}: {shares(logits)[place]:.1%}"
    unknown, unread = len(tokens) - len(known), len(words) - len(tokens)
    notes = [f"{unknown} of {len(tokens)} words unknown"] if unknown else []
    notes += [f"{unread} more not read"] if unread else []
    return f"{said} ({', '.join(notes)})" if notes else said


def main(arguments: Sequence[str] | None = None) -> str | None:
    """Print the answer to the command line; return what went wrong, for `sys.exit`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 2:
        return USAGE
    try:
        said = answer(*arguments)
    except ValueError as error:
        return str(error)
    sys.stdout.buffer.write(f"{said}\n".encode(sys.stdout.encoding, "backslashreplace"))
    return None


if __name__ == "__main__":
    sys.exit(main())
