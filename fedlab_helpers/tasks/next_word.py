"""Which word comes next in a review: examples, and two models."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.model import SeededDropout
from fedlab_helpers.core.objective import NOT_ASKED
from fedlab_helpers.core.require import is_count, require, require_count
from fedlab_helpers.tasks import partition
from fedlab_helpers.tasks.layers import LAYERS
from fedlab_helpers.tasks.objectives import NextToken
from fedlab_helpers.tasks.owners import Owner
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.model import weights_from
from fedlab_helpers.tasks.reviews.task import Task
from fedlab_helpers.tasks.reviews.words import PADDING, UNKNOWN, Vocabulary, is_word

NEXT_WORD = NextToken(never=(PADDING, UNKNOWN))
WORDS = 1_500  # that a keyboard knows
_LENGTH = 20  # words of a review that are typed
_TYPED, _CHOSEN, _TESTED = 6_000, 60, 2_000  # reviews: of all clients, of each, of all


def next_words(
    reviews: EncodedReviews, words: int = 2000, max_len: int = 32, skip: Sequence[int] = ()
) -> Examples:
    """Return the examples that ask after each word of a review which one follows.

    Inputs are word ids, (N, T) int64, all but the last of each review, and how many they are, (N,);
    targets are the words that follow, (N, T). Reviews of one word ask nothing and are left out.

    Args:
        reviews: word ids, the most frequent first, as `Vocabulary` has them.
        words: ids from this number on become unknown. As a target, unknown counts in the loss, and
            is never proposed.
        max_len: words of a review that are kept.
        skip: ids that are read, but neither asked for nor proposed, such as punctuation.

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
    seen, following = tokens[:, :-1] * inside, tokens[:, 1:]
    skipped = torch.isin(following, following.new_tensor([*skip]))
    following = following.masked_fill(skipped, NOT_ASKED)
    objective = NextToken(never=(*NEXT_WORD.never, *skip))
    return Examples((seen, steps), following, objective, padded=True)


def punctuation(vocab: Vocabulary, words: int) -> tuple[int, ...]:
    """Return which of the first `words` ids are of tokens without a letter, a sign or a digit."""
    known = enumerate(vocab.words[:words])
    return tuple(i for i, word in known if i > UNKNOWN and not is_word(word))


def keyboards(task: Task, count: int = 20, seed: int = 0) -> list[Owner]:
    """Return simulated owners of a keyboard: each writes reviews of one domain.

    The first 20 words of a review are typed, the 1,500 most frequent words are known, and
    punctuation is not asked for. A client's test are the test reviews of its domain, the first
    2,000 of all; clients of one domain share it.

    Args:
        task: reviews in three parts.
        count: clients, at least one for each domain.
        seed: decides which 6,000 of the training reviews are dealt, and to whom.
    """
    rng, skip = numpy_rng(seed, "keyboards"), punctuation(task.vocab, WORDS)
    few = np.sort(rng.permutation(len(task.train))[:_TYPED])
    domains = [np.array([review.domain for review in part]) for part in
               (task.train_reviews, task.validation_reviews, task.test_reviews)]  # fmt: skip
    dealt = partition.by_domain(domains[0][few].tolist(), count, rng)
    owners, tests = [], {}
    examples = partial(next_words, words=WORDS, max_len=_LENGTH, skip=skip)
    for number, part in enumerate(few[own] for own in dealt):
        domain = str(domains[0][part[0]])
        chosen = rng.permutation(np.flatnonzero(domains[1] == domain))[:_CHOSEN]
        if domain not in tests:
            held = np.flatnonzero(domains[2] == domain)
            tests[domain] = examples(task.test.subset(held[held < _TESTED]))
        train, validation = (
            examples(task.train.subset(part)),
            examples(task.validation.subset(chosen)),
        )
        owners.append(Owner(f"{domain} {number}", train, validation, tests[domain]))
    return owners


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


class TiedLSTM(nn.Module):
    """One table for both ends: a word's row is the vector that is read, and scores that word.

    Press and Wolf 2017, arXiv:1608.05859. The row's last value is the word's bias, so that a row is
    all that a word has, and a client that trains the rows of its own words scores no others.

    Args:
        vocab_size: number V of word ids.
        size: of a word's vector and of the recurrent state, E.
        cell: the layer between the two ends, a name in `LAYERS`.
        dropout: share of the vectors, and of the outputs, that is dropped while training.
        own_words: whether clients train, score and send the rows of their own words only; else
            each trains and sends the whole table. That they also do, and score all words, where a
            codec sends tensors whole, a strategy or transform is dense, or weights decay.
        seed: seed of the initial weights; None draws them from torch's global generator.

    Raises:
        ValueError: a size is no integer of at least 1, `dropout` not in [0, 1), or there is no
            such layer.
    """

    def __init__(
        self,
        vocab_size: int,
        size: int = 64,
        *,
        cell: str = "lstm",
        dropout: float = 0.1,
        own_words: bool = True,
        seed: int | None = None,
    ):
        super().__init__()
        require(cell in LAYERS, "cell", cell, f"one of {sorted(LAYERS)}")
        require_count(vocab_size=vocab_size, size=size)
        self.token_parameter = "embedding.weight" if own_words else None
        self.scores_tokens = own_words
        self.dropout = SeededDropout(dropout)
        with weights_from(seed):
            self.embedding = nn.Embedding(vocab_size, size + 1)
            nn.init.normal_(self.embedding.weight, std=0.1)
            nn.init.zeros_(self.embedding.weight[:, -1])
            self.recurrent = LAYERS[cell](size, size, batch_first=True)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return the logits of the word that follows each one, (B, T, V), as `NextWordLSTM`."""
        outputs, _ = self.recurrent(self.dropout(self.embedding(tokens)[..., :-1]))  # (B, T, E)
        vectors, bias = self.embedding.weight[:, :-1], self.embedding.weight[:, -1]
        return self.dropout(outputs) @ vectors.T + bias
