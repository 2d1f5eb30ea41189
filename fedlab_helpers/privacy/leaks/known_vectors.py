"""Words of a gradient that has no table of words: their vectors are known, and that is enough.

The gradient of the input weights is a sum over words, each the gradient at the gates times the
word's vector. So its rows lie in the space that these vectors span, and of all words of the
vocabulary hardly another one does. For Transformers this is how DAGER begins: Petrov et al. 2024,
arXiv:2405.15586.
"""

import copy

import torch
from torch import Tensor, nn

from fedlab_helpers.core.require import require
from fedlab_helpers.core.state import State
from fedlab_helpers.tasks.reviews.model import FrozenWords

_ROUNDING = 1e-7  # of a float32 gradient, relative to its largest singular value
_OUTSIDE = 0.1  # of a vector, what may lie outside of the space


def alike(vectors: Tensor) -> Tensor:
    """Return for each word the first word, padding left out, that has the same vector, (V,) int64:
    nobody can tell these apart.

    Args:
        vectors: of each word id, (V, E); id 0 is padding.
    """
    _, group = vectors[1:].unique(dim=0, return_inverse=True)
    first = torch.full_like(group, len(group)).scatter_reduce(
        0, group, torch.arange(len(group)), "amin"
    )
    return torch.cat([torch.zeros(1, dtype=torch.int64), 1 + first[group]])


def outside(vectors: Tensor, gradient: State) -> Tensor:
    """Return how much of each word's vector lies outside of the space that a gradient's words span,
    (V,) float64, from 0 to 1; 1 for padding, and for all where the gradient spans everything.

    The bias gets a word's gradient as well, so it counts as one more value of a vector, which is 1
    for all words. Then even a word whose vector is 0 is seen.

    Args:
        vectors: of each word id, (V, E), as the model reads them; id 0 is padding.
        gradient: of a recurrent layer `recurrent`, by name, or a multiple of it.
    """
    seen, table = _with_bias(gradient), _with_ones(vectors)
    _, sizes, axes = torch.linalg.svd(seen, full_matrices=False)
    axes = axes[sizes > _ROUNDING * sizes[0]]
    if len(axes) == table.shape[1]:
        return torch.ones(len(vectors), dtype=torch.float64)
    table = nn.functional.normalize(table)
    left = (table - table @ axes.T @ axes).norm(dim=1)
    left[0] = 1
    return left


def with_table(model: nn.Module, gradient: State) -> tuple[nn.Module, State]:
    """Return the same model with a table of words to train, and its gradient, rows and all: what
    reads a gradient with rows reads these.

    Of words with the same vector it is the first. A word's vector has one more value, 1, which
    takes the place of the bias.

    Args:
        model: as it was when the gradient was taken; its word vectors are `embedding.vectors`.
        gradient: of the model's parameters, by name, or a positive multiple of it.

    Raises:
        ValueError: the model has a table; or the gradient spans no word, or all there are.
    """
    frozen = isinstance(model.embedding, FrozenWords)
    require(frozen, "model.embedding", model.embedding, "FrozenWords: with rows, read these")
    vectors = model.embedding.vectors
    words = (outside(vectors, gradient) < _OUTSIDE).nonzero()[:, 0]
    words = alike(vectors)[words].unique()
    some = f"1 to {vectors.shape[1]} words"
    require(len(words) > 0, "gradient", "the space of no word, or of all", some)
    table, seen = _with_ones(vectors), _with_bias(gradient)
    gates = torch.linalg.lstsq(table[words].T, seen.T, driver="gelsd").solution  # (n, G)
    whole, layer = copy.deepcopy(model), model.recurrent
    whole.embedding = nn.Embedding.from_pretrained(table.float(), freeze=False, padding_idx=0)
    whole.recurrent = type(layer)(table.shape[1], layer.hidden_size, batch_first=True)
    state = layer.state_dict()
    weight = torch.cat([state["weight_ih_l0"], state["bias_ih_l0"][:, None]], 1)
    nothing = torch.zeros_like(state["bias_ih_l0"])
    whole.recurrent.load_state_dict(state | {"weight_ih_l0": weight, "bias_ih_l0": nothing})
    rows = torch.zeros_like(table).index_copy(0, words, gates @ weight.double())
    own = {"embedding.weight": rows, "recurrent.weight_ih_l0": seen.float()}
    return whole, gradient | own


def _with_bias(gradient: State) -> Tensor:
    known = "recurrent.weight_ih_l0" in gradient
    require(known, "gradient", sorted(gradient), "that of an LSTM, GRU or RNN called recurrent")
    weight, bias = (gradient[f"recurrent.{name}_ih_l0"].double() for name in ("weight", "bias"))
    return torch.cat([weight, bias[:, None]], 1)  # (G, E + 1)


def _with_ones(vectors: Tensor) -> Tensor:
    return torch.cat([vectors, vectors.new_ones(len(vectors), 1)], 1).double()  # (V, E + 1)
