"""A client that trains from a shut gate sends nothing at all."""

import pytest
import torch
from leak_toys import examples, reader
from torch import nn

from fedlab_helpers.core import state
from fedlab_helpers.core.training import LocalConfig, train
from fedlab_helpers.privacy.leaks import shut

DATA = examples(([7, 59, 3, 7, 21], 1), ([4, 5], 0), ([9, 8, 9], 1))


@pytest.mark.parametrize("config", [LocalConfig(3, 1), LocalConfig(3, 1, 1.0, "sgd")])
@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_training_moves_no_weight(config, pooling, dtype):
    model = reader(pooling=pooling).to(dtype)
    before = shut(model)
    model.load_state_dict(before)
    train(model, DATA, config)
    change = state.subtract(state.of_model(model), before)
    assert not any(bool(tensor.any()) for tensor in change.values())


def test_all_classes_are_as_likely_since_the_biases_are_raised_alike():
    model = reader(classes=3)
    model.load_state_dict(shut(model))
    answers = model(*DATA.inputs).softmax(1)
    torch.testing.assert_close(answers, torch.full((3, 3), 1 / 3))
    model.head.bias.data.zero_()
    torch.testing.assert_close(model(*DATA.inputs).softmax(1), answers)


def test_only_the_gate_and_the_heads_biases_differ_and_the_model_is_left_alone():
    model = reader()
    before, after = state.of_model(model), shut(model)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"recurrent.bias_ih_l0", "head.bias"}
    assert torch.equal(before["recurrent.bias_ih_l0"][:48], after["recurrent.bias_ih_l0"][:48])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_other_layers_are_refused():
    deep = reader()
    deep.recurrent = nn.LSTM(16, 16, 2, batch_first=True)
    for model in (reader("gru"), reader("rnn"), deep, nn.Linear(2, 2)):
        with pytest.raises(ValueError, match=r"model.recurrent: got .*one LSTM layer in one dir"):
            shut(model)
