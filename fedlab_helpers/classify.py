"""Is a sentence positive? python -m fedlab_helpers.classify model.onnx 房间很干净 (no PyTorch)"""

import sys

import jieba
import numpy as np
import onnxruntime


def main(path: str, sentence: str) -> None:
    """Print how probable the model of a file finds it that a sentence is positive."""
    jieba.setLogLevel("ERROR")  # it would report its loading
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    words = session.get_modelmeta().custom_metadata_map["words"].split("\n")
    ids = {word: place for place, word in enumerate(words, start=2)}  # 0 is padding, 1 unknown
    tokens = [ids.get(word, 1) for word in jieba.cut(sentence) if not word.isspace()][:64]
    if not tokens:
        sys.exit("the sentence has no word")
    (logits,) = session.run(None, {"tokens": np.array([tokens])})[0]
    print(f"positive: {1 / (1 + np.exp(logits[0] - logits[1])):.1%}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
