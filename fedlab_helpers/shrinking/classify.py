"""Is a sentence positive? (Needs no PyTorch.)

python -m fedlab_helpers.shrinking.classify model.onnx 房间很干净
"""

import sys

import jieba
import numpy as np
import onnxruntime


def main(path: str, sentence: str) -> None:
    """Print how probable the model of a file finds it that a sentence is positive."""
    jieba.setLogLevel("ERROR")  # it would report its loading
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        words = session.get_modelmeta().custom_metadata_map["words"].split("\n")
    except Exception as error:  # whatever the runtime makes of a file
        sys.exit(f"{path}: no model with its words: {error}")
    ids = {word: place for place, word in enumerate(words, start=2)}  # 0 is padding, 1 unknown
    tokens = [ids.get(word, 1) for word in jieba.cut(sentence) if not word.isspace()]
    if not tokens:
        sys.exit("the sentence has no word")
    # As in training, words beyond the 64th are not read.
    logits = session.run(None, {"tokens": np.array([tokens[:64]])})[0][0]
    if len(logits) != 2:
        sys.exit(f"{path}: {len(logits)} classes, expected negative and positive")
    negative, positive = logits
    print(f"positive: {1 / (1 + np.exp(np.clip(negative - positive, -80, 80))):.1%}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
