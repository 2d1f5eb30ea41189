"""Which word comes next, by a model in an ONNX file, as a phone has it. (Needs no PyTorch.)"""

from collections.abc import Sequence

import numpy as np

from fedlab_helpers.core.require import require, require_count
from fedlab_helpers.shrinking.classify import NEXT_WORD, opened, shares
from fedlab_helpers.tasks.reviews.words import UNKNOWN, is_word


class Suggestions:
    """What a keyboard proposes: words that follow, never punctuation. Computed on one thread.

    Args:
        content: of a file, as `onnx_model.sealed` returns it of a `TiedLSTM` with its vocabulary.

    Raises:
        ValueError: the content is no such file, or is damaged.
    """

    def __init__(self, content: bytes):
        try:
            self._session, self.vocab, self._longest, _ = opened(content, NEXT_WORD)
        except Exception as error:  # whatever the runtime makes of it
            raise ValueError(f"content: no model of next words with its words: {error}") from error
        known = enumerate(self.vocab.words)
        proposed = [i for i, word in known if i > UNKNOWN and is_word(word)]
        self._proposed = np.array(proposed, np.int64)

    def next(self, words: Sequence[str], k: int = 3) -> list[tuple[str, float]]:
        """Return the words that are most likely to follow, the likeliest first, and how likely the
        model holds each among all that it scores.

        Args:
            words: typed so far, at least one, cut as `tokenize` cuts them. The last ones are read,
                as many as the file says, or 64; one that the model does not know is read as
                unknown. (What begins a text it was never asked: only what follows a word.)
            k: how many, at least 1; fewer are returned where the file has fewer.

        Raises:
            ValueError: `k` is no such number, there is no word, or `words` is a text that is not
                cut.
        """
        require_count(k=k)
        fine = not isinstance(words, str) and len(words) > 0
        require(fine, "words", words, "a list of at least one word, as `tokenize` cuts them")
        tokens = self.vocab.encode(words[-self._longest :])
        logits = self._session.run(None, {"tokens": np.array([tokens], np.int64)})[0][0]
        likely = shares(logits)
        best = self._proposed[np.argsort(-logits[self._proposed], kind="stable")[:k]]
        return [(self.vocab.words[i], float(likely[i])) for i in best]
