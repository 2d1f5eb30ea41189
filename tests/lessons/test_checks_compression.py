"""Checks of notebook 09: right answers pass, likely mistakes get their own hint."""

import torch
from verdicts import refused

from fedlab_helpers.lessons.checks import compression as checks
from fedlab_helpers.recipe import Recipe, Result


def test_breaks_even():
    assert checks.breaks_even(0.2).passed
    refused(checks.breaks_even(0.25), "beside its position")
    refused(checks.breaks_even(20), "between 0 and 1")
    refused(checks.breaks_even("20%"), "such as 0.4")
    refused(checks.breaks_even(1 / 3), "64-bit positions")
    refused(checks.breaks_even(0.5), "got 0.5")


def test_stochastic_round():
    assert checks.stochastic_round(lambda v, d: (v + d).floor()).passed
    assert checks.stochastic_round(lambda v, d: v.floor() + (d < v - v.floor())).passed
    assert checks.stochastic_round(
        lambda v, d: [float(a + b) // 1 for a, b in zip(v, d, strict=True)]
    ).passed
    refused(checks.stochastic_round(lambda v, d: v.round()), "nearest")
    refused(checks.stochastic_round(lambda v, d: (v + d).trunc()), "floor")
    refused(checks.stochastic_round(lambda v, d: v), "no whole numbers")
    refused(checks.stochastic_round(lambda v, d: (v + d).ceil()), "3, which is whole, 4.00")
    refused(checks.stochastic_round(lambda v, d: v.floor() + (d < 0.5)), "part behind the point")
    refused(checks.stochastic_round(lambda v, d: v.floor()), "on average")
    wide = lambda v, d: (v + d).floor() + torch.where(d < 0.5, 1, -1) * (v % 1 != 0)  # noqa: E731
    refused(checks.stochastic_round(wide))
    refused(checks.stochastic_round(lambda v, d: v[:3].floor()), "for each value")


def pack(codes, low_first=True):
    codes = [*codes, 0] if len(codes) % 2 else [*codes]
    pairs = zip(codes[::2], codes[1::2], strict=True)
    return bytes(a | b << 4 if low_first else a << 4 | b for a, b in pairs)


def test_pack_nibbles():
    assert checks.pack_nibbles(pack).passed
    refused(checks.pack_nibbles(lambda codes: pack(codes, low_first=False)), "low")
    refused(checks.pack_nibbles(bytes), "half of each byte")
    refused(checks.pack_nibbles(lambda codes: pack(codes[:4])), "three bytes")
    refused(checks.pack_nibbles(lambda codes: bytes(3)), "21 0f 07")
    refused(checks.pack_nibbles(lambda codes: pack(codes)[:-1] + b"\xf7"), "four zeros above")
    refused(checks.pack_nibbles(lambda codes: pack(codes) or b"\0"), "no codes")
    refused(checks.pack_nibbles(lambda codes: list(pack(codes))), "expected bytes")


def turn(update, residual, k, *, add=True, by_size=True, forget=False):
    wanted = update + residual
    ranked = wanted if add else update
    places = (ranked.abs() if by_size else ranked).topk(k).indices
    sent = torch.zeros_like(update)
    sent[places] = ranked[places]
    return sent, (update if forget else wanted) - sent


def test_turn():
    assert checks.one_turn(turn).passed
    refused(checks.one_turn(lambda *a: turn(*a, add=False)), "before")
    refused(checks.one_turn(lambda *a: turn(*a, by_size=False)), "size")
    refused(checks.one_turn(lambda *a: turn(*a, forget=True)), "must not vanish")
    refused(checks.one_turn(lambda u, r, k: turn(u, r, 1)), "k is 2")
    refused(checks.one_turn(lambda u, r, k: (turn(u, r, k)[0], u)), "expected update + residual")
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
