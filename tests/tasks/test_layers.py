"""Layers that read a sequence: the literature's equations, one by one and all at once."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedlab_helpers import strategies
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.rounds import run
from fedlab_helpers.core.training import LocalConfig
from fedlab_helpers.privacy.leaks import known_vectors
from fedlab_helpers.privacy.leaks.dominoes import dominoes
from fedlab_helpers.shrinking.onnx_model import to_onnx
from fedlab_helpers.shrinking.prune import keep_units
from fedlab_helpers.tasks import layers
from fedlab_helpers.tasks.layers import (
    CELLS,
    LAYERS,
    Bag,
    CausalTransformer,
    MinGRU,
    at_once,
    one_by_one,
)
from fedlab_helpers.tasks.next_word import TiedLSTM
from fedlab_helpers.tasks.reviews.model import SentimentLSTM
from fedlab_helpers.tasks.series import SeriesRNN

NEW = sorted(LAYERS.keys() - CELLS.keys())


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(name, inputs=6, hidden=8):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(3)
        return LAYERS[name](inputs, hidden, batch_first=True).double()


def test_a_min_gru_by_hand():
    """One unit, gate always a half: 0, then half way to each candidate."""
    layer = MinGRU(1, 1)
    with torch.no_grad():
        layer.gate.weight.zero_()
        layer.gate.bias.zero_()
        layer.candidate.weight.fill_(2.0)
        layer.candidate.bias.fill_(1.0)
    states, last = layer(torch.tensor([[[1.0], [-1.0], [0.0]]]))
    assert states.flatten().tolist() == [1.5, 0.25, 0.625]
    assert last.tolist() == [[0.625]]


def test_a_min_gru_follows_its_equations():
    layer, seen = made("mingru"), drawn(3, 5, 6)
    state = torch.zeros(3, 8, dtype=torch.float64)
    for step in range(5):
        z = (seen[:, step] @ layer.gate.weight.T + layer.gate.bias).sigmoid()
        state = (1 - z) * state + z * (seen[:, step] @ layer.candidate.weight.T)
        state = state + z * layer.candidate.bias
        torch.testing.assert_close(layer(seen)[0][:, step], state)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 70), st.integers(1, 4), st.integers(0, 10**6))
def test_all_steps_at_once_are_those_one_by_one(batch, steps, size, seed):
    """Also their gradients; gates may be wide open, or shut."""
    parts = [6 * drawn(batch, steps, size, seed=seed), drawn(batch, steps, size, seed=seed + 1)]
    found = []
    for form in (one_by_one, at_once):
        own = [part.clone().requires_grad_() for part in parts]
        states = form(own[0].sigmoid(), own[1])
        (states * drawn(*states.shape, seed=seed + 2)).sum().backward()
        found.append([states, *(part.grad for part in own)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_the_transformer_is_pytorchs_with_positions_and_a_mask():
    layer, seen = made("transformer", 8), drawn(3, 7, 8)
    theirs = nn.TransformerEncoderLayer(
        8, 4, 16, 0.0, "gelu", batch_first=True, norm_first=True, dtype=torch.float64
    )
    names = {
        "self_attn.in_proj_": layer.asked, "self_attn.out_proj.": layer.answered,
        "norm1.": layer.before_attention, "norm2.": layer.before_inner,
        "linear1.": layer.inner[0], "linear2.": layer.inner[2],
    }  # fmt: skip
    theirs.load_state_dict(
        {f"{n}{part}": getattr(m, part) for n, m in names.items() for part in ("weight", "bias")}
    )
    places = torch.tensor(
        [
            [f(t / 10_000 ** (k / 8)) for k in (0, 2, 4, 6) for f in (math.sin, math.cos)]
            for t in range(7)
        ],
        dtype=torch.float64,
    )
    mask = nn.Transformer.generate_square_subsequent_mask(7, dtype=torch.float64)
    expected = layer.last(theirs(layer.first(seen) + places, src_mask=mask, is_causal=True))
    torch.testing.assert_close(layer(seen)[0], expected)


def test_small_vectors_are_not_lost_among_the_positions():
    layer, seen = made("transformer", 8), drawn(3, 7, 8)
    torch.testing.assert_close(layer(0.1 * seen)[0], layer(seen)[0], rtol=0.01, atol=0.01)


def test_it_has_as_many_numbers_as_an_lstm():
    for size in (16, 32, 64, 128):
        own, lstm = (
            sum(p.numel() for p in kind(size, size).parameters())
            for kind in (CausalTransformer, nn.LSTM)
        )
        assert abs(own / lstm - 1) < 0.06


def test_a_bag_knows_no_order():
    layer, seen = Bag(6, 6), drawn(2, 5, 6)
    torch.testing.assert_close(layer(seen)[1], seen.mean(1))
    torch.testing.assert_close(layer(seen[:, [3, 1, 4, 0, 2]])[1], layer(seen)[1])
    torch.testing.assert_close(layer(seen)[0][:, 1], seen[:, :2].mean(1))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("inputs", [6, 8])
def test_no_step_sees_what_follows_it(name, inputs):
    layer, seen = made(name, inputs), drawn(2, 9, inputs)
    outputs, _ = layer(seen)
    assert outputs.shape == (2, 9, 8)
    changed = torch.cat([seen[:, :4], drawn(2, 5, inputs, seed=1)], 1)
    torch.testing.assert_close(layer(changed)[0][:, :4], outputs[:, :4])
    assert not torch.allclose(layer(changed)[0][:, 4:], outputs[:, 4:])


@pytest.mark.parametrize("name", NEW)
def test_each_is_trained_over_clients_and_repeats(name, small_task, bits):
    """Row by row, in threads, in the places of an LSTM."""
    parts = [range(k, len(small_task.train), 4) for k in range(4)]
    data, ends = [small_task.train.subset(part) for part in parts], []
    for workers in (1, 2):
        model = SentimentLSTM(len(small_task.vocab), 8, 8, cell=name, dropout=0.1, seed=0)
        before = bits(model.state_dict())
        plan = Plan(2, 3, LocalConfig(batch_size=8, lr=0.05), workers=workers)
        history = run(model, data, strategies.rowwise(), plan, test=small_task.test)
        assert not any(record.left_out for record in history)
        ends.append(bits(model.state_dict()))
    assert ends[0] == ends[1] != before


@pytest.mark.parametrize("name", LAYERS)
def test_other_models_take_them_too(name):
    words = torch.randint(2, 30, (4, 6), generator=torch.Generator().manual_seed(0))
    tied = TiedLSTM(30, 8, cell=name, seed=1)
    assert tied(words, torch.tensor([6] * 4)).shape == (4, 6, 30)
    series = SeriesRNN(3, 8, cell=name, each_step=True, seed=1)
    assert series(drawn(2, 5, 3).float()).shape == (2, 5)


@pytest.mark.parametrize("name", NEW)
def test_what_knows_cells_only_refuses_them_by_name(name, small_task):
    model = SentimentLSTM(len(small_task.vocab), 8, 8, cell=name, seed=0)
    model(small_task.test.tokens[:1], small_task.test.lengths[:1]).sum().backward()
    gradient = {n: p.grad for n, p in model.named_parameters()}
    kind = type(model.recurrent).__name__
    for call in (
        lambda: to_onnx(model, None),
        lambda: to_onnx(TiedLSTM(30, 8, cell=name, seed=0), None),
        lambda: keep_units(model, [0]),
        lambda: dominoes(model, gradient),
    ):
        with pytest.raises(ValueError, match=rf"(?s)got {kind}.*expected .*(layer|LSTM)"):
            call()
    with pytest.raises(ValueError, match=r"gradient: got .*expected that of an LSTM, GRU or RNN"):
        known_vectors.outside(model.embedding.weight.detach(), gradient)


@pytest.mark.parametrize("name", NEW)
def test_sizes_that_cannot_be_are_refused(name):
    for sizes, message in (
        ((0, 8), "input_size: got 0"),
        ((8, 0), "hidden_size: got 0"),
        ((8, 8, False), "batch_first: got False"),
    ):
        with pytest.raises(ValueError, match=message):
            LAYERS[name](*sizes)
    with pytest.raises(ValueError, match="hidden_size: got 7, expected an even number"):
        CausalTransformer(7, 7)


def test_in_half_precision_later_places_are_still_places():
    """bfloat16 has no number between 256 and 258."""
    far = layers._positions(torch.zeros(1, 600, 8, dtype=torch.bfloat16))
    exact = layers._positions(torch.zeros(1, 600, 8))
    assert far.dtype == torch.bfloat16
    assert (far.float() - exact).abs().max() < 0.01
