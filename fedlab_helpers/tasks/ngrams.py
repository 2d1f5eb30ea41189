"""The n-gram, what keyboards had before: counts of the words that followed the last few."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.objective import NOT_ASKED
from fedlab_helpers.core.require import require, require_count


class NGram:
    """An interpolated n-gram with absolute discounting.

    Ney, Essen and Kneser 1994, doi:10.1006/csla.1994.1001: every count loses `discount`, and what
    is lost goes to the words that the shorter context expects.

    Args:
        data: next words, as `next_words` makes them: what is counted.
        vocab_size: number V of word ids.
        order: words looked at, the one that follows among them; 1: none but that, 3: a trigram.
        discount: above 0, so that no word is impossible, and below 1.

    Raises:
        ValueError: `order` is no integer of at least 1, `discount` is out of range, or a word is.
    """

    def __init__(self, data: Examples, vocab_size: int, order: int = 3, discount: float = 0.75):
        require_count(vocab_size=vocab_size, order=order)
        require(0 < discount < 1, "discount", discount, "a number above 0 and below 1")
        most = int(max(data.targets.max(), data.inputs[0].max())) if len(data) else 0
        require(most < vocab_size, "data", f"word {most}", f"words below vocab_size={vocab_size}")
        self.order, self.discount = order, discount
        self.counts: list[dict] = [defaultdict(Counter) for _ in range(order)]
        for words, following in _places(data):
            for length in range(order):
                if len(words) >= length:
                    context = tuple(words[len(words) - length :])
                    self.counts[length][context][following] += 1
        self._settle(vocab_size)

    @classmethod
    def of_counts(cls, counts: Sequence[list[dict]], vocab_size: int, discount: float) -> "NGram":
        """Return the n-gram of the sums of several ones' `counts`: that of all their data."""
        made = cls.__new__(cls)
        made.order, made.discount = len(counts[0]), discount
        made.counts = [defaultdict(Counter) for _ in range(made.order)]
        for own in counts:
            for whole, part in zip(made.counts, own, strict=True):
                for context, following in part.items():
                    whole[context].update(following)
        made._settle(vocab_size)
        return made

    def _settle(self, vocab_size: int) -> None:
        alone = np.full(vocab_size, 0.5)
        for word, count in self.counts[0][()].items():
            alone[word] += count
        self.alone = alone / alone.sum()

    def probabilities(self, words: Sequence[int]) -> np.ndarray:
        """Return the probability of each word to follow these, (V,)."""
        chances = self.alone.copy()
        for length in range(1, self.order):
            context = tuple(words[len(words) - length :])
            seen = self.counts[length].get(context) if len(words) >= length else None
            if seen:
                total = seen.total()
                chances *= self.discount * len(seen) / total
                for word, count in seen.items():
                    chances[word] += (count - self.discount) / total
        return chances

    def answer(self, data: Examples) -> Tensor:
        """Return the logarithms of the probabilities at each place that is asked, (n, 1, V), in the
        order in which `asked_places` has them."""
        rows = [self.probabilities(words) for words, _ in _places(data)]
        return torch.from_numpy(np.log(np.array(rows))).float()[:, None]


def asked_places(data: Examples) -> Examples:
    """Return a data set of one step for each word that is asked: what `NGram.answer` answers."""
    targets = data.targets[data.targets != NOT_ASKED]
    return Examples((targets[:, None] * 0,), targets[:, None], data.objective)


def _places(data: Examples) -> Iterator[tuple[list[int], int]]:
    """Yield for each word that is asked the words before it, and the word."""
    tokens, lengths = data.inputs
    for row, length, asked in zip(
        tokens.tolist(), lengths.tolist(), data.targets.tolist(), strict=True
    ):
        for place in range(length):
            if asked[place] != NOT_ASKED:
                yield row[: place + 1], asked[place]
