"""Checks of notebook 08: right answers pass, likely mistakes get their own hint."""

import torch
from verdicts import not_yet, refused

from fedlab_helpers.checks import compression as checks
from fedlab_helpers.compression_run import Spot


def test_nothing_is_judged_before_it_is_begun():
    functions = (checks.stochastic_round, checks.pack_nibbles, checks.turn)
    not_yet(checks.breaks_even, checks.frugal, *functions, functions=functions)


def test_breaks_even():
    assert checks.breaks_even(0.2).passed
    refused(checks.breaks_even(0.25), "beside its position")
    refused(checks.breaks_even(20), "between 0 and 1")
    refused(checks.breaks_even(0.5), "got 0.5")


def test_stochastic_round():
    assert checks.stochastic_round(lambda v, d: (v + d).floor()).passed
    assert checks.stochastic_round(lambda v, d: v.floor() + (d < v - v.floor())).passed
    refused(checks.stochastic_round(lambda v, d: v.round()), "nearest")
    refused(checks.stochastic_round(lambda v, d: (v + d).trunc()), "3 and -2")
    refused(checks.stochastic_round(lambda v, d: v), "no whole numbers")
    refused(checks.stochastic_round(lambda v, d: (v + d).ceil()), "3 and -2")
    refused(checks.stochastic_round(lambda v, d: v.floor()), "on average")
    refused(checks.stochastic_round(lambda v, d: v.round() + (d > 2) + 3 * (v % 1 != 0)), "away")
    refused(checks.stochastic_round(lambda v, d: None), "expected a tensor")


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
    assert checks.turn(turn).passed
    refused(checks.turn(lambda *a: turn(*a, add=False)), "before")
    refused(checks.turn(lambda *a: turn(*a, by_size=False)), "size")
    refused(checks.turn(lambda *a: turn(*a, forget=True)), "must not vanish")
    refused(checks.turn(lambda u, r, k: turn(u, r, 1)), "k is 2")
    refused(checks.turn(lambda u, r, k: (turn(u, r, k)[0], u)), "expected update + residual")
    refused(checks.turn(lambda u, r, k: (u[:2], r[:2])), "shape")
    refused(checks.turn(lambda *_: None), "two tensors")


def spots(factor=400.0, accuracy=0.82, rounds=10):
    return [Spot(rounds, accuracy, 1000, int(1000 * factor), 10 * rounds)]


def test_frugal():
    assert checks.frugal(spots()).passed
    refused(checks.frugal(spots(factor=200.0)), "200 times fewer")
    refused(checks.frugal(spots(accuracy=0.75)), "75.0%")
    refused(checks.frugal(spots(rounds=20)), "10 rounds are allowed")
    refused(checks.frugal([]), "list of what")
    refused(checks.frugal(["spot"]), "list of what")
