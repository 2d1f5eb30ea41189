"""Models: padding is never seen, and no random number comes from torch's global generator."""

import math

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from fedlab_helpers.core.model import SeededDropout, seed_dropout, use_own_randomness
from fedlab_helpers.tasks.layers import CELLS, LAYERS
from fedlab_helpers.tasks.reviews.model import POOLINGS, SentimentLSTM

LENGTHS = torch.tensor([3, 7, 1, 5])
every_kind = pytest.mark.parametrize(
    ("cell", "pooling"), [(cell, pooling) for cell in LAYERS for pooling in POOLINGS]
)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def make(**options):
    """Return a small model with weights large enough for differences to show."""
    model = SentimentLSTM(20, 6, 6, 3, **({"seed": 1} | options))
    with torch.no_grad():
        for parameter in model.recurrent.parameters():
            parameter.mul_(2)
    return model.eval()


def padded(width=7):
    """Return the tokens of four reviews with padding up to `width`."""
    tokens = torch.randint(2, 20, (4, 7), generator=rng()) * (torch.arange(7) < LENGTHS[:, None])
    return torch.cat([tokens, tokens.new_zeros(4, width - 7)], 1)


@every_kind
def test_padding_does_not_change_a_logit(cell, pooling):
    model = make(cell=cell, pooling=pooling)
    logits = model(padded(), LENGTHS)
    assert logits.shape == (4, 3)
    rubbish = padded().masked_fill(torch.arange(7) >= LENGTHS[:, None], 19)
    for tokens in (padded(8), padded(64), rubbish):
        assert (model(tokens, LENGTHS) - logits).abs().max() < 1e-6
    for row, length in enumerate(LENGTHS.tolist()):
        alone = model(padded()[row : row + 1, :length], LENGTHS[row : row + 1])
        assert (alone - logits[row]).abs().max() < 1e-6


@pytest.mark.parametrize("cell", CELLS)
def test_last_pooling_is_the_hidden_state_of_a_packed_sequence(cell):
    model = make(cell=cell)
    packed = pack_padded_sequence(
        model.embedding(padded()), LENGTHS, batch_first=True, enforce_sorted=False
    )
    _, hidden = model.recurrent(packed)
    hidden = hidden[0] if cell == "lstm" else hidden
    torch.testing.assert_close(
        model(padded(), LENGTHS), model.head(hidden[0]), atol=1e-6, rtol=1e-6
    )


@pytest.mark.parametrize("cell", LAYERS)
def test_mean_pooling_is_the_mean_over_the_words(cell):
    model = make(cell=cell, pooling="mean")
    outputs, _ = model.recurrent(model.embedding(padded()))
    means = [outputs[row, :length].mean(0) for row, length in enumerate(LENGTHS.tolist())]
    expected = model.head(torch.stack(means))
    torch.testing.assert_close(model(padded(), LENGTHS), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_sizes_and_cell_are_as_asked(cell):
    model = SentimentLSTM(20, 5, 6, 3, cell=cell)
    assert type(model.recurrent) is CELLS[cell]
    assert model.state_dict()[SentimentLSTM.token_parameter].shape == (20, 5)
    assert model.recurrent.weight_hh_l0.shape[1] == 6
    assert model.head.weight.shape == (3, 6)
    assert model.embedding.weight[0].tolist() == [0.0] * 5


def test_padding_is_never_trained():
    model = make()
    model(padded(), LENGTHS).sum().backward()
    assert model.embedding.weight.grad[0].tolist() == [0.0] * 6


def test_a_seed_repeats_the_weights_and_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    weights = [SentimentLSTM(20, 5, 6, seed=seed).state_dict() for seed in (3, 3, 4)]
    assert torch.get_rng_state().equal(before)
    assert all(tensor.equal(weights[1][name]) for name, tensor in weights[0].items())
    assert not weights[0]["head.weight"].equal(weights[2]["head.weight"])


def test_without_a_seed_the_global_generator_decides():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        first = SentimentLSTM(20, 5, 6).head.weight
        assert not SentimentLSTM(20, 5, 6).head.weight.equal(first)
        torch.manual_seed(7)
        assert SentimentLSTM(20, 5, 6).head.weight.equal(first)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "LSTM"}, r"cell: got 'LSTM', expected one of \['bag', 'gru', 'lstm', "),
        ({"pooling": "max"}, r"pooling: got 'max', expected one of \['last', 'mean'\]"),
        ({"dropout": 1.0}, r"dropout: got 1.0, expected a probability in \[0, 1\)"),
        ({"vocab_size": 0}, "vocab_size: got 0, expected an integer of at least 1"),
        ({"embedding_dim": -1}, "embedding_dim: got -1, expected an integer of at least 1"),
        ({"hidden_size": 2.5}, "hidden_size: got 2.5, expected an integer of at least 1"),
        ({"num_classes": 0}, "num_classes: got 0, expected an integer of at least 1"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SentimentLSTM(**({"vocab_size": 20} | options))


# Dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean_and_drops_its_share(p):
    layer = SeededDropout(p)
    seed_dropout(layer, rng())
    values = layer(torch.ones(200_000))
    kept = 1 / (1 - p)
    assert values.mean() == pytest.approx(1, abs=6 * math.sqrt(p / (1 - p) / 200_000))
    assert values.unique().tolist() == pytest.approx([0, kept])
    assert (values == 0).float().mean() == pytest.approx(p, abs=0.01)


def test_dropout_is_off_in_evaluation_and_at_probability_0():
    values = torch.randn(5, generator=rng())
    assert SeededDropout(0.9).eval()(values) is values
    assert SeededDropout(0.0)(values) is values


def test_the_generator_decides_the_masks_and_the_global_one_is_not_touched():
    model = make(dropout=0.5).train()
    before = torch.get_rng_state()

    def logits(seed):
        seed_dropout(model, rng(seed))
        return [model(padded(), LENGTHS) for _ in range(2)]

    first, second = logits(0)
    again = logits(0)
    assert first.equal(again[0])
    assert second.equal(again[1])
    assert not first.equal(second)
    assert not first.equal(logits(1)[0])
    assert torch.get_rng_state().equal(before)


class Own(nn.Module):
    """A reader's own model: dropout at the top, nested, and one layer under two names."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.3)
        self.layers = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Dropout(0.4), self.drop))


def test_dropout_is_replaced_wherever_it_stands():
    model = Own()
    assert use_own_randomness(model) is model
    replaced = [model.drop, model.layers[1][0], model.layers[1][1]]
    assert [type(layer) for layer in replaced] == [SeededDropout] * 3
    assert [layer.p for layer in replaced] == [0.3, 0.4, 0.3]
    before = torch.get_rng_state()
    seed_dropout(model, rng())
    first = model.layers(torch.ones(8, 4))
    seed_dropout(model, rng())
    assert model.layers(torch.ones(8, 4)).equal(first)
    assert torch.get_rng_state().equal(before)


def test_a_model_in_evaluation_stays_in_evaluation():
    model = use_own_randomness(Own().eval())
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize(
    "layer",
    [
        nn.LSTM(4, 4, num_layers=2, dropout=0.5),
        nn.AlphaDropout(0.1),
        nn.Dropout1d(0.1),
        nn.RReLU(),
        nn.MultiheadAttention(4, 2, dropout=0.1),
        nn.TransformerEncoderLayer(4, 2, dropout=0.1),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_what_cannot_be_seeded_is_refused_by_name(layer):
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(layer))
    culprit = "self_attn is a Multihead" if "Transformer" in type(layer).__name__ else " is a"
    with pytest.raises(ValueError, match=rf"model: 1\.0(\.)?{culprit}.*torch's global generator"):
        use_own_randomness(model)


def test_a_refused_model_without_a_name_is_called_the_model_itself():
    with pytest.raises(ValueError, match="model: the model itself is a RReLU"):
        use_own_randomness(nn.RReLU())


def test_layers_that_draw_nothing_are_left_alone():
    layers = [
        nn.LSTM(4, 4, num_layers=2),
        nn.AlphaDropout(0.0),
        nn.MultiheadAttention(4, 2),
        SeededDropout(0.5),
    ]
    model = use_own_randomness(nn.Sequential(*layers))
    assert list(model) == layers
