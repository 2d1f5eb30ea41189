"""Each word of a gradient with the state that stood before it, and chains of such words.

The gradient of the input weights is a sum over words, each the gradient at the gates times the
word's vector; that of the recurrent weights is the same sum with the state before the word for its
vector. Which words there are is known, so the first sum is solved for the gates, and the second
for the states. The model itself, run from its first state, then says which word comes next.

That a linear layer's gradient holds its input is known since Phong et al. 2017 (eprint 2017/715)
and Geiping et al. 2020 (arXiv:2003.14053, proposition 3.1); here it is used at each step.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedlab_helpers.core.require import require
from fedlab_helpers.core.state import State
from fedlab_helpers.privacy.leaks.updates import require_gradient
from fedlab_helpers.privacy.leaks.words import clock

_ROUNDING = 1e-7  # of a float32 gradient, relative to its norm
_VAGUE = 0.05  # a state that may be off by this much, of -1 to 1, says nothing
_MISFIT = 3.4  # log of how many times further off than its blur a word may be
_DUE, _NOT_DUE = 0.5, 5.0  # misfits of vague words, by the clock


@dataclass(frozen=True, eq=False)
class Dominoes:
    """What a gradient tells of each of its n distinct words; float64.

    Args:
        words: their ids in the order of the `clock`, (n,).
        vectors: how the model reads them, (n, E).
        before: the state that stood before each, (n, H), as far as it can be `seen`.
        seen: projection on the part of a state that is told, (H, H). Where a word recurs, the
            differences of the states before it are not; the identity if none does.
        blur: by how much `before` may be off, (n,).
        recurring: how many words there are beyond the distinct ones.
    """

    words: Tensor
    vectors: Tensor
    before: Tensor
    seen: Tensor
    blur: Tensor
    recurring: int


def dominoes(model: nn.Module, gradient: State) -> Dominoes:
    """Return what a gradient tells of each of its words.

    Args:
        model: with which it was computed: `embedding`, one recurrent layer `recurrent`, `head`.
        gradient: of the model's parameters, by name; or a positive multiple of it.

    Raises:
        ValueError: `require_gradient` refuses it; there is no word, or more distinct ones than
            the embedding has dimensions; or the recurrent layer is none of those that can be read.
    """
    require_gradient(model, gradient)
    words = clock(gradient["embedding.weight"])
    vectors = model.embedding.weight.detach()[words].double()
    most = vectors.shape[1]
    require(1 <= len(words) <= most, "words", len(words), f"1 to {most}, as wide as a vector")
    told = _told_gates(model.recurrent)
    by_input, by_state = (gradient[f"recurrent.weight_{k}_l0"][told].double() for k in ("ih", "hh"))
    gates = torch.linalg.lstsq(vectors.T, by_input.T, driver="gelsd").solution  # (n, G)
    size = gates.norm(dim=1, keepdim=True).clamp(min=1e-300)
    basis, mixed = torch.linalg.qr((gates / size).T)  # (G, n), (n, n)
    before = torch.linalg.solve_triangular(mixed, basis.T @ by_state, upper=True) / size
    # What no vector explains is noise, such as the rounding of weights that an update went through.
    noise = (by_input - gates.T @ vectors).norm() / max(1, most - len(words)) ** 0.5
    noise = noise.clamp(min=_ROUNDING * float(by_state.norm()))
    # What the sums of a word's gates leave unexplained: gates of its single occurrences, each times
    # a difference of the states before them.
    _, strength, differences = torch.linalg.svd(by_state - basis @ (basis.T @ by_state))
    untold = differences[: int((strength > 3 * noise).sum())]
    seen = torch.eye(before.shape[1], dtype=torch.float64) - untold.T @ untold
    blur = noise * torch.linalg.inv(mixed).norm(dim=1) / size[:, 0]
    return Dominoes(words, vectors, before @ seen, seen, blur, len(untold))


def _told_gates(recurrent: nn.Module) -> slice:
    """Return the gates whose gradient is the same seen from the input and from the state."""
    known = isinstance(recurrent, nn.LSTM | nn.GRU | nn.RNN)
    fine = known and recurrent.num_layers == 1 and not recurrent.bidirectional
    require(fine, "model.recurrent", recurrent, "one layer in one direction: LSTM, GRU or RNN")
    # A GRU's candidate meets the state behind its reset gate, and the input without it.
    return slice(2 * recurrent.hidden_size if isinstance(recurrent, nn.GRU) else None)


@dataclass(frozen=True, eq=False)
class Chains:
    """k beginnings of a sentence, of t words each.

    Args:
        places: which dominoes they are made of, (k, t) int64.
        state: the layer's state after them, each part (k, H); its first is the output.
        total: sum of the outputs over the words, (k, H).
        misfit: how badly the words fit, summed, (k,).
    """

    places: Tensor
    state: tuple[Tensor, ...]
    total: Tensor
    misfit: Tensor

    def __len__(self) -> int:
        return len(self.places)

    def at(self, rows: Tensor) -> "Chains":
        """Return those of these rows."""
        state = tuple(part[rows] for part in self.state)
        return Chains(self.places[rows], state, self.total[rows], self.misfit[rows])

    def pooled(self, pooling: str) -> Tensor:
        """Return what the head would see of them, (k, H)."""
        return self.state[0] if pooling == "last" else self.total / self.places.shape[1]


class Table:
    """Where dominoes are laid: the recurrent layer in float64, and what there is to lay."""

    def __init__(self, model: nn.Module, tiles: Dominoes):
        self.tiles = tiles
        self.layer = copy.deepcopy(model.recurrent).double()

    def empty(self) -> Chains:
        """Return the one chain without words."""
        zero = self.tiles.before.new_zeros(1, self.tiles.before.shape[1])
        parts = 2 if isinstance(self.layer, nn.LSTM) else 1
        return Chains(torch.zeros(1, 0, dtype=torch.int64), (zero,) * parts, zero, zero[:, 0])

    def lay(self, chains: Chains, play: float, width: int) -> tuple[Chains, Chains]:
        """Return the chains with one word more, the `width` best, and those that no word fits.

        A word fits if the state that it followed is that of the chain, up to its blur and the
        `play`. A word of which this cannot be said, far back in an untrained network, comes in the
        order of the clock.
        """
        off = torch.cdist(chains.state[0] @ self.tiles.seen, self.tiles.before)  # (k, n)
        misfit = (off / (self.tiles.blur + play)).clamp(min=1.0).log()
        vague, due = self.tiles.blur > _VAGUE, self._due(chains)
        misfit = torch.where(vague, torch.where(due, _DUE, _NOT_DUE), misfit)
        fits = vague | (misfit < _MISFIT)
        misfit = (chains.misfit[:, None] + misfit).masked_fill(~fits, torch.inf).flatten()
        best = misfit.argsort()[: min(width, int(fits.sum()))]
        rows, words = best // len(self.tiles.words), best % len(self.tiles.words)
        longer = self._longer(chains.at(rows), words, misfit[best])
        return longer, chains.at((~fits.any(1)).nonzero()[:, 0])

    def _due(self, chains: Chains) -> Tensor:
        """Return whether a word is the first of the clock that is not laid yet, (k, n)."""
        laid = torch.zeros(len(chains), len(self.tiles.words), dtype=torch.bool)
        laid.scatter_(1, chains.places, True)
        return ~laid & (laid.logical_not().cumsum(1) == 1)

    def _longer(self, chains: Chains, words: Tensor, misfit: Tensor) -> Chains:
        state = tuple(part[None] for part in chains.state)
        given = state if len(state) > 1 else state[0]
        _, after = self.layer(self.tiles.vectors[words][:, None], given)
        state = tuple(part[0] for part in (after if len(state) > 1 else (after,)))
        places = torch.cat([chains.places, words[:, None]], 1)
        return Chains(places, state, chains.total + state[0], misfit)
