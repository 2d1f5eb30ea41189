"""Checks of notebook 09: sending less."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fedlab_helpers.lessons.checks.verdict import (
    Hint,
    Verdict,
    exercise,
    near,
    number,
    right,
    slip,
    tensor,
    wrong,
)
from fedlab_helpers.recipe import Recipe, Result

FACTOR, ACCURACY, ROUNDS = 300, 0.78, 10  # of the open exercise


@exercise("say from which share on 8-bit values with 32-bit positions are larger than all values")
def breaks_even(answer: float) -> Verdict:
    """Judge the share at which pairs of value and position cost as much as all values."""
    answer = number(answer)
    if near(answer, 0.2, 0.025):
        return right(
            "a pair takes 1 + 4 bytes, a value 1. The better values are compressed, the more their "
            "positions weigh: with 1-bit values and 32-bit positions it is one in 33."
        )
    if not 0 <= answer <= 1:
        return wrong(f"a share is a number between 0 and 1, such as 0.4; got {answer!r}.")
    slips = {
        "the value itself is sent beside its position.": 0.25,
        "that was for 64-bit positions and 32-bit values.": 1 / 3,
    }
    general = f"got {answer}; how many bytes is a pair, and how many is a value alone?"
    return wrong(slip(answer, slips, 0.02) or general)


@exercise("write `stochastic_round`: to one of two neighbouring integers, right on average")
def stochastic_round(function: Callable[[Tensor, Tensor], Tensor]) -> Verdict:
    """Judge a function of (values, draws) -> whole numbers."""
    values = torch.tensor([0.25, -0.25, 3.0, -2.0, 2.75])
    many = values.repeat_interleave(4000)
    draws = torch.rand(len(many), generator=torch.Generator().manual_seed(0))
    got = tensor(function(many.clone(), draws.clone()), "a whole number for each value")
    if got.shape != many.shape:
        return wrong(f"expected a whole number for each value, {tuple(many.shape)}.")
    if not torch.equal(got, tensor(function(many.clone(), draws.clone()))):
        return wrong("the same values and draws gave two results: draw nothing of your own.")
    if not torch.equal(got, got.round()):
        return wrong("some results are no whole numbers.")
    got = got.view(5, 4000)
    means = got.double().mean(1)
    if near(got, (many + draws).trunc().view(5, 4000)):
        return wrong("`trunc` and `int` cut towards zero. What does `floor` do below zero?")
    if near(means, values.round()):
        return wrong("this rounds to the nearest, always the same way. Use the draws.")
    if not near(got[2:4], values[2:4, None].expand(2, 4000)):
        return wrong(
            f"0.25 becomes {means[0]:.2f} on average, and 3, which is whole, {means[2]:.2f}: the "
            "probability of going up should be the part behind the point."
        )
    if near(got, tensor(function(many.clone(), 1 - draws)).view(5, 4000)):
        return wrong("other draws give the same result: let `draws` decide which way it goes.")
    off = (means - values).abs()
    if (off > 0.05).any():
        worst = int(off.argmax())
        return wrong(f"{values[worst]:g} becomes {means[worst]:.2f} on average of 4,000 draws.")
    if ((got - values[:, None]).abs() >= 1).any():
        return wrong("right on average, but a result is a whole step away: take a neighbour.")
    return right("unbiased, on both sides of zero: `floor(values + draws)` is all it takes.")


@exercise("write `one_turn`: a client's turn with top-k and error feedback")
def one_turn(function: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]) -> Verdict:
    """Judge a function of (update, residual, k) -> (sent, new residual)."""
    update, residual = torch.tensor([3.0, 2.0, 0.0, -1.0]), torch.tensor([-2.5, 2.0, -5.0, 4.0])
    given = update.clone(), residual.clone()
    got = function(*given, 2)
    if not isinstance(got, tuple | list) or len(got) != 2:
        return wrong("expected two tensors: what is sent, and the new residual.")
    if not (torch.equal(given[0], update) and torch.equal(given[1], residual)):
        return wrong("a tensor that came in was changed: make new ones.")
    sent, kept = (tensor(part, "a tensor") for part in got)
    if sent.shape != update.shape or kept.shape != update.shape:
        return wrong("both have the shape of the update, with zeros where nothing is.")
    right_sent = torch.tensor([0.0, 4.0, -5.0, 0.0])
    right_kept = torch.tensor([0.5, 0.0, 0.0, 3.0])
    if near(sent, right_kept) and near(kept, right_sent):
        return wrong("these are the two, the other way round: first what is sent.")
    if sent[0] != 0:
        return wrong("add the residual *before* choosing the largest.")
    alone = {
        f"the right places, but there stand values of the {name}: send the sum.": part.where(
            right_sent != 0, 0
        )
        for name, part in (("update alone", update), ("residual alone", residual))
    }
    if hint := slip(sent, alone):
        return wrong(hint)
    if int((sent != 0).sum()) != 2:
        return wrong(f"k is 2, but {int((sent != 0).sum())} values are sent.")
    if not near(sent, right_sent):
        return wrong(f"sent {sent.tolist()}; the largest in *size* of update + residual.")
    if near(kept, update - sent):
        return wrong("the residual is update + old residual - sent: the old one must not vanish.")
    if not near(kept, right_kept):
        return wrong(f"kept {kept.tolist()}, expected update + residual - sent.")
    fewer = function(update.clone(), residual.clone(), 1)[0]
    if not near(tensor(fewer, "a tensor"), torch.tensor([0.0, 0.0, -5.0, 0.0])):
        return wrong(f"with k = 1, sent {fewer}: `k` says how many.")
    return right("sent and kept are together all there was.")


@exercise(
    f"find settings without low rank with {FACTOR} times fewer bytes up and "
    f"{100 * ACCURACY:.0f}% accuracy"
)
def frugal(recipe: Recipe, results: Sequence[Result]) -> Verdict:
    """Judge the settings and the results of one run, as `recipe.run(task)` returns them."""
    results = list(results)
    if not isinstance(recipe, Recipe) or not results or not isinstance(results[-1], Result):
        return wrong("expected the settings, and what `recipe.run(task)` returns.")
    last = results[-1]
    told = f"{last.factor:.0f} times fewer bytes, {last.score:.1%} after {last.round} rounds"
    if recipe.keep == "lowrank":
        return wrong(f"{told}; but this time without low rank.")
    if recipe.partition != "iid":
        return wrong(f"{told}; but clients are dealt {recipe.partition!r}, not at random, 'iid'.")
    if last.round > ROUNDS:
        return wrong(f"{told}; {ROUNDS} rounds are allowed.")
    if last.factor < FACTOR:
        return wrong(f"{told}. Fewer bits a value, fewer values, or both?")
    if last.score < ACCURACY:
        return wrong(f"{told}. Is anything lost for good? And what makes up for waiting?")
    return right(f"{told}.")


Encode = Callable[[Tensor, torch.Generator], bytes]
Decode = Callable[[bytes, int], Tensor]
TRIALS, MOST_BYTES = 100, 1.0  # of one's own codec; a value


@exercise("write `encode` and `decode`: values to bytes, and back to about those values")
def own_codec(encode: Encode, decode: Decode) -> Verdict:
    """Judge a codec by what every codec owes: (values, (N,); generator) -> bytes, and (these
    bytes, N) -> values. It is small, what it says comes from the bytes alone, and it is either
    right on average or loses less than there was, whatever the values are."""
    vectors = _vectors()
    first = _decoded(encode, decode, vectors["normal ones"])[1]
    told, unbiased, contracts = [], True, True
    for name, values in vectors.items():
        off, lost = _judged(encode, decode, values)
        told.append(f"of {name} {lost:.1%} is lost")
        unbiased, contracts = unbiased and off < 4, contracts and lost < 1 - 1e-9
        if not (unbiased or contracts):
            return wrong(
                f"{'; '.join(told)}, and the mean of {TRIALS} draws is off: neither unbiased nor a "
                "contraction. Round at random, or lose less than there was."
            )
    again = _decoded(encode, decode, vectors["normal ones"])
    size = len(again[0]) / len(first)
    if size > MOST_BYTES + 0.07:
        return wrong(f"{size:.2f} bytes a value; at most {MOST_BYTES:g}, and some for a head.")
    kind = {
        (True, True): "unbiased, and a contraction",
        (True, False): "unbiased, so it needs no feedback, and would be blown up by it",
        (False, True): "a contraction, so error feedback repairs what it leaves out",
    }[unbiased, contracts]
    return right(f"{size:.2f} bytes a value; {'; '.join(told)}: {kind}.")


def _vectors() -> dict[str, Tensor]:
    """Return kinds of values that a codec meets, (1000,) and shorter; the name of each."""
    rng = torch.Generator().manual_seed(0)
    normal = torch.randn(1000, generator=rng)
    early, late, above = torch.zeros(1000), torch.zeros(1000), torch.full((500,), 0.03)
    early[7], late[-7], above[7] = -2.0, -2.0, 1.0
    kinds = {"normal ones": normal, "cubes of those": normal**3, "one alone": early}
    return kinds | {"one alone, late": late, "one above many": above, "seven": normal[:7] * 1e-3}


def _decoded(encode: Encode, decode: Decode, values: Tensor, seed: int = 0) -> tuple[bytes, Tensor]:
    """Return the payload, and what becomes of it. Raises Hint: that is no codec."""
    given = values.clone()
    payload = encode(given, torch.Generator().manual_seed(seed))
    if not isinstance(payload, bytes | bytearray):
        raise Hint(f"`encode` gave {type(payload).__name__}, expected bytes.")
    if not torch.equal(given, values):
        raise Hint("the values that came in were changed: make new ones.")
    got = tensor(decode(bytes(payload), len(values)), "a tensor of values")
    if got.shape != values.shape:
        raise Hint(f"{len(values)} values came back in the shape {tuple(got.shape)}.")
    if not got.isfinite().all():
        raise Hint("not all that comes back is finite.")
    return bytes(payload), got


def _judged(encode: Encode, decode: Decode, values: Tensor) -> tuple[float, float]:
    """Return how far the mean of many draws is off, 1 where it is as far as chance has it, and
    the share of the squared length that is lost. Raises Hint: `decode` remembers."""
    payload, before = _decoded(encode, decode, values)
    zeros = torch.zeros_like(values)
    if _decoded(encode, decode, zeros)[1].any():
        raise Hint("zeros become something else.")
    if not torch.equal(tensor(decode(payload, len(values))), before):
        raise Hint("bytes that were decoded before now say something else: all must be in them.")
    errors = torch.stack(
        [_decoded(encode, decode, values, seed)[1] - values.double() for seed in range(TRIALS)]
    )
    square = float(errors.square().sum(1).mean())
    length = float(values.double().square().sum())
    by_chance = square / TRIALS + 1e-10 * length
    return float(errors.mean(0).square().sum()) / by_chance, square / length
