"""The long-memory study: its sequences hold the answer in their first place only."""

import pytest
import torch

from fedlab_helpers.core.compute import torch_rng
from fedlab_helpers.studies import long_memory


def test_only_the_first_symbol_names_the_class():
    data = long_memory.sequences(500, 9, torch_rng(0, "test"))
    assert data.tokens.shape == (500, 9)
    assert data.lengths.tolist() == [9] * 500
    assert torch.equal(data.tokens[:, 0], data.labels + 2)
    assert set(data.labels.tolist()) == {0, 1, 2, 3}
    assert set(data.tokens[:, 1:].flatten().tolist()) == set(range(6, 14))


def test_sequences_come_from_their_generator():
    first, same, other = (long_memory.sequences(20, 5, torch_rng(s, "test")) for s in (0, 0, 1))
    assert torch.equal(first.tokens, same.tokens)
    assert not torch.equal(first.tokens, other.tokens)


@pytest.mark.parametrize("name", ["n", "length"])
def test_sequences_of_nothing_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}: got 0, expected an integer of at least 1"):
        long_memory.sequences(**{"n": 5, "length": 5, name: 0}, generator=torch_rng(0))


def test_an_open_lstm_differs_in_its_forget_gates_alone():
    plain, opened = (long_memory.reader(cell, 0).state_dict() for cell in ("lstm", "lstm_open"))
    moved = {name for name in plain if not torch.equal(plain[name], opened[name])}
    assert moved == {"recurrent.bias_ih_l0"}
    change = opened["recurrent.bias_ih_l0"] - plain["recurrent.bias_ih_l0"]
    assert change.tolist() == pytest.approx([0] * 32 + [2] * 32 + [0] * 64)


def test_an_open_forget_gate_keeps_more_of_the_memory():
    """The raised biases are those that PyTorch reads as the forget gate's."""

    def kept(model):
        layer, start = model.recurrent, torch.ones(1, 1, 32)
        with torch.no_grad():
            _, (_, memory) = layer(torch.zeros(1, 1, 16), (torch.zeros(1, 1, 32), start))
        return float(memory.mean())

    assert kept(long_memory.reader("lstm_open", 0)) > kept(long_memory.reader("lstm", 0)) + 0.3


def test_a_short_memory_is_learned(monkeypatch):
    monkeypatch.setattr(long_memory, "TRAINING", 3_200)
    monkeypatch.setattr(long_memory, "TEST", 300)
    settings = {"seed": 0, "length": 3, "cell": "gru", "lr": 0.01, "epochs": 2}
    (row,) = long_memory.measure_memory(settings)
    assert row["steps"] == 100
    assert row["accuracy"] > 0.95
    assert row["validation_accuracy"] > 0.95


def test_the_reach_of_a_cell_whose_gradient_is_known():
    """A plain cell that only hands its state on, halved, and reads with no weight but the
    identity: nineteen steps back the gradient is halved nineteen times, but for the tanh."""
    data = long_memory.sequences(30, 20, torch_rng(0, "reach"))
    model = long_memory.reader("rnn", seed=0)
    with torch.no_grad():
        for weights in model.recurrent.parameters():
            weights.zero_()
        model.recurrent.weight_hh_l0.copy_(0.5 * torch.eye(32))
        model.recurrent.weight_ih_l0.copy_(1e-3 * torch.eye(32)[:, :16])
    assert long_memory.reach(model, data) == pytest.approx(0.5**19, rel=1e-3)


def test_reach_is_looked_at_before_and_in_the_training_of_the_other_table(monkeypatch):
    monkeypatch.setattr(long_memory, "TRAINING", 3_200)
    monkeypatch.setattr(long_memory, "TEST", 300)
    settings = {"seed": 0, "length": 3, "cell": "gru", "lr": 0.01, "epochs": 2}
    rows = long_memory.measure_reach(settings)
    assert [row["step"] for row in rows] == [0, 50, 100]
    (trained,) = long_memory.measure_memory(settings)
    assert rows[-1]["accuracy"] == trained["accuracy"]  # looking changes nothing
    assert rows[0]["accuracy"] < 0.5
