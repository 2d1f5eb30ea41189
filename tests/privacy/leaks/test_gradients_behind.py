"""From a change back to its gradient, and the gradient itself."""

import copy

import pytest
import torch
from leak_toys import examples, reader

from fedlab_helpers.core import state
from fedlab_helpers.core.training import LocalConfig, train
from fedlab_helpers.privacy.leaks import gradient_behind, gradient_of

DATA = examples(([7, 59, 3, 7, 21], 1), ([4, 5], 0))


def change_of(model, config, data=DATA):
    trained = copy.deepcopy(model)
    train(trained, data, config)
    return state.subtract(state.of_model(trained), state.of_model(model))


def test_the_gradient_is_that_of_the_mean_loss_and_leaves_the_model_alone():
    model = reader(dropout=0.5).train()
    found = gradient_of(model, DATA)
    assert model.training
    assert all(weight.grad is None for weight in model.parameters())
    model.eval()
    torch.nn.functional.cross_entropy(model(*DATA.inputs), DATA.targets).backward()
    torch.testing.assert_close(found, {n: p.grad for n, p in model.named_parameters()})


def test_the_step_of_sgd_is_divided_by_its_rate():
    change = {"w": torch.tensor([0.5, -0.25, 0.0])}
    config = LocalConfig(lr=0.5, optimizer="sgd")
    assert gradient_behind(change, config)["w"].tolist() == [-1.0, 0.5, 0.0]


@pytest.mark.parametrize(("norm", "factor"), [(None, 1.0), (0.01, None)])
def test_of_a_model_too_up_to_the_factor_by_which_it_was_clipped(norm, factor):
    model, config = reader().double(), LocalConfig(1, None, 0.5, "sgd", max_grad_norm=norm)
    seen, found = gradient_of(model, DATA), gradient_behind(change_of(model, config), config)
    scale = factor or norm / state.norm(seen)
    scaled = {name: scale * tensor for name, tensor in seen.items()}
    torch.testing.assert_close(found, scaled, rtol=1e-4, atol=1e-12)


def test_adams_first_step_is_solved_where_it_is_not_only_a_sign():
    sizes = 10 ** torch.linspace(-11, -5, 25)
    seen = torch.cat([sizes, -sizes, torch.zeros(1)])
    weight = torch.zeros_like(seen, requires_grad=True)
    config = LocalConfig(lr=5e-3, optimizer="adam")
    weight.grad = seen.clone()
    torch.optim.Adam([weight], lr=config.lr).step()
    found = gradient_behind({"w": weight.detach()}, config)["w"]
    torch.testing.assert_close(found, seen, rtol=1e-2, atol=0)


def test_of_adams_step_of_a_model_what_is_small_comes_back_and_the_sign_of_the_rest():
    model, config = reader(gain=0.1), LocalConfig(1, None, 5e-3, "adam", max_grad_norm=None)
    data = examples((range(1, 13), 1))
    found = state.flatten(gradient_behind(change_of(model, config, data), config))
    seen = state.flatten(gradient_of(model, data))
    small = (seen.abs() > 1e-9) & (seen.abs() < 1e-7)
    assert int(small.sum()) > 10
    torch.testing.assert_close(found[small], seen[small], rtol=0.02, atol=1e-11)
    large = seen.abs() > 1e-4
    assert torch.equal(found[large].sign(), seen[large].sign())
    assert bool((found[large].abs() > 1e-6).all())
    assert bool(found.isfinite().all())


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_weight_decay_is_refused(optimizer):
    with pytest.raises(ValueError, match=r"weight_decay: got 0.1, expected none"):
        gradient_behind({}, LocalConfig(optimizer=optimizer, weight_decay=0.1))
