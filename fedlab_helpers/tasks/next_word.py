"""Which word comes next in a review: examples, and a plain model."""

import torch
from torch import Tensor, nn

from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.require import is_count, require, require_count
from fedlab_helpers.tasks.objectives import NextToken
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.model import weights_from
from fedlab_helpers.tasks.reviews.words import PADDING, UNKNOWN

NEXT_WORD = NextToken(never=(PADDING, UNKNOWN))


def next_words(reviews: EncodedReviews, words: int = 2000, max_len: int = 32) -> Examples:
    """Return the examples that ask after each word of a review which one follows.

    Inputs are word ids, (N, T) int64, all but the last of each review, and how many they are, (N,);
    targets are the words that follow, (N, T). Reviews of one word ask nothing and are left out.

    Args:
        reviews: word ids, the most frequent first, as `Vocabulary` has them.
        words: ids from this number on become unknown. As a target, unknown counts in the loss, and
            is never proposed.
        max_len: words of a review that are kept.

    Raises:
        ValueError: `words` is no integer of at least 1, or `max_len` none of at least 2.
    """
    require_count(words=words)
    fine = is_count(max_len) and max_len > 1
    require(fine, "max_len", max_len, "an integer of at least 2")
    reviews = reviews.subset((reviews.lengths > 1).nonzero()[:, 0])
    tokens = reviews.tokens[:, :max_len]
    tokens = tokens.masked_fill(tokens >= words, UNKNOWN)
    steps = reviews.lengths.clamp(max=max_len) - 1
    inside = torch.arange(tokens.shape[1] - 1, device=tokens.device) < steps[:, None]
    return Examples((tokens[:, :-1] * inside, steps), tokens[:, 1:], NEXT_WORD, padded=True)


class NextWordLSTM(nn.Module):
    """Embedding, one LSTM, and at each step a linear layer that scores every word.

    Args:
        vocab_size: number V of word ids.
        embedding_dim: size E of a word's vector.
        hidden_size: size H of the recurrent state.
        seed: seed of the initial weights; None draws them from torch's global generator.

    Raises:
        ValueError: a size is no integer of at least 1.
    """

    token_parameter = "embedding.weight"  # row i is used by word id i and by nothing else

    def __init__(
        self,
        vocab_size: int,
        embedding_dim: int = 32,
        hidden_size: int = 64,
        *,
        seed: int | None = None,
    ):
        super().__init__()
        require_count(vocab_size=vocab_size, embedding_dim=embedding_dim, hidden_size=hidden_size)
        with weights_from(seed):
            self.embedding = nn.Embedding(vocab_size, embedding_dim, padding_idx=PADDING)
            self.recurrent = nn.LSTM(embedding_dim, hidden_size, batch_first=True)
            self.head = nn.Linear(hidden_size, vocab_size)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return the logits of the word that follows each one.

        Args:
            tokens: right-padded word ids, (B, T) int64.
            lengths: words in each row, (B,); not needed, for no step sees what follows it.

        Returns:
            Logits, (B, T, V).
        """
        outputs, _ = self.recurrent(self.embedding(tokens))  # (B, T, H)
        return self.head(outputs)
