"""Checks of notebook 09: right answers pass, likely mistakes get their own hint."""

import numpy as np
import torch
from verdicts import refused

from fedlab_helpers.compression import (
    Compressed,
    Everything,
    Float32,
    Quantized,
    RandomK,
    Ternary,
    TopK,
)
from fedlab_helpers.lessons.checks import compression as checks
from fedlab_helpers.recipe import Recipe, Result


def test_breaks_even():
    for answer in (0.2, 1 / 5, np.float32(0.2), torch.tensor(0.2), [0.2]):
        assert checks.breaks_even(answer).passed
    refused(checks.breaks_even(0.25), "beside its position")
    refused(checks.breaks_even(20), "between 0 and 1")
    refused(checks.breaks_even("20%"), "expected a number")
    refused(checks.breaks_even(1 / 3), "64-bit positions")
    refused(checks.breaks_even(0.5), "got 0.5")


def test_stochastic_round():
    assert checks.stochastic_round(lambda v, d: (v + d).floor()).passed
    assert checks.stochastic_round(lambda v, d: v.floor() + (d < v - v.floor())).passed
    assert checks.stochastic_round(
        lambda v, d: [float(a + b) // 1 for a, b in zip(v, d, strict=True)]
    ).passed
    for form in (torch.Tensor.int, torch.Tensor.double, torch.Tensor.numpy, torch.Tensor.tolist):
        assert checks.stochastic_round(lambda v, d, as_=form: as_((v + d).floor())).passed
    assert checks.stochastic_round(lambda v, d: (v + 1 - d).floor() - (d == 0) * (v % 1 == 0))
    assert checks.stochastic_round(lambda v, d: v.add_(d).floor_()).passed
    assert checks.stochastic_round(lambda v, d: d.add_(v).floor_()).passed
    own = lambda v, d: (v + torch.rand(len(v))).floor()  # noqa: E731
    refused(checks.stochastic_round(own), "draw nothing of your own")
    seeded = lambda v, d: own_draws(v)  # noqa: E731
    refused(checks.stochastic_round(seeded), "let `draws` decide")
    refused(checks.stochastic_round(lambda v, d: None), "`return`")
    refused(checks.stochastic_round(lambda v, d: v.round()), "nearest")
    refused(checks.stochastic_round(lambda v, d: (v + d).trunc()), "floor")
    refused(checks.stochastic_round(lambda v, d: v), "no whole numbers")
    refused(checks.stochastic_round(lambda v, d: (v + d).ceil()), "3, which is whole, 4.00")
    refused(checks.stochastic_round(lambda v, d: v.floor() + (d < 0.5)), "part behind the point")
    refused(checks.stochastic_round(lambda v, d: v.floor()), "let `draws` decide")
    wide = lambda v, d: (v + d).floor() + torch.where(d < 0.5, 1, -1) * (v % 1 != 0)  # noqa: E731
    refused(checks.stochastic_round(wide))
    refused(checks.stochastic_round(lambda v, d: v[:3].floor()), "for each value")


def own_draws(values):
    draws = torch.rand(len(values), generator=torch.Generator().manual_seed(9))
    return (values + draws).floor()


def turn(update, residual, k, *, add=True, by_size=True, forget=False):
    wanted = update + residual
    ranked = wanted if add else update
    places = (ranked.abs() if by_size else ranked).topk(k).indices
    sent = torch.zeros_like(update)
    sent[places] = ranked[places]
    return sent, (update if forget else wanted) - sent


def parts_of(part, update, residual, k):
    """Send only a part of the sum, from the right places."""
    places = (update + residual).abs().topk(k).indices
    sent = torch.zeros_like(update)
    sent[places] = part[places]
    return sent, update + residual - sent


def test_turn():
    for form in (torch.Tensor.double, torch.Tensor.numpy, torch.Tensor.tolist):
        assert checks.one_turn(lambda *a, as_=form: [as_(part) for part in turn(*a)]).passed
    refused(checks.one_turn(lambda u, r, k: parts_of(u, u, r, k)), "the update alone: send the sum")
    refused(checks.one_turn(lambda u, r, k: parts_of(r, u, r, k)), "the residual alone")
    refused(checks.one_turn(lambda u, r, k: turn(u, r, 0)), "k is 2, but 0")
    assert checks.one_turn(turn).passed
    refused(checks.one_turn(lambda *a: turn(*a, add=False)), "before")
    refused(checks.one_turn(lambda *a: turn(*a, by_size=False)), "size")
    refused(checks.one_turn(lambda *a: turn(*a, forget=True)), "must not vanish")
    refused(checks.one_turn(lambda u, r, k: turn(u, r, 1)), "k is 2")
    refused(checks.one_turn(lambda u, r, k: (turn(u, r, k)[0], u)), "expected update + residual")
    refused(checks.one_turn(lambda u, r, k: turn(u, r, 2)), "`k` says how many")
    refused(checks.one_turn(lambda u, r, k: (u[:2], r[:2])), "shape")
    refused(checks.one_turn(lambda *_: None), "two tensors")
    refused(checks.one_turn(lambda *a: turn(*a)[::-1]), "other way round")

    def in_place(update, residual, k):
        sent, kept = turn(update, residual, k)
        residual.copy_(kept)
        return sent, residual

    refused(checks.one_turn(in_place), "was changed")


def results(factor=400.0, accuracy=0.82, rounds=10):
    sent = {"bytes_up": 1000, "dense_bytes_up": int(1000 * factor)}
    return [Result(rounds, {"accuracy": accuracy}, **sent)]


def test_frugal():
    topk = Recipe(keep="topk", partition="iid")
    assert checks.frugal(topk, results()).passed
    refused(checks.frugal(topk, results(factor=200.0)), "200 times fewer")
    refused(checks.frugal(topk, results(accuracy=0.75)), "75.0%")
    refused(checks.frugal(topk, results(rounds=20)), "10 rounds are allowed")
    refused(checks.frugal(Recipe(keep="lowrank", partition="iid"), results()), "without low rank")
    refused(checks.frugal(Recipe(keep="topk", partition="by_domain"), results()), "'iid'")
    refused(checks.frugal(topk, []), "expected the settings")
    refused(checks.frugal(topk, ["result"]), "expected the settings")
    refused(checks.frugal("topk", results()), "expected the settings")


def sign(values, rng):
    scale = np.float32(values.abs().mean())
    return scale.tobytes() + np.packbits(values.numpy() >= 0).tobytes()


def unsign(payload, count):
    bits = np.unpackbits(np.frombuffer(payload[4:], np.uint8))[:count]
    return np.frombuffer(payload[:4], np.float32)[0] * (2.0 * bits - 1)


def unhalf(payload, count):
    """Return what came of the first half of the values, and zeros."""
    came = np.frombuffer(payload, np.float16)
    return np.concatenate([came, np.zeros(count - len(came))])


def few(write, keep=Everything()):  # noqa: B008
    """Return one of the package's codecs as a reader would write it."""
    codec = Compressed(keep, write)

    def encode(values, rng):
        return codec.encode({"v": values}, rng)

    return encode, lambda payload, count: codec.decode(payload)["v"]


def test_own_codec():
    assert "a contraction, so error feedback" in repr(checks.own_codec(sign, unsign).require())
    for write, kind in (
        (Quantized(8), "unbiased, and a contraction"),
        (Quantized(4), "unbiased, so it needs no"),
    ):
        assert kind in repr(checks.own_codec(*few(write)).require())
    assert "unbiased, so" in repr(checks.own_codec(*few(Ternary())).require())
    assert "contraction, so" in repr(checks.own_codec(*few(Float32(), TopK(0.1))).require())
    assert "contraction, so" in repr(checks.own_codec(*few(Float32(), RandomK(0.1, scaled=False))))
    assert checks.own_codec(*few(Float32(), RandomK(0.1))).passed
    packed, unpacked = few(Quantized(4))
    aslist = checks.own_codec(lambda *a: bytearray(packed(*a)), lambda *a: unpacked(*a).tolist())
    assert aslist.passed


def test_own_codec_that_is_none():
    encode, decode = few(Quantized(4))
    refused(checks.own_codec(*few(Float32())), "4.0", "bytes a value; at most 1")
    refused(checks.own_codec(lambda v, rng: v, decode), "`encode` gave Tensor, expected bytes")
    refused(checks.own_codec(encode, lambda p, n: decode(p, n)[:-1]), "came back in the shape")
    refused(checks.own_codec(encode, lambda p, n: 3 * decode(p, n)), "neither unbiased nor")
    refused(checks.own_codec(encode, lambda p, n: decode(p, n) + 1), "zeros become")
    refused(checks.own_codec(encode, lambda p, n: decode(p, n) / 0), "finite")
    refused(checks.own_codec(encode, lambda p, n: None), "`return`")
    refused(checks.own_codec(lambda v, rng: b"", lambda p, n: torch.zeros(n)), "100.0% is lost")
    half = lambda v, rng: v[: len(v) // 2].numpy().astype(np.float16).tobytes()  # noqa: E731
    refused(checks.own_codec(half, unhalf), "of one alone, late 100.0% is lost")
    last = []
    remembers = lambda v, rng: last.append(v) or b"!"  # noqa: E731
    refused(checks.own_codec(remembers, lambda p, n: last[-1]), "all must be in them")
    refused(checks.own_codec(lambda v, rng: encode(v.mul_(2), rng), decode), "were changed")
    refused(checks.own_codec(lambda v, rng: 1 / 0, decode), "ZeroDivisionError")
    assert not checks.own_codec(None, None).started
