"""Models as readers bring them: what they keep, pad, freeze, hold beside weights, and draw."""

import numpy as np
import pytest
import torch
from torch import nn

from fedlab_helpers.core import state, wire
from fedlab_helpers.core.client import Clients
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.rounds import run
from fedlab_helpers.core.training import LocalConfig, evaluate, train
from fedlab_helpers.strategies import fedavg, fedavgm

LOCAL = LocalConfig(2, 4, 0.05, "sgd")
WORDS = 50


class Reader(nn.Module):
    """A small recurrent classifier of somebody's own."""

    token_parameter = "embedding.weight"

    def __init__(self, padding_idx=None, dropout=0.0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            self.embedding = nn.Embedding(WORDS, 4, padding_idx=padding_idx)
            self.rnn, self.head = nn.RNN(4, 4, batch_first=True), nn.Linear(4, 2)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens, lengths):
        return self.head(self.dropout(self.rnn(self.embedding(tokens))[0].mean(1)))


class Stateful(Reader):
    """It begins where the batch before ended."""

    last = None

    def forward(self, tokens, lengths):
        fits = self.last is not None and self.last.shape[1] == len(tokens)
        outputs, last = self.rnn(self.embedding(tokens), self.last if fits else None)
        self.last = last.detach() if self.training else None
        return self.head(outputs.mean(1))


class Noisy(Reader):
    """It draws noise from a generator that it holds."""

    def __init__(self, rng):
        super().__init__()
        self.rng = rng

    def forward(self, tokens, lengths):
        if isinstance(self.rng, torch.Generator):
            noise = torch.randn(2, generator=self.rng)
        else:
            noise = torch.from_numpy(self.rng.normal(size=2)).float()
        return super().forward(tokens, lengths) + noise


class Holding(Reader):
    """It holds something that is no weight, and looks at it."""

    def __init__(self, held):
        super().__init__()
        self.register_buffer("held", held)

    def forward(self, tokens, lengths):
        return super().forward(tokens, lengths) + 0 * self.held.isfinite().sum()


class Normed(Reader):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, tokens, lengths):
        return self.head(self.norm(self.embedding(tokens).mean(1)))


def ran(model, clients, workers=1, strategy=None, **options):
    plan = Plan(2, local=LOCAL, workers=workers)
    history = run(model, clients, strategy or fedavg(), plan, **options)
    assert not any(record.left_out for record in history)
    return state.of_model(model)


def test_what_a_model_keeps_between_calls_does_not_reach_the_next_client(clients, bits):
    ends = [bits(ran(Stateful(), clients, workers)) for workers in (1, 2, 1)]
    assert ends[0] == ends[1] == ends[2]
    # Which client came before changes nothing for the last one.
    seen = []

    def tap(update, kept, rng):
        seen.append(update.delta["head.weight"]) if update.client == 1 else None
        return update, kept

    for first in (clients[0], clients[2]):
        run(Stateful(), [first, clients[1]], fedavg(), Plan(1, local=LOCAL, workers=1),
            transforms=[tap])  # fmt: skip
    assert torch.equal(*seen)


@pytest.mark.parametrize("make", [np.random.default_rng, torch.Generator])
def test_a_generator_of_the_models_own_is_refused(make, clients):
    with pytest.raises(ValueError, match="draws from a generator of its own"):
        ran(Noisy(make()), clients)


@pytest.mark.parametrize("padding_idx", [0, 1, 3, WORDS - 1])
def test_wherever_padding_is_touched_rows_are_trained_as_the_whole_table(padding_idx, clients):
    """But for the padding's own row: every word that is used is trained."""
    sparse, whole = (
        ran(Reader(padding_idx), clients, codec=codec)
        for codec in (wire.touched_rows(), wire.dense())
    )
    for name, tensor in whole.items():
        assert torch.allclose(sparse[name], tensor, atol=1e-6), name


@pytest.mark.parametrize("strategy", [fedavg(), fedavgm()])
@pytest.mark.parametrize(
    "held",
    [
        torch.full((3, 3), -torch.inf).triu(1),
        torch.polar(torch.ones(4), torch.arange(4.0)),
        torch.tensor([2**60 + 1]),
    ],
    ids=["a mask", "rotations", "a large key"],
)
def test_what_no_client_moves_stays_as_it_is(held, strategy, clients):
    assert torch.equal(ran(Holding(held), clients, strategy=strategy)["held"], held)


def test_complex_states_have_a_mean():
    a, b = ({"z": torch.tensor([value])} for value in (1 + 2j, 3 - 4j))
    assert state.weighted_mean([a, b], [1, 3])["z"].tolist() == [2.5 - 2.5j]
    assert state.add(a, b, 0.5)["z"].tolist() == [2.5 + 0j]


def test_a_frozen_part_stays_in_evaluation_mode(clients):
    def frozen():
        model = Normed()
        model.norm.eval().requires_grad_(False)
        return model

    model = frozen()
    train(model, clients[0], LOCAL)
    assert torch.equal(model.norm.running_mean, torch.zeros(4))
    assert (model.training, model.norm.training) == (True, False)
    assert torch.equal(ran(frozen(), clients)["norm.running_mean"], torch.zeros(4))
    train(model.eval(), clients[0], LOCAL)  # all of it was: then all of it trains
    assert model.norm.training


def test_a_seed_decides_the_masks_of_a_readers_dropout_too(clients, bits):
    ends = []
    for seed in (5, 5, 6):
        model = Reader(dropout=0.5)
        train(model, clients[0], LOCAL, seed=seed)
        ends.append(bits(state.of_model(model)))
    assert ends[0] == ends[1] != ends[2]
    model = Reader()
    model.rnn = nn.LSTM(4, 4, 2, batch_first=True, dropout=0.5)
    with pytest.raises(ValueError, match="rnn is a LSTM that draws from torch's global"):
        train(model, clients[0], LOCAL)


def test_within_autocast_a_run_is_that_without(clients, bits):
    model, other = Reader(), Reader()
    alone = ran(model, clients, test=clients[1]), evaluate(model, clients[1])
    with torch.autocast("cpu", torch.bfloat16):
        within = ran(other, clients, test=clients[1]), evaluate(other, clients[1])
        train(other, clients[0], LOCAL)
    train(model, clients[0], LOCAL)
    assert bits(alone[0]) == bits(within[0])
    assert alone[1] == within[1]
    assert bits(state.of_model(model)) == bits(state.of_model(other))


def test_a_model_without_parameters_is_judged(clients):
    class First(nn.Module):
        def forward(self, tokens, lengths):
            return torch.tensor([1.0, 0.0]).expand(len(tokens), 2)

    share = float((clients[0].targets == 0).float().mean())
    assert evaluate(First(), clients[0]).accuracy == pytest.approx(share)


def test_a_batch_norm_whose_first_client_has_one_example_is_looked_at_too(clients):
    class Drops(Normed):
        def forward(self, tokens, lengths):
            return nn.functional.dropout(super().forward(tokens, lengths), 0.5, self.training)

    with pytest.raises(ValueError, match="global generator of torch"):
        ran(Drops(), [clients[0].subset([0]), *clients[1:]])


def test_what_no_state_holds_does_not_reach_the_next_client_either(clients, bits):
    class Remembering(Reader):
        """It adds up what it saw, in a buffer that is not saved."""

        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(2), persistent=False)

        def forward(self, tokens, lengths):
            answers = super().forward(tokens, lengths)
            self.seen = self.seen + answers.detach().mean(0)
            return answers + self.seen

    ends = [bits(ran(Remembering(), clients, workers)) for workers in (1, 2, 3)]
    assert ends[0] == ends[1] == ends[2]


def test_what_no_fingerprint_can_be_taken_of_trains_all_the_same(clients):
    model = Reader()
    model.place = torch.empty(3, device="meta")
    model.turned = torch.ones(2, dtype=torch.complex64).conj()
    ran(model, clients)


def test_a_frozen_part_is_tried_as_it_will_be_used(clients):
    class Drops(Normed):
        def forward(self, tokens, lengths):
            vectors = self.embedding(tokens).mean(1)
            return self.head(nn.functional.dropout(vectors, 0.5, self.norm.training))

    model = Drops()
    model.norm.eval()
    ran(model, clients)
    with pytest.raises(ValueError, match="global generator of torch"):
        ran(Drops(), clients)


def test_what_a_model_adds_to_its_state_is_taken_for_no_buffer(clients):
    class More(Reader):
        def get_extra_state(self):
            return {"version": 1}

        def set_extra_state(self, state):
            assert state == {"version": 1}

    assert not Clients(More(), clients, fedavg(), Plan(1, local=LOCAL, workers=1)).moving
    assert Clients(Normed(), clients, fedavg(), Plan(1, local=LOCAL, workers=1)).moving


def test_what_moves_is_averaged_and_what_lies_beside_it_is_not(clients):
    model = Normed()
    model.register_buffer("key", torch.tensor([2**60 + 1]))
    model.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    plan = Plan(1, local=LocalConfig(1, None, 0.05, "sgd"), workers=1)  # no batch of one
    (record,) = run(model, clients, fedavg(), plan)
    ended = state.of_model(model)
    assert not record.left_out
    assert ended["norm.running_mean"].abs().min() > 0
    assert ended["key"].tolist() == [2**60 + 1]
    assert ended["mask"].tolist() == [0.0, -torch.inf]
