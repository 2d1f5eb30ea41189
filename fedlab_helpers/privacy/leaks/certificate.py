"""Whether sentences that were read are those behind a gradient, and no others."""

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from fedlab_helpers.core.state import State
from fedlab_helpers.privacy.leaks.words import touched

_AGREE = 1e-3  # of a row of the embedding's gradient, what rounding may leave unexplained
_BETTER = 30  # times as well as any of its rivals a sentence must explain it


@dataclass(frozen=True)
class Sentence:
    """A sentence as it was read: word ids, its class, and whether it is certain.

    `certified`: the sentences found stand the test of `gives`.
    """

    tokens: tuple[int, ...]
    label: int
    certified: bool


def gives(model: nn.Module, found: Sequence[Sentence], gradient: State) -> bool:
    """Return whether these sentences, and none much like them, give a gradient: the certificate.

    Put through the model, they must give it row by row of the embedding, up to one positive
    factor. A row keeps its own precision however small it is, so words far back are seen as well.
    Where a word recurs, early places may be lost in the rounding of late ones. So no rival may
    explain the rows nearly as well: a sentence with a word less that recurs, with neighbours
    exchanged of which one does, or with a word more in front.

    Args:
        model: as it was when the gradient was taken, `embedding.weight` its table of words.
        found: the sentences, in any order.
        gradient: of the model's parameters, by name, or a positive multiple of it.
    """
    words = touched(gradient["embedding.weight"])
    seen = gradient["embedding.weight"][words].double()
    rough = copy.deepcopy(model).float().eval().requires_grad_(False)
    model = copy.deepcopy(model).double().eval().requires_grad_(False)
    said = Counter(word for sentence in found for word in sentence.tokens)
    often = {word for word, times in said.items() if times > 1}
    each = [(s.tokens, s.label) for s in found]
    parts = _rows(model, each, words)
    off = float(_misfit(parts.sum(0, keepdim=True), seen))
    if off > _AGREE:
        return False
    for (tokens, label), own in zip(each, parts, strict=True):
        rivals = [(other, label) for other in _rivals(tokens, said, often)]
        for judge in (rough, model):  # the first, in float32, is quick, and rules most of them out
            rows = parts.sum(0) - own + _rows(judge, rivals, words)
            close = _misfit(rows, seen) <= _BETTER * off + (_AGREE if judge is rough else 0)
            rivals = [rival for rival, near in zip(rivals, close.tolist(), strict=True) if near]
            if not rivals:
                break
        else:
            return False
    return True


def _rivals(
    tokens: tuple[int, ...], words: Iterable[int], often: set[int]
) -> Iterator[tuple[int, ...]]:
    for word in words:
        yield (word, *tokens)
    for k, word in enumerate(tokens):
        if word in often and len(tokens) > 1:
            yield tokens[:k] + tokens[k + 1 :]
    for k, (one, other) in enumerate(pairwise(tokens)):
        if one != other and {one, other} & often:
            yield (*tokens[:k], other, one, *tokens[k + 2 :])


@torch.enable_grad()
def _rows(model: nn.Module, examples: Sequence[tuple], words: Tensor) -> Tensor:
    """Return each example's gradient of the words' rows, (k, n, E)."""
    tokens, labels = zip(*examples, strict=True)
    rows = [torch.tensor(row) for row in tokens]
    padded = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    vectors: list[Tensor] = []

    def keep(_module: nn.Module, _tokens: tuple, output: Tensor) -> Tensor:
        vectors.append(output.detach().requires_grad_())
        return vectors[-1]

    hook = model.embedding.register_forward_hook(keep)
    logits = model(padded, torch.tensor([len(row) for row in rows]))
    hook.remove()
    loss = nn.functional.cross_entropy(logits, torch.tensor(labels), reduction="sum")
    (steps,) = torch.autograd.grad(loss, vectors)  # (k, T, E)
    of_words = (padded[..., None] == words).double()
    return torch.einsum("kte,ktn->kne", steps.double(), of_words)


def _misfit(given: Tensor, seen: Tensor) -> Tensor:
    """Return by how much rows differ, relative to each row, the worst of them, (k,)."""
    scale = (seen * given).sum((1, 2)) / given.square().sum((1, 2))
    off = (seen - scale[:, None, None] * given).norm(dim=2) / seen.norm(dim=1)
    return off.amax(1).masked_fill(scale <= 0, torch.inf)
