"""Other things than reviews: a number, a number a step, next words, by the public interface."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

from fedlab_helpers import Examples, LocalConfig, Plan, rounds, run, state, strategies
from fedlab_helpers.compression import Compressed, Sign, TopK, WithFeedback
from fedlab_helpers.core.checkpoint import CheckpointError
from fedlab_helpers.tasks.objectives import NUMBERS, NextToken, Numbers

STEPS, WORDS = 6, 12


class Series(nn.Module):
    """A GRU over (N, T, 1): a number for each series, or for each step."""

    def __init__(self, each_step):
        super().__init__()
        torch.manual_seed(0)
        self.each_step = each_step
        self.rnn, self.head = nn.GRU(1, 8, batch_first=True), nn.Linear(8, 1)

    def forward(self, series, lengths):
        outputs = self.head(self.rnn(series)[0])[..., 0]  # (B, T)
        if self.each_step:
            return outputs
        return outputs[torch.arange(len(lengths)), lengths - 1]


class NextWord(nn.Module):
    """An LSTM that says at each step which word comes next."""

    token_parameter = "embedding.weight"

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(WORDS, 8, padding_idx=0)
        self.rnn, self.head = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, WORDS)

    def forward(self, tokens, lengths):
        return self.head(self.rnn(self.embedding(tokens))[0])


def numbers(n, seed, each_step):
    """The sum of a series so far, or at its end."""
    rng = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, STEPS + 1, (n,), generator=rng)
    inside = torch.arange(STEPS) < lengths[:, None]
    series = torch.rand(n, STEPS, generator=rng) * inside
    sums = series.cumsum(1)
    targets = sums.where(inside, torch.nan) if each_step else sums[:, -1]
    objective = Numbers(each_step=True) if each_step else NUMBERS
    return Examples((series[..., None], lengths), targets, objective, padded=True)


def words(n, seed):
    """Words that count upwards from a random one: the next is always known."""
    rng = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, STEPS + 1, (n,), generator=rng)
    first = torch.randint(1, WORDS, (n, 1), generator=rng)
    counted = 1 + (first + torch.arange(STEPS + 1)) % (WORDS - 1)
    inside = torch.arange(STEPS) < lengths[:, None]
    tokens, following = counted[:, :-1] * inside, counted[:, 1:].where(inside, -100)
    return Examples((tokens, lengths), following, NextToken((1, 3), never=(0,)), padded=True)


TASKS = {
    "a number": (lambda: Series(False), lambda n, seed: numbers(n, seed, False)),
    "a number a step": (lambda: Series(True), lambda n, seed: numbers(n, seed, True)),
    "the next word": (NextWord, words),
}
PLAN = Plan(6, local=LocalConfig(epochs=2, batch_size=8, lr=0.02), workers=2)
FEEDBACK = WithFeedback(Compressed(TopK(0.2), Sign()))
WAYS = {  # strategy, plan and codec
    "FedAvg": (strategies.fedavg(), PLAN, None),
    "FedProx": (strategies.fedprox(0.001), PLAN, None),
    "SCAFFOLD": (strategies.scaffold(), replace(PLAN, local=LocalConfig(2, 8, 0.5, "sgd")), None),
    "FedAdam": (strategies.fedadam(0.03), PLAN, None),
    "Krum": (strategies.krum(1, keep=3), PLAN, None),
    "top-k with feedback": (strategies.fedavg(), PLAN, FEEDBACK),
}


# FedAvg with each task, each other way with one.
PAIRS = [*zip(WAYS, itertools.cycle(TASKS), strict=False), *(("FedAvg", task) for task in TASKS)]


@pytest.mark.parametrize(("way", "task"), sorted(set(PAIRS)))
def test_it_is_trained(way, task):
    (make, examples), (strategy, plan, codec) = TASKS[task], WAYS[way]
    clients, test = [examples(16, seed) for seed in range(5)], examples(40, 99)
    history = run(make(), clients, strategy, plan, test=test, codec=codec)
    first, last = (record.metrics for record in (history[0], history[-1]))
    assert last["loss"] < 0.95 * first["loss"]
    measure, sign = test.objective.measure, 1 if test.objective.higher_is_better else -1
    assert sign * last[measure] > sign * first[measure]
    assert measure in history.to_frame().columns
    assert history[0].examples == sum(data.asked for data in clients)


@pytest.mark.parametrize("task", TASKS)
def test_it_is_resumed_to_the_same_bits(task, tmp_path, bits):
    make, examples = TASKS[task]
    clients = [examples(16, seed) for seed in range(4)]
    begun = clients, strategies.fedavgm(), Plan(4, 3, LocalConfig(batch_size=8, lr=0.02))
    options = {"test": examples(20, 99), "codec": FEEDBACK}
    whole, end = make(), make()
    run(whole, *begun, **options)
    first = rounds(make(), *begun, checkpoint=tmp_path, **options)
    list(itertools.islice(first, 2))
    first.close()
    assert len(run(end, *begun, checkpoint=tmp_path, **options)) == 4
    assert bits(state.of_model(end)) == bits(state.of_model(whole))


def test_another_objective_is_another_run(tmp_path):
    data = [numbers(8, seed, False) for seed in range(2)]
    run(Series(False), data, strategies.fedavg(), Plan(1), checkpoint=tmp_path)
    other = [Examples(d.inputs, d.targets, Numbers(delta=1.0), padded=True) for d in data]
    with pytest.raises(CheckpointError, match="clients is"):
        run(Series(False), other, strategies.fedavg(), Plan(1), checkpoint=tmp_path)


def test_clients_that_are_asked_different_things_are_refused():
    with pytest.raises(ValueError, match=r"clients: got \[NextToken.* all to be asked Numbers"):
        run(Series(False), [numbers(8, 0, False), words(8, 0)], strategies.fedavg(), Plan(1))


def test_a_client_of_whom_nothing_is_asked_is_left_out_by_name():
    data = [numbers(8, seed, False) for seed in range(2)]
    data.append(data[0].with_targets(torch.full((8,), torch.nan)))
    history = run(Series(False), data, strategies.fedavg(), Plan(1))
    assert history[0].left_out == {
        2: "ValueError: data: got 8 examples of which nothing is asked, expected at least one"
    }
    assert history[0].examples == 16


def test_a_score_over_the_same_table_cannot_be_trained_row_by_row():
    """Weights tied to the embedding: cut to a client's rows, the scores would be others."""

    class Tied(NextWord):
        def forward(self, tokens, lengths):
            hidden = self.rnn(self.embedding(tokens))[0][..., :8]
            return hidden @ self.embedding.weight.T

    with pytest.raises(ValueError, match=r"token_parameter: got .* a table used for nothing but"):
        run(Tied(), [words(8, 0)], strategies.fedavg(), Plan(1))
    whole = Tied()
    whole.token_parameter = None
    run(whole, [words(8, 0)], strategies.fedavg(), Plan(1))
