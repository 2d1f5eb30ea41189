"""The study of audits: mechanisms that are what they say, and an audit that finds what is wrong."""

import math

import pytest
import torch

from fedlab_helpers.core.messages import Update
from fedlab_helpers.core.state import norm
from fedlab_helpers.privacy.canaries import Canaries, audit
from fedlab_helpers.privacy.private_mean import PrivateMean
from fedlab_helpers.studies import audits

LIKE = {"a": torch.zeros(20, 50), "b": torch.zeros(30, 40)}
QUIET = PrivateMean(1.0, 0.0, cohort=1, repeatable=True)
LOUD = PrivateMean(1.0, 2.0, cohort=1, repeatable=True)
LONG = [Update(0, {"a": torch.ones(20, 50), "b": -torch.ones(30, 40)})]


def flat_norms(state):
    return [float(tensor.norm()) for tensor in state.values()]


def test_each_layer_is_clipped_by_itself_and_the_whole_is_longer():
    assert norm(audits.honest(QUIET, LIKE, LONG)) == pytest.approx(1)
    assert flat_norms(audits.each_layer(QUIET, LIKE, LONG)) == pytest.approx([1, 1])


def test_layers_get_noise_of_their_own():
    noise = audits.each_layer(LOUD, {"a": torch.zeros(9), "b": torch.zeros(9)}, [])
    assert not torch.equal(noise["a"], noise["b"])


def test_one_layer_is_without_noise_and_the_others_are_as_claimed():
    released, claimed = audits.bare("b")(LOUD, LIKE, LONG), audits.honest(LOUD, LIKE, LONG)
    assert torch.equal(released["a"], claimed["a"])
    assert torch.equal(released["b"], audits.honest(QUIET, LIKE, LONG)["b"])


def test_a_tenth_of_the_noise_is_a_tenth():
    full, less = (norm(act(LOUD, LIKE, [])) for act in (audits.honest, audits.a_tenth))
    assert full == pytest.approx(2 * math.sqrt(2_200), rel=0.1)
    assert less == pytest.approx(full / 10, rel=1e-4)


def test_what_is_not_clipped_stays_as_long_as_it_is():
    released = audits.unclipped(LOUD, LIKE, LONG)
    noise = audits.honest(LOUD, LIKE, [])
    assert torch.allclose(released["a"] - noise["a"], torch.ones(20, 50), atol=1e-5)


def test_whoever_knows_the_seed_has_the_sum():
    left = audits.seed_known(LOUD, LIKE, LONG)
    assert torch.allclose(left["a"], audits.honest(QUIET, LIKE, LONG)["a"], atol=1e-5)


def test_noise_is_other_in_each_round_and_again_the_same():
    first, again = (audits.released_by(audits.honest, LOUD, LIKE) for _ in range(2))
    one, two = first([]), first([])
    assert not torch.equal(one["a"], two["a"])
    assert torch.equal(again([])["a"], one["a"])


@pytest.mark.parametrize("name", [name for name in audits.FOUND if name != "as claimed"])
def test_planted_bugs_are_found(name, monkeypatch):
    layers = {f"recurrent.layer_{k}": torch.zeros(20, 50) for k in range(4)}
    layers[audits.BARE] = torch.zeros(20, 50)
    act, other = audits.FOUND[name]
    noise = math.sqrt(audits.ROUNDS) / 1.6657  # epsilon 8
    mean = PrivateMean(1.0, noise, cohort=100, repeatable=True)
    told = audit(audits.released_by(act, mean, layers), Canaries(layers, 200, **other), 20)
    assert told.epsilon > 1.5 * 8


def test_a_run_audits_every_mechanism_of_the_small_model(monkeypatch):
    monkeypatch.setattr(audits, "ROUNDS", 2)
    monkeypatch.setitem(audits.CANARIES, "public words", 200)
    rows = list(audits.measure_audits({"seed": 0, "model": "public words", "claim": 8.0}))
    by = {row["mechanism"]: row for row in rows}
    assert list(by) == [*audits.FOUND, *audits.BLIND]
    usual = by["as claimed"]
    assert (usual["canaries"], usual["norm"], usual["layers"]) == (200, 100.0, 2)
    assert 4 < usual["epsilon"] < 13
    for name, sharper in (
        ("not clipped, short canaries", "not clipped"),
        ("a small layer without noise", "a small layer without noise, 30 canaries"),
        ("the seed is public", "the seed is public, noise subtracted"),
    ):
        assert by[name]["mu"] == pytest.approx(usual["mu"], rel=1e-2)  # it sees nothing
        assert by[sharper]["epsilon"] > 100
