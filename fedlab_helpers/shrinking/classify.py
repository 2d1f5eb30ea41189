"""Which class a sentence is of, by a model in an ONNX file. (Needs no PyTorch.)"""

import json
import sys
from collections.abc import Sequence

import numpy as np
import onnxruntime

from fedlab_helpers.tasks.reviews.words import Vocabulary, tokenize

USAGE = """usage: python -m fedlab_helpers classify MODEL SENTENCE
for example: python -m fedlab_helpers classify model.onnx 房间很干净"""
MAX_LEN = 64  # words that are read where a file does not say


def answer(path: str, sentence: str) -> str:
    """Return what the model of a file makes of a sentence: "positive: 97.3%".

    Where the classes have other names, or are not two, it is the most probable one that is told;
    a class that the file does not name is told by its number.

    Raises:
        ValueError: the file is no model with its words, or the sentence has no word.
    """
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        told = session.get_modelmeta().custom_metadata_map
        vocab = Vocabulary(told["words"].split("\n"))
        longest, names = int(told.get("max_len", MAX_LEN)), json.loads(told.get("classes", "null"))
    except Exception as error:  # whatever the runtime makes of a file
        raise ValueError(f"{path}: no model with its words: {error}") from error
    tokens = vocab.encode(tokenize(sentence))[:longest]  # as in training
    if not tokens:
        raise ValueError("the sentence has no word")
    logits = session.run(None, {"tokens": np.array([tokens], np.int64)})[0][0]
    names = names or [f"class {number}" for number in range(len(logits))]
    if len(names) != len(logits):
        raise ValueError(f"{path}: {len(logits)} classes, expected the {len(names)} of {names}")
    shares = np.exp(logits.astype(np.float64) - logits.max())
    if names == ["0", "1"] or names[1:] == ["positive"]:
        return f"positive: {shares[1] / shares.sum():.1%}"
    return f"{names[shares.argmax()]}: {shares.max() / shares.sum():.1%}"


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
