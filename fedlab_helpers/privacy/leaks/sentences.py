"""Whole sentences out of one gradient of a recurrent classifier, with a certificate."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from fedlab_helpers.core.require import require_count
from fedlab_helpers.core.state import State
from fedlab_helpers.privacy.leaks.certificate import Sentence, gives
from fedlab_helpers.privacy.leaks.dominoes import Chains, Table, dominoes
from fedlab_helpers.privacy.leaks.words import clock

LONGEST = 64  # words of a sentence
_WIDTH = 8  # chains that are followed, for each sentence
_PLAY = {True: (1e-3,), False: (1e-5, 1e-3)}  # whether there is one sentence -> states' tolerance
_EXPLAINED = 1e-3  # of the head's gradient, what rounding leaves


def read(model: nn.Module, gradient: State, sentences: int = 1) -> list[Sentence]:
    """Return the sentences behind a gradient of their mean loss, as well as they can be read.

    Args:
        model: as it was when the gradient was taken, without dropout: `embedding`, a recurrent
            layer `recurrent` of one direction, `pooling` "last" or "mean", and a linear `head`.
        gradient: of the model's parameters, by name, or a positive multiple of it, such as the
            change that one step of plain SGD makes, negated. Of two classes, a negative multiple
            is a gradient too: that of the other class.
        sentences: how many there are.

    Returns:
        The sentences, in no order, all certified or none. Where they do not explain the head's
        gradient: one, of the touched words in the order of the `clock`, each once.

    Raises:
        ValueError: `dominoes` refuses the gradient or the model.
    """
    require_count(sentences=sentences)
    tiles = dominoes(model, gradient)
    likely: list[Sentence] = []
    with torch.no_grad():
        for play in _PLAY[sentences == 1]:
            for found in _Reader(model, gradient, sentences).found(Table(model, tiles), play):
                likely = found
                if gives(model, found, gradient):
                    return [replace(sentence, certified=True) for sentence in found]
    return likely or [_by_clock(gradient, clock(gradient["embedding.weight"]))]


def attempt(model: nn.Module, gradient: State, sentences: int, distinct: int) -> list[Sentence]:
    """Return what `read` does; where it refuses, for noise touches all rows, the words of the
    largest rows in the order of the `clock`, as many as there are `distinct` ones."""
    try:
        return read(model, gradient, sentences)
    except ValueError:
        order = clock(gradient["embedding.weight"])
        return [_by_clock(gradient, order[-distinct:])]


def _by_clock(gradient: State, order: Tensor) -> Sentence:
    return Sentence(tuple(order.tolist()), int(gradient["head.bias"].argmin()), False)


class _Reader:
    """Lays dominoes until what the head saw is explained."""

    def __init__(self, model: nn.Module, gradient: State, sentences: int):
        self.pooling, self.sentences = model.pooling, sentences
        head, bias = gradient["head.weight"].double(), gradient["head.bias"].double()
        self.head = torch.cat([head, bias[:, None]], 1)  # (C, H + 1)

    def found(self, table: Table, play: float):
        """Yield sentences that use all words and explain the head's gradient. Of several, each is
        likely to end where no word fits; but one that ends in the same word again and again may
        end anywhere."""
        chains, ends, all_chains = table.empty(), [], []
        for length in range(1, LONGEST + 1):
            chains, stuck = table.lay(chains, play, _WIDTH * self.sentences)
            if self.sentences == 1 and length >= len(table.tiles.words):
                yield from self._explained(table, [chains])
            elif self.sentences > 1:
                ends += [stuck] if length > 1 else []
                all_chains.append(chains)
            if not len(chains):
                break
        if self.sentences > 1:
            yield from self._explained(table, [*ends, chains])
            yield from self._explained(table, all_chains)

    def _explained(self, table: Table, ends: Sequence[Chains]):
        pooled = torch.cat([chains.pooled(self.pooling) for chains in ends])
        views = torch.cat([pooled, pooled.new_ones(len(pooled), 1)], 1)
        chosen, weights = explain(self.head, views, self.sentences)
        places = [row for chains in ends for row in chains.places.tolist()]
        laid = [places[k] for k in chosen]
        if laid and len(set().union(*laid)) == len(table.tiles.words):
            words = table.tiles.words
            yield [
                Sentence(tuple(words[row].tolist()), int(weight.argmin()), False)
                for row, weight in zip(laid, weights.T, strict=True)
            ]


def explain(head: Tensor, views: Tensor, count: int) -> tuple[list[int], Tensor]:
    """Return which of the views explain a head's gradient as their combination.

    One after the other, that which explains most of what is left: orthogonal matching pursuit
    (Pati et al. 1993).

    Args:
        head: gradient of the head's weights and, in the last column, bias, (C, H + 1).
        views: what the head may have seen, with a one behind it, (k, H + 1).
        count: how many it saw.

    Returns:
        Their rows, and the weight of each for each class, (C, count); no row if they do not
        explain it.
    """
    chosen: list[int] = []
    rest, free, weights = head, views, head[:, :0]
    for _ in range(min(count, len(views))):
        size = free.square().sum(1)
        gain = (rest @ free.T).square().sum(0) / size.clamp(min=1e-12)
        chosen.append(int(gain.masked_fill(size < 1e-9, -1.0).argmax()))
        weights = torch.linalg.lstsq(views[chosen].T, head.T).solution.T
        rest = head - weights @ views[chosen]
        basis, _ = torch.linalg.qr(views[chosen].T)
        free = views - views @ basis @ basis.T
    fine = len(chosen) == count and bool(rest.norm() < _EXPLAINED * head.norm())
    return (chosen if fine else []), weights
