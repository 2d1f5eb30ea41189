"""Each check of the clinic passes every right answer and has a hint for typical wrong ones."""

import numpy as np
import pytest
import torch
from torch import nn
from verdicts import refused

from fedlab_helpers.core import state
from fedlab_helpers.lessons.checks import clinic as checks

RIGHT = {"a": 7, "b": 4, "c": 3, "d": 9}


@pytest.mark.parametrize("form", [int, np.int64, torch.tensor])
def test_which_slip(form):
    assert checks.which_slip({letter: form(number) for letter, number in RIGHT.items()}).passed
    for letter in RIGHT:
        refused(checks.which_slip(RIGHT | {letter: form(1)}), f"{letter}: ")
    refused(checks.which_slip(RIGHT | {"e": 1}), "letters")
    refused(checks.which_slip([7, 4, 3, 9]), "dict")
    refused(checks.which_slip(RIGHT | {"a": "7"}), "numbers, not texts")
    assert not checks.which_slip(dict.fromkeys("abcd", ...)).started


def a_round(keep=state.of_model, start=state.of_model, weighted=True, load=True):
    """Return a round in which the named lines may be wrong."""

    def one_round(model, clients, train):
        first, states = start(model), []
        for data in clients:
            if first is not None:
                model.load_state_dict(first)
            train(model, data)
            states.append(keep(model))
        weights = [len(data) if weighted else 1 for data in clients]
        if load:
            model.load_state_dict(state.weighted_mean(states, weights))

    return one_round


def live(model):
    return model.state_dict()


def nothing(model):
    return None


def test_mended_round():
    assert checks.mended_round(a_round()).passed
    doubles = {"keep": lambda model: {n: t.double() for n, t in state.of_model(model).items()}}
    assert checks.mended_round(a_round(**doubles)).passed
    chain = "where the one before it stopped"
    refused(checks.mended_round(a_round(start=nothing)), chain)
    refused(checks.mended_round(a_round(start=live)), chain, "copy")
    refused(checks.mended_round(a_round(start=nothing, weighted=False)), chain)
    refused(checks.mended_round(a_round(weighted=False)), "mean is plain")
    refused(checks.mended_round(a_round(keep=live)), "last client alone")
    refused(checks.mended_round(a_round(load=False)), "last client alone")
    refused(checks.mended_round(lambda *_: None), "where it began")
    refused(checks.mended_round(lambda m, c, t: t(m, c[0])), "away from FedAvg")
    refused(checks.mended_round(lambda m, c, t: m.weight.data.fill_(float("nan"))), "finite")
    refused(checks.mended_round(lambda m: None), "raised TypeError")


@pytest.mark.parametrize("weighted", [True, False])
def test_mended_round_is_not_yet_while_the_chain_is_aliased(weighted):
    verdict = checks.mended_round(a_round(keep=live, start=nothing, weighted=weighted))
    assert not verdict.started
    assert "chain" in verdict.message


def probe(sizes=(1, 3), targets=(0.0, 6.0), same=1e-5, answer=bool, model=None):
    """Return a probe in which one thing may be wrong: clients end at their targets."""
    clients = [torch.full((n,), t) for n, t in zip(sizes, targets, strict=True)]
    mean = sum(n * t for n, t in zip(sizes, targets, strict=True)) / sum(sizes)

    def walk(model, data):  # halfway from wherever it is
        with torch.no_grad():
            model.weight += (data.mean() - model.weight) / 2

    def function(one_round):
        line = model or nn.Linear(1, 1, bias=False)
        if model is None:
            nn.init.constant_(line.weight, 2.0)
        one_round(line, clients, walk)
        return answer((line.weight - (2.0 + mean) / 2).abs().max() <= same)

    return function


@pytest.mark.parametrize("answer", [bool, np.bool_, torch.as_tensor])
def test_sound_passes(answer):
    assert checks.sound(probe(answer=answer)).passed
    assert checks.sound(probe((2, 3, 6), (1.0, -1.0, 5.0))).passed


def test_sound_has_hints():
    refused(checks.sound(lambda one_round: True), "several")
    refused(checks.sound(lambda one_round: False), "False of a right round")
    refused(checks.sound(probe(sizes=(2, 2))), "plain mean", "unequal size")
    refused(checks.sound(probe(sizes=(3,), targets=(6.0,))), "several clients")
    refused(checks.sound(probe((3, 1, 4), (2.0, 6.0, -4.0), same=5.0)), "by chance")
    refused(checks.sound(probe(same=-1.0)), "rounding")
    refused(checks.sound(probe(model=nn.Linear(1, 1, bias=False))), "fresh model")
    refused(checks.sound(probe(same=9.0)), "you say True")
    refused(checks.sound(lambda one_round: one_round()), "raised TypeError")
    refused(checks.sound(lambda one_round: 1), "True or False")
