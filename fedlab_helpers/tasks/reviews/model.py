"""Sentiment classifiers: a layer that reads, and what it makes of a review."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fedlab_helpers.core.identity import digest
from fedlab_helpers.core.model import SeededDropout
from fedlab_helpers.core.require import require, require_count
from fedlab_helpers.tasks.layers import LAYERS

POOLINGS = ("last", "mean")


@contextmanager
def weights_from(seed: int | None) -> Iterator[None]:
    """Let the layers made within draw their weights from this seed, and leave torch's global
    generator as it was; None: they draw from that one."""
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.default_generator.manual_seed(int(seed))  # torch.manual_seed reseeds GPUs too
        yield


class SentimentLSTM(nn.Module):
    """Embedding, one layer that reads, recurrent as a rule, and a linear one over what it says.

    Args:
        vocab_size: number of word ids.
        embedding_dim: size E of a word's vector.
        hidden_size: size H of the recurrent state.
        num_classes: number C of classes.
        cell: the layer, a name in `LAYERS`: "lstm", "gru", "rnn" (tanh), "mingru", "transformer"
            or "bag" (with pooling "last" the mean of the words' vectors).
        pooling: "last" takes the output at each review's last word, "mean" the mean over its
            words. Neither sees the padding: the layers are causal, so what stands to the right of
            a word cannot change its output.
        dropout: share of the embedding's and of the pooled values dropped while training.
        seed: seed of the initial weights; None draws them from torch's global generator.

    Raises:
        ValueError: a name or size is not among those above.
    """

    token_parameter = "embedding.weight"  # row i is used by word id i and by nothing else

    def __init__(
        self,
        vocab_size: int,
        embedding_dim: int = 64,
        hidden_size: int = 64,
        num_classes: int = 2,
        *,
        cell: str = "lstm",
        pooling: str = "last",
        dropout: float = 0.0,
        seed: int | None = None,
    ):
        super().__init__()
        require(cell in LAYERS, "cell", cell, f"one of {sorted(LAYERS)}")
        require(pooling in POOLINGS, "pooling", pooling, f"one of {list(POOLINGS)}")
        require_count(vocab_size=vocab_size, embedding_dim=embedding_dim)
        require_count(hidden_size=hidden_size, num_classes=num_classes)
        self.pooling = pooling
        self.dropout = SeededDropout(dropout)
        with weights_from(seed):
            self.embedding = nn.Embedding(vocab_size, embedding_dim, padding_idx=0)
            self.recurrent = LAYERS[cell](embedding_dim, hidden_size, batch_first=True)
            self.head = nn.Linear(hidden_size, num_classes)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return the logits.

        Args:
            tokens: right-padded word ids, (B, T) int64.
            lengths: words in each review, (B,) int64, from 1 to T.

        Returns:
            Logits, (B, C).
        """
        vectors = self.dropout(self._vectors(tokens))  # (B, T, E)
        outputs, _ = self.recurrent(vectors)  # (B, T, H)
        return self.head(self.dropout(self._pool(outputs, lengths)))  # (B, C)

    def _vectors(self, tokens: Tensor) -> Tensor:
        return self.embedding(tokens)

    def _pool(self, outputs: Tensor, lengths: Tensor) -> Tensor:
        if self.pooling == "last":
            return outputs[torch.arange(len(lengths), device=outputs.device), lengths - 1]
        steps = torch.arange(outputs.shape[1], device=outputs.device)
        inside = (steps < lengths[:, None]).unsqueeze(-1)  # (B, T, 1)
        return (outputs * inside).sum(1) / lengths[:, None]


class OwnWordsLSTM(SentimentLSTM):
    """The same model, with a second table of word vectors that is added to the first.

    It begins at zero. Kept private in a federated run, it lets a client's words mean something of
    their own, while what is common is still learnt together (a "residual" personal embedding).
    """

    own_token_parameter = "own.weight"

    def __init__(self, vocab_size: int, *sizes: int, **options):
        super().__init__(vocab_size, *sizes, **options)
        nothing = torch.zeros_like(self.embedding.weight)
        self.own = nn.Embedding.from_pretrained(nothing, freeze=False, padding_idx=0)

    def _vectors(self, tokens: Tensor) -> Tensor:
        return self.embedding(tokens) + self.own(tokens)


class FrozenWords(nn.Module):
    """Word vectors that nobody trains or sends: they are no part of the model's state.

    Args:
        vectors: (V, E) float32; row i is that of word id i.
    """

    def __init__(self, vectors: Tensor):
        super().__init__()
        self.register_buffer("vectors", vectors.detach().clone(), persistent=False)
        self.known_as = digest(self.vectors)  # by which a checkpoint knows them

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the vector of each id, (…, E), of ids (…) int64."""
        return self.vectors[tokens]


class PublicWordsLSTM(SentimentLSTM):
    """The same model over word vectors that are known beforehand and stay as they are.

    Its state is the recurrent layer and the linear one: a few thousand numbers, so that noise that
    protects clients has little to hide in.

    Args:
        vectors: (V, E) float32, finite, of each word id, as `privacy.public_vectors` makes them.
        hidden_size: size H of the recurrent state.
        num_classes: number C of classes.
        pooling, options: as in `SentimentLSTM`; so is what is raised.
    """

    token_parameter = None

    def __init__(
        self,
        vectors: Tensor,
        hidden_size: int = 16,
        num_classes: int = 2,
        *,
        pooling: str = "mean",
        **options,
    ):
        fine = vectors.dim() == 2 and vectors.dtype == torch.float32
        came = f"{tuple(vectors.shape)} {vectors.dtype}"
        require(fine and bool(vectors.isfinite().all()), "vectors", came, "(V, E) float32, finite")
        super().__init__(1, vectors.shape[1], hidden_size, num_classes, pooling=pooling, **options)
        self.embedding = FrozenWords(vectors)
