"""Gradient matching: its gradient is the model's own, and descent finds most of a few words."""

import copy

import pytest
import torch
from leak_toys import KINDS, examples, reader

from fedlab_helpers.privacy.leaks import gradient_of, match, rouge_l
from fedlab_helpers.privacy.leaks.matching import _distance, _gradient_of_mixture

WORDS = [7, 59, 3, 59, 21]


@pytest.mark.parametrize(("cell", "pooling"), KINDS)
def test_where_each_mixture_is_one_word_its_gradient_is_the_sentences(cell, pooling):
    model = reader(cell, pooling).double()
    rows = torch.tensor([3, 7, 21, 59])
    shares = torch.eye(4, dtype=torch.float64)[[1, 3, 0, 3, 2]].requires_grad_()
    given = _gradient_of_mixture(model, shares, rows, 1)
    seen = gradient_of(model, examples((WORDS, 1)))
    seen["embedding.weight"] = seen["embedding.weight"][rows]
    torch.testing.assert_close(dict(given), seen)
    assert _distance(given, {name: 3 * t for name, t in seen.items()}).item() < 1e-12
    (again,) = torch.autograd.grad(_distance(given, seen), [shares])
    assert bool(again.isfinite().all())


def test_the_distance_by_hand():
    row, one = torch.tensor([[0.0, 2.0], [3.0, 0.0]]), torch.tensor([1.0, 1.0])
    given = {"embedding.weight": row, "head.bias": one}
    goal = {"embedding.weight": torch.tensor([[0.0, 1e-20], [0.0, 1.0]]), "head.bias": -one}
    assert float(_distance(given, goal)) == pytest.approx(0.5 + 2)


@pytest.mark.parametrize(("cell", "pooling"), KINDS)
def test_most_of_a_short_sentence_is_found(cell, pooling):
    model = reader(cell, pooling)
    gradient = gradient_of(model, examples((WORDS, 1)))
    found = match(model, {name: 5 * tensor for name, tensor in gradient.items()}, 5)
    assert found.label == 1
    assert rouge_l(WORDS, found.tokens) >= 0.6
    assert found.certified == (list(found.tokens) == WORDS)


def test_it_repeats_and_leaves_the_model_as_it_was():
    model = reader(dropout=0.3).train()
    gradient = gradient_of(model, examples((WORDS, 0)))
    before = copy.deepcopy(model.state_dict())
    found = match(model, gradient, 5, steps=3)
    assert found == match(model, gradient, 5, steps=3)
    assert len({match(model, gradient, 5, steps=1, seed=seed).tokens for seed in range(4)}) > 1
    assert len(found.tokens) == 5
    assert set(found.tokens) <= set(WORDS)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize("options", [{"length": 0}, {"length": 2.5}, {"length": 5, "steps": 0}])
def test_counts_below_one_are_refused(options):
    gradient = gradient_of(reader(), examples((WORDS, 0)))
    with pytest.raises(ValueError, match=r"(length|steps): got .*an integer of at least 1"):
        match(reader(), gradient, **options)


def test_a_gradient_of_another_shape_is_refused():
    gradient = gradient_of(reader(classes=3), examples((WORDS, 0)))
    with pytest.raises(ValueError, match=r"gradient: 'head.weight'"):
        match(reader(), gradient, 5)
