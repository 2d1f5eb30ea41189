"""Recurrent sentiment classifiers, and dropout that draws from a generator of its own."""

from numbers import Integral

import torch
from torch import Tensor, nn

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
POOLINGS = ("last", "mean")


class SeededDropout(nn.Module):
    """Dropout whose masks come from `generator`.

    `nn.Dropout` draws from torch's one global CPU generator: clients that train in threads would
    then take each other's random numbers, and no run would repeat.

    Args:
        p: probability that a value is set to zero, in [0, 1).
    """

    def __init__(self, p: float):
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout: got {p!r}, expected a probability in [0, 1)")
        self.p = p
        self.generator: torch.Generator | None = None  # None: torch's global one

    def forward(self, values: Tensor) -> Tensor:
        """Return `values` with a random share set to zero and the rest scaled by 1/(1-p)."""
        if not self.training or self.p == 0:
            return values
        draws = torch.rand(values.shape, generator=self.generator, device=values.device)
        return values * (draws >= self.p) / (1 - self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class SentimentLSTM(nn.Module):
    """Embedding, one recurrent layer, and a linear layer over what it remembers.

    Args:
        vocab_size: number of word ids.
        embedding_dim: size E of a word's vector.
        hidden_size: size H of the recurrent state.
        num_classes: number C of classes.
        cell: "lstm", "gru" or "rnn" (tanh).
        pooling: "last" takes the output at each review's last word, "mean" the mean over its
            words. Neither sees the padding: a recurrent layer is causal, so what stands to the
            right of a word cannot change its output.
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
        if cell not in CELLS:
            raise ValueError(f"cell: got {cell!r}, expected one of {sorted(CELLS)}")
        if pooling not in POOLINGS:
            raise ValueError(f"pooling: got {pooling!r}, expected one of {list(POOLINGS)}")
        _require_sizes(
            vocab_size=vocab_size,
            embedding_dim=embedding_dim,
            hidden_size=hidden_size,
            num_classes=num_classes,
        )
        self.pooling = pooling
        self.dropout = SeededDropout(dropout)
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.default_generator.manual_seed(seed)  # torch.manual_seed reseeds GPUs too
            self.embedding = nn.Embedding(vocab_size, embedding_dim, padding_idx=0)
            self.recurrent = CELLS[cell](embedding_dim, hidden_size, batch_first=True)
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


def _require_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if not isinstance(size, Integral) or size < 1:
            raise ValueError(f"{name}: got {size!r}, expected a positive integer")


def use_own_randomness(model: nn.Module) -> nn.Module:
    """Replace, in place, each `nn.Dropout` by `SeededDropout`, and return the model.

    Raises:
        ValueError: a module draws random numbers in another way that cannot be seeded; the
            message names it.
    """
    # One module under two names must be replaced under both.
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if type(module) is nn.Dropout:
            owner, _, leaf = name.rpartition(".")
            seeded = SeededDropout(module.p).train(module.training)
            setattr(model.get_submodule(owner), leaf, seeded)
        elif _draws_globally(module):
            raise ValueError(
                f"model: {name or 'the model itself'} is a {type(module).__name__} that draws from "
                "torch's global generator, so clients in threads would not be repeatable; use "
                "nn.Dropout or models.SeededDropout between layers instead"
            )
    return model


def _draws_globally(module: nn.Module) -> bool:
    if isinstance(module, nn.modules.dropout._DropoutNd | nn.RReLU):
        return module.p > 0 if hasattr(module, "p") else True
    return isinstance(module, nn.RNNBase | nn.MultiheadAttention) and module.dropout > 0


def seed_dropout(model: nn.Module, generator: torch.Generator) -> None:
    """Let every `SeededDropout` of the model draw from `generator`, on the model's device."""
    for module in model.modules():
        if isinstance(module, SeededDropout):
            module.generator = generator
