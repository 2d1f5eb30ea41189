"""Checks of notebook 12: what protects."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from fedlab_helpers.core.compute import numpy_rng, torch_rng
from fedlab_helpers.core.state import State, norm
from fedlab_helpers.lessons.checks.verdict import (
    Hint,
    Verdict,
    exercise,
    near,
    number,
    right,
    slip,
    tensor,
    whole,
    wrong,
)
from fedlab_helpers.privacy.budget import epsilon_of

_PRIME = 97


def _whole_numbers(got: Sequence[int], count: int) -> list[int]:
    if not isinstance(got, list | tuple) or len(got) != count:
        raise Hint(f"return a list of {count} numbers, one for each client; got {got!r:.60}")
    found = [whole(each) for each in got]
    if None in found:
        raise Hint(f"whole numbers, please; got {got!r:.60}")
    return found


def _common(drawn: np.ndarray, i: int, j: int) -> int:
    if i == j:
        raise Hint("a client has no number in common with itself.")
    return int(drawn[min(i, j), max(i, j)])


@exercise("write `mask_all`: what each client sends, so that only the sum can be read")
def mask_all(function: Callable[[list[int], Callable[[int, int], int], int], list[int]]) -> Verdict:
    """Judge a function of (values, common(i, j), modulus) -> what each client sends."""
    for values, modulus, seed in (([12, 30, 5], 100, 0), ([7, 0, 250, 99], 256, 1)):
        clients = range(len(values))
        drawn = numpy_rng(seed, "masks").integers(1, modulus, (len(values), len(values)))

        def sent(drawn=drawn, values=values, modulus=modulus) -> list[int]:
            got = function(list(values), partial(_common, drawn), modulus)
            return _whole_numbers(got, len(values))

        got = sent()
        if not all(0 <= each < modulus for each in got):
            return wrong(f"modulo {modulus}, all lie from 0 to {modulus - 1}; got {got}.")
        if sum(got) % modulus != sum(values) % modulus:
            hint = "of each pair, one adds the common number and the other subtracts it."
            return wrong(f"the sum is {sum(got) % modulus}, was {sum(values) % modulus}: {hint}")
        for i, j in combinations(clients, 2):
            drawn[i, j] += 1
            moved = {k for k in clients if sent()[k] != got[k]}
            drawn[i, j] -= 1
            if moved != {i, j}:
                hint = "both, and nobody else, use what they have in common."
                return wrong(
                    f"another number for clients {i} and {j} moves {sorted(moved)}: {hint}"
                )
    return right("all that a server learns of three numbers is one.")


@exercise("write `secret_of`: the secret behind enough shares")
def secret_of(function: Callable[[Mapping[int, int], int], int]) -> Verdict:
    """Judge a function of (holder -> share, prime) -> the polynomial's value at 0."""
    for coefficients, holders in (((42, 13), (1, 2)), ((42, 13), (2, 5)), ((96, 1, 50), (1, 3, 4))):
        shares = {
            x: sum(c * x**power for power, c in enumerate(coefficients)) % _PRIME for x in holders
        }
        got = whole(function(dict(shares), _PRIME))
        if got is None:
            return wrong("a secret is a whole number: to divide, multiply by pow(x, -1, prime).")
        if got != coefficients[0]:
            hints = {
                coefficients[0] + _PRIME: "the right number, but not reduced modulo the prime.",
                sum(shares.values()) % _PRIME: "a sum of shares is a share of a sum.",
            }
            why = hints.get(
                got, "each share counts by the product over the others j of j / (j − i)."
            )
            return wrong(f"shares {shares}: got {got}, was {coefficients[0]}; {why}")
    return right("with one share fewer, each of the 97 numbers would fit as well.")


@exercise("write `clip_whole`: a change that is no longer than it may be")
def clip_whole(function: Callable[[State, float], State]) -> Verdict:
    """Judge a function of (change, norm) -> the change, scaled down to it if it is longer."""
    change = {"w": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.0])}
    cases = {
        "length 5, clipped to 1": (change, 1.0, [0.6, 0.0, 0.8]),
        "length 5, clipped to 10": (change, 10.0, [3.0, 0.0, 4.0]),
        "nothing, clipped to 1": ({n: t * 0 for n, t in change.items()}, 1.0, [0.0, 0.0, 0.0]),
    }
    for name, (given, most, expected) in cases.items():
        got = function({n: t.clone() for n, t in given.items()}, most)
        if not isinstance(got, dict) or got.keys() != given.keys():
            return wrong("return a dictionary with the same names.")
        values = torch.cat([tensor(got[n]).flatten() for n in given])
        if not bool(values.isfinite().all()):
            return wrong(f"{name}: not finite. Did you divide by zero?")
        if near(values, expected):
            continue
        slips = {
            "each tensor was clipped on its own: what is then the length of both?": [1.0, 0, 1.0],
            "a short change stays as it is.": [6.0, 0.0, 8.0],
        }
        return wrong(f"{name}: {slip(values, slips) or f'got {values.tolist()}'}")
    return right("all of a client's change counts as one vector: that is what epsilon is about.")


@exercise("write `noise_needed`: the noise multiplier that a budget asks for")
def noise_needed(function: Callable[[float, float, int], float]) -> Verdict:
    """Judge a function of (epsilon, delta, rounds) -> noise multiplier, with all in each round."""
    for epsilon, delta, rounds in ((8.0, 1e-5, 1), (8.0, 1e-5, 20), (1.0, 1e-6, 5)):
        got = number(function(epsilon, delta, rounds))
        if got <= 0:
            return wrong(f"got {got}; noise is above 0.")
        spent = epsilon_of(rounds**0.5 / got, delta)
        if spent <= epsilon * 1.0001 and spent > 0.99 * epsilon:
            continue
        for hint, other in {
            "that is the noise for one round; each further one tells more.": got * rounds**0.5,
            "noise adds up as its variance does: rounds count by their root.": got / rounds**0.5,
            "you return mu, or its inverse?": rounds / got,
        }.items():
            if 0.99 * epsilon < epsilon_of(rounds**0.5 / other, delta) <= epsilon * 1.0001:
                return wrong(f"ε = {epsilon:g}, {rounds} rounds: {hint}")
        amount = "more than needed" if spent < epsilon else "too little"
        return wrong(f"ε = {epsilon:g}, {rounds} rounds: {got:.3g} is {amount}: ε is {spent:.3g}.")
    return right("one line of mathematics is all that an accountant needs when nobody is drawn.")


@exercise("write `private_mean` without its three mistakes")
def mended(function: Callable[[list[State], list[int], float, float, Tensor], State]) -> Verdict:
    """Judge a function of (changes, examples, clip, cohort, noise) -> mean; noise in clips."""
    one, two = {"w": torch.tensor([6.0, 8.0])}, {"w": torch.tensor([0.0, 1.0])}
    noise = torch.tensor([1.0, -1.0])
    cases = {
        "two clients of two": ([one, two], [10, 10]),
        "two clients, one with many examples": ([one, two], [990, 10]),
        "one client where two were expected": ([one], [10]),
        "nobody": ([], []),
    }
    clip, cohort = 5.0, 2
    for name, (changes, examples) in cases.items():
        total = torch.zeros(2)
        for change in changes:
            total = total + change["w"] * min(1.0, clip / norm(change))
        expected = (total + clip * noise) / cohort
        try:
            got = function(changes, examples, clip, cohort, noise)["w"]
        except (ZeroDivisionError, IndexError, ValueError) as error:
            why = f"{type(error).__name__}: {error}"
            return wrong(f"{name}: {why}. If nobody came, noise alone is the answer.")
        if near(tensor(got), expected):
            continue
        hints = {
            "two clients of two": "clip each change, add them, add noise of clip · noise, divide.",
            "two clients, one with many examples": "who has more examples must not count more.",
            "one client where two were expected": "who came must not show in what is divided by.",
            "nobody": "who came must not show.",
        }
        return wrong(f"{name}: got {tensor(got).tolist()}, {expected.tolist()} due. {hints[name]}")
    return right("each of the three would have told how many came, or who.")


@exercise("write `words_to_keep`: a vocabulary that hardly depends on any one client")
def words_to_keep(
    function: Callable[[list[list[str]], int, float, Callable[[], float]], set[str]],
) -> Verdict:
    """Judge a function of (each client's words, most, threshold, noise()) -> the words kept."""

    def kept(clients: list[list[str]], most: int, threshold: float, noise=lambda: 0.0) -> set[str]:
        found = function([list(words) for words in clients], most, threshold, noise)
        if isinstance(found, str) or not hasattr(found, "__iter__"):
            raise Hint(f"return a set of words; got {type(found).__name__}.")
        return set(found)

    five = [["good"] * 3 + ["room"] * 2 + [f"own{k}"] for k in range(5)]
    if kept(five, 3, 4.5) != {"good", "room"}:
        return wrong("two words are used by all five clients: at a threshold of 4.5 they stay.")
    shuffled = [[f"own{k}", *["good"] * 2] for k in range(5)]
    if kept(shuffled, 1, 4.5) != {"good"}:
        return wrong("one vote each: a client votes for the words that it writes most often.")
    shouting = [*five, ["secret"] * 1_000]
    if "secret" in kept(shouting, 3, 4.5):
        return wrong("one client wrote a word a thousand times. It may have one vote for it only.")
    if kept([[f"w{k}" for k in range(50)]] * 5, 3, 4.5) - {f"w{k}" for k in range(50)}:
        return wrong("these are words that nobody wrote.")
    if len(kept([[f"w{k}" for k in range(50)]] * 5, 3, 0.5)) > 15:
        return wrong("a client may vote for `most` words only, however many it writes.")
    calls: list[int] = []
    kept(five, 3, 4.5, lambda: calls.append(1) or 0.0)
    if not calls:
        return wrong("without noise a count says exactly who was there: draw some for each count.")
    if len(calls) != 7:
        return wrong(
            f"votes name seven words, and `noise` was called {len(calls)} times: each count gets a "
            "number of its own, and one only."
        )
    rng = torch_rng(0, "votes")
    noisy = [kept(five, 3, 4.5, lambda: float(torch.randn((), generator=rng))) for _ in range(60)]
    if all(words == noisy[0] for words in noisy):
        return wrong("whatever the noise is, the same words stay: add it before the threshold.")
    if sum("good" in words for words in noisy) < 20:
        return wrong("a word of all clients gets lost too often: add noise once to each count.")
    return right("what everybody writes stays; what one client writes goes, but for rare luck.")
