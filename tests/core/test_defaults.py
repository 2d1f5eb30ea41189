"""Torch's global defaults and generators change nothing, and what draws from them is refused."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fedlab_helpers import LocalConfig, Plan, run, state, strategies
from fedlab_helpers.compression import Compressed, Quantized

PLAN = Plan(2, local=LocalConfig(batch_size=4, lr=0.02), workers=2)


@pytest.fixture
def defaults():
    """Set a global default, and put both back afterwards."""

    def change(dtype=torch.float32, device="cpu"):
        torch.set_default_dtype(dtype)
        torch.set_default_device(device)

    yield change
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)


@pytest.mark.parametrize(
    "name", ["fedavg", "inverse_loss", "scaffold", "qfedavg", "fedadam", "calibrated", "krum"]
)
@pytest.mark.parametrize("default", [{"dtype": torch.float64}, {"device": "meta"}], ids=repr)
def test_a_run_is_the_same_bits(small_model, reviews, bits, defaults, name, default):
    ends, data = [], [reviews(8, seed) for seed in range(7)]
    for settings in ({}, default):
        model = small_model(dropout=0.3)
        entry = strategies.STRATEGIES[name]
        strategy = entry.build(**({"lr": 0.02} if entry.knows_client_rate else {}))
        defaults(**settings)
        codec = Compressed(write=Quantized(8))
        history = run(model, data, strategy, PLAN, test=data[0], codec=codec)
        assert all(not record.left_out for record in history)
        ends.append((bits(state.of_model(model)), [r.client_losses for r in history]))
        defaults()
    assert ends[0] == ends[1]


class Drawing(nn.Module):
    """A reader's model whose forward draws."""

    def __init__(self, draw):
        super().__init__()
        self.embedding, self.head, self.draw = nn.Embedding(50, 4), nn.Linear(4, 2), draw

    def forward(self, tokens, lengths):
        return self.head(self.draw(self.embedding(tokens).mean(1), self.training))


@pytest.mark.parametrize(
    ("draw", "whose"),
    [
        (lambda x, training: functional.dropout(x, 0.5, training), "torch"),
        (lambda x, training: x + torch.randn_like(x) if training else x, "torch"),
        (lambda x, training: x * float(np.random.rand()), "numpy"),  # noqa: NPY002
        (lambda x, training: x * random.random(), "random"),
    ],
)
def test_a_model_that_draws_from_a_global_generator_is_refused(clients, draw, whose):
    with pytest.raises(ValueError, match=f"global generator of {whose}"):
        run(Drawing(draw), clients, strategies.fedavg(), PLAN)


def test_a_model_that_draws_nothing_leaves_the_generators_alone(clients, small_model):
    before = torch.get_rng_state()
    run(small_model(dropout=0.5), clients, strategies.fedavg(), PLAN)
    assert torch.equal(torch.get_rng_state(), before)
