"""A dial: the epsilon that is claimed, and as a needle the one that canaries tell."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch

from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.state import State
from fedlab_helpers.lessons.words import say
from fedlab_helpers.privacy.budget import Mechanism
from fedlab_helpers.privacy.canaries import Canaries, of_scores
from fedlab_helpers.privacy.private_mean import PrivateMean
from fedlab_helpers.tasks.reviews.model import PublicWordsLSTM

HIDDEN = 16  # size of the recurrent state
VECTOR = 64  # of a word's vector
LIKE = PublicWordsLSTM(torch.zeros(1, VECTOR), HIDDEN, seed=0).state_dict()
BARE = "recurrent.weight_hh_l0"  # the layer that is left without noise
CANARIES = Canaries(LIKE, 1000)  # the standard error of an epsilon of 8 is 5 %
CHANCE = 4.0  # standard errors that a needle may be off
LEAST = 0.01  # a noise multiplier below which no epsilon is worth telling
_LOW, _HIGH, _TICKS = 0.1, 1000.0, (0.1, 1, 10, 100, 1000)  # of the dial, a logarithmic one
_X, _Y, _RIM = 165, 160, 118  # its middle and its radius
_NEEDLE = (0.0, 78), (math.pi / 2, 5), (-math.pi / 2, 5)  # its corners: angle beside it, and radius


def _of(mean: PrivateMean, updates: list[State], names: tuple[str, ...] = tuple(LIKE)) -> State:
    """Return the noisy sum of these tensors of the updates, clipped as if they were all."""
    parts = (Update(0, {name: update[name] for name in names}) for update in updates)
    return mean({name: LIKE[name] for name in names}, parts)


def _bare(mean: PrivateMean, updates: list[State]) -> State:
    return {BARE: _of(replace(mean, noise_multiplier=0.0), updates)[BARE]}


# What is run under the same claim: of the mean that is claimed, and updates, the sum released.
MECHANISMS: Mapping[str, Callable[[PrivateMean, list[State]], State]] = {
    "as_claimed": _of,
    "clip_each_layer": lambda mean, updates: {n: _of(mean, updates, (n,))[n] for n in LIKE},
    "layer_without_noise": lambda mean, updates: _of(mean, updates) | _bare(mean, updates),
    "noise_tenth": lambda mean, updates: _of(
        replace(mean, noise_multiplier=mean.noise_multiplier / 10), updates
    ),
}


@dataclass(frozen=True)
class Needle:
    """What canaries tell of a mechanism.

    Args:
        epsilon: of the noise that they measured, with cohorts drawn as claimed.
        beyond: whether that is more than the claim, and chance.
    """

    epsilon: float
    beyond: bool


@cache
def _signal(kind: str) -> np.ndarray:
    """Return the canaries' scores of one round without noise, clipped to 1. They send the same in
    each round: it is clipped once, or a needle would take half a second."""
    return CANARIES.scores(MECHANISMS[kind](PrivateMean(1.0, 0.0, cohort=1), CANARIES.updates()))


@cache
def _mu(kind: str, noise_multiplier: float, rounds: int) -> float:
    """Return by how many standard deviations canaries inside are told from the others."""
    mean = PrivateMean(1.0, noise_multiplier, cohort=1)
    noise = sum(CANARIES.scores(MECHANISMS[kind](mean, [])) for _ in range(rounds))
    return of_scores(rounds * _signal(kind) + noise, CANARIES.inside).mu


@cache
def needle(kind: str, claimed: Mechanism) -> Needle:
    """Return what canaries tell of a mechanism of `MECHANISMS` that is said to be `claimed`.

    They take part in every round, so that they tell the noise that there is in effect, square root
    of rounds / `mu`; epsilon is that of a run with this noise, and cohorts drawn as claimed.
    """
    mu, root = _mu(kind, claimed.noise_multiplier, claimed.rounds), math.sqrt(claimed.rounds)
    expected, count = root / claimed.noise_multiplier, CANARIES.count
    beyond = mu > expected + CHANCE * math.sqrt(4 / count + expected**2 / (2 * count))
    if mu == 0 or root / mu < LEAST:
        return Needle(math.inf if mu else 0.0, beyond)
    return Needle(replace(claimed, noise_multiplier=root / mu).epsilon(), beyond)


def drawn(claim: float, told: Needle) -> str:
    """Return the dial as SVG; what lies beyond its ends is drawn there."""
    said = say("dial", claim=short(claim), told=short(told.epsilon))
    at = _turned(told.epsilon)
    (x, y), (left, top), (right, low) = (_place(at + by, r) for by, r in _NEEDLE)
    arcs = {"fl-rim": (_LOW, _HIGH)} | ({"fl-beyond": (claim, told.epsilon)} if told.beyond else {})
    parts = [
        *(f'<path d="{_arc(*map(_turned, ends))}" class="{look}"/>' for look, ends in arcs.items()),
        *(_line(value, _RIM - 8, _RIM + 5, "fl-notch") for value in _TICKS),
        *(_text(*_place(_turned(value), _RIM - 20), f"{value:g}", "fl-tick") for value in _TICKS),
        _line(claim, _RIM - 12, _RIM + 15, "fl-claim"),
        _text(*_place(_turned(claim), _RIM + 29), short(claim), "fl-title"),
        f'<polygon points="{x},{y} {left},{top} {right},{low}" class="fl-needle"/>',
        f'<circle cx="{_X}" cy="{_Y}" r="7" class="fl-needle"/>',
        _text(_X, _Y + 20, short(told.epsilon), "fl-title"),
    ]
    size = f'viewBox="0 0 {2 * _X} {_Y + 30}" role="img" aria-label="{said}"'
    return f"<svg {size}>{''.join(parts)}</svg>"


def short(epsilon: float) -> str:
    """Return an epsilon as one says it."""
    return "\N{INFINITY}" if epsilon > 1e5 else f"{float(f'{epsilon:.2g}'):,g}"


def _turned(epsilon: float) -> float:
    """Return the angle at which an epsilon stands, from pi on the left to 0 on the right."""
    share = math.log(min(max(epsilon, _LOW), _HIGH) / _LOW) / math.log(_HIGH / _LOW)
    return math.pi * (1 - share)


def _place(angle: float, radius: float) -> tuple[float, float]:
    return round(_X + radius * math.cos(angle), 1), round(_Y - radius * math.sin(angle), 1)


def _arc(begin: float, end: float) -> str:
    (x, y), (to_x, to_y) = _place(begin, _RIM), _place(end, _RIM)
    return f"M{x} {y} A{_RIM} {_RIM} 0 0 {int(end < begin)} {to_x} {to_y}"


def _line(value: float, inner: float, outer: float, look: str) -> str:
    (x1, y1), (x2, y2) = (_place(_turned(value), radius) for radius in (inner, outer))
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" class="{look}"/>'


def _text(x: float, y: float, text: str, look: str) -> str:
    return f'<text x="{x}" y="{y + 4:g}" text-anchor="middle" class="{look}">{text}</text>'
