"""Training on the touched rows of an embedding is training on all of it, bit for bit."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedlab_helpers.core import rows, state, wire
from fedlab_helpers.core.compute import intra_op_threads
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.rounds import rounds, run
from fedlab_helpers.core.training import Hooks, LocalConfig, clip_gradients, train
from fedlab_helpers.strategies import fedavg, rowwise, worst_group
from fedlab_helpers.tasks.layers import CELLS
from fedlab_helpers.tasks.next_word import NextWordLSTM, TiedLSTM
from fedlab_helpers.tasks.objectives import NEXT_TOKEN, NextToken, Numbers
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.model import POOLINGS, SentimentLSTM

VOCAB = 60


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tensors this small are computed faster, and in steadier time, by one thread."""
    with intra_op_threads(1):
        yield


def reviews(seed, count=11, words=range(2, VOCAB)):
    """Return random reviews of 1 to 9 of these words."""
    rng = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 10, (count,), generator=rng)
    width = int(lengths.max())
    drawn = torch.tensor(words)[torch.randint(len(words), (count, width), generator=rng)]
    tokens = drawn * (torch.arange(width) < lengths[:, None])
    return EncodedReviews(tokens, lengths, torch.randint(0, 2, (count,), generator=rng))


def trained(model, data, config, by_rows):
    """Return the weights after local training on all rows, or on the touched ones only."""
    start, name = state.of_model(model), model.token_parameter
    if not by_rows:
        train(model, data, config, seed=3)
        return state.of_model(model)
    small, touched = rows.select(data)
    rows.load(model, start | {name: start[name][touched]})
    train(model, small, config, seed=3)
    end = state.of_model(model)
    return end | {name: start[name].index_copy(0, touched, end[name])}


def both_ways(config, data, **options):
    """Return the state before, and after training with all rows and with the touched rows."""
    models = [SentimentLSTM(VOCAB, seed=1, **options) for _ in range(2)]
    before = state.of_model(models[0])
    dense, sparse = (trained(m, data, config, way) for m, way in zip(models, (0, 1), strict=True))
    return before, dense, sparse


def test_select_by_hand():
    tokens = torch.tensor([[7, 3, 7], [9, 0, 0]])
    data = EncodedReviews(tokens, torch.tensor([3, 1]), torch.tensor([1, 0]))
    small, touched = rows.select(data)
    assert touched.tolist() == [0, 3, 7, 9]
    assert small.tokens.tolist() == [[2, 1, 2], [3, 0, 0]]
    assert small.lengths is data.lengths
    assert small.labels is data.labels
    assert data.tokens is tokens
    assert tokens.tolist() == [[7, 3, 7], [9, 0, 0]]


def test_padding_has_row_0_also_where_no_review_is_padded():
    data = EncodedReviews(torch.tensor([[5, 4]]), torch.tensor([2]), torch.tensor([0]))
    small, touched = rows.select(data)
    assert touched.tolist() == [0, 4, 5]
    assert small.tokens.tolist() == [[2, 1]]


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), count=st.integers(1, 20))
def test_selected_ids_stand_for_the_words_they_stood_for(seed, count):
    data = reviews(seed, count)
    small, touched = rows.select(data)
    assert touched[small.tokens].equal(data.tokens)
    assert touched.equal(touched.unique())
    assert touched[0] == 0
    assert set(touched.tolist()) == {0} | set(data.tokens.flatten().tolist())


@settings(max_examples=30)
@given(
    seed=st.integers(0, 1000),
    optimizer=st.sampled_from(["adam", "sgd"]),
    max_grad_norm=st.sampled_from([None, 1e-3, 0.05, 1.0, 1e6]),
    batch_size=st.sampled_from([None, 1, 3, 7]),
    lr=st.sampled_from([5e-3, 0.3]),
    cell=st.sampled_from(sorted(CELLS)),
    pooling=st.sampled_from(POOLINGS),
    dropout=st.sampled_from([0.0, 0.3]),
    embedding_dim=st.sampled_from([1, 3, 7, 8, 17]),
    count=st.integers(1, 12),
)
def test_training_on_touched_rows_changes_no_bit(
    seed, optimizer, max_grad_norm, batch_size, lr, cell, pooling, dropout, embedding_dim, count
):
    config = LocalConfig(2, batch_size, lr, optimizer, max_grad_norm)
    options = {"cell": cell, "pooling": pooling, "dropout": dropout, "hidden_size": 5}
    data = reviews(seed, count, words=range(2, 2 + 5 + seed % 40))
    before, dense, sparse = both_ways(config, data, embedding_dim=embedding_dim, **options)
    for name, tensor in dense.items():
        assert tensor.equal(sparse[name]), name
    untouched = torch.ones(VOCAB, dtype=torch.bool)
    untouched[data.tokens.flatten()] = False
    name = SentimentLSTM.token_parameter
    assert dense[name][untouched].equal(before[name][untouched])
    assert not dense[name].equal(before[name])


def test_rows_of_zeros_do_not_change_how_gradients_are_clipped():
    """Summed in float32, the norm would depend on where the zeros stand."""
    for seed in range(100):
        rng = torch.Generator().manual_seed(seed)
        touched = torch.randperm(500, generator=rng)[:40].sort().values
        few, many = nn.Embedding(40, 17), nn.Embedding(500, 17)
        few.weight.grad = torch.randn(40, 17, generator=rng)
        many.weight.grad = torch.zeros(500, 17).index_copy(0, touched, few.weight.grad)
        clip_gradients(few, 0.05)
        clip_gradients(many, 0.05)
        assert many.weight.grad[touched].equal(few.weight.grad)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_weight_decay_moves_rows_that_no_review_touches(optimizer):
    """Why clients train all rows as soon as there is weight decay."""
    config = LocalConfig(optimizer=optimizer, weight_decay=0.1, max_grad_norm=None)
    data = reviews(0, words=range(2, 10))
    before, dense, sparse = both_ways(config, data, embedding_dim=4, hidden_size=4)
    name = SentimentLSTM.token_parameter
    assert not dense[name][10:].equal(before[name][10:])
    assert sparse[name][10:].equal(before[name][10:])


def test_load_copies_and_resizes_there_and_back():
    model = SentimentLSTM(VOCAB, 4, 4, seed=0)
    whole = state.of_model(model)
    small = whole | {"embedding.weight": whole["embedding.weight"][:5].clone()}
    rows.load(model, small)
    assert model.embedding.weight.equal(small["embedding.weight"])
    with torch.no_grad():
        model.embedding.weight.add_(1)
        model.head.bias.add_(1)
    assert small["embedding.weight"].equal(whole["embedding.weight"][:5])
    rows.load(model, whole)
    for name, tensor in model.state_dict().items():
        assert tensor.equal(whole[name])


def test_load_keeps_a_parameter_of_the_right_size_in_place():
    model = nn.Linear(2, 3)
    weight = model.weight
    rows.load(model, {"weight": torch.ones(3, 2), "bias": torch.ones(3)})
    assert model.weight is weight
    assert weight.tolist() == [[1.0, 1.0]] * 3


# Rows that also score ids: clients choose among their own


def next_ids(seed, ids=range(1, 12), count=8, not_asked=0.2):
    """Return next words among these ids, some of them not asked for."""
    rng = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 6, (count,), generator=rng)
    drawn = torch.tensor(ids)[torch.randint(len(ids), (count, 6), generator=rng)]
    inside = torch.arange(5) < lengths[:, None]
    following = drawn[:, 1:].masked_fill(torch.rand(count, 5, generator=rng) < not_asked, -100)
    return Examples((drawn[:, :-1] * inside, lengths), following, NEXT_TOKEN, padded=True)


def test_select_of_scored_rows_by_hand():
    tokens, lengths = torch.tensor([[7, 3], [9, 0]]), torch.tensor([2, 1])
    targets = torch.tensor([[3, 20], [-100, -100]])
    data = Examples((tokens, lengths), targets, NEXT_TOKEN, padded=True)
    small, touched = rows.select(data, scored=True)
    assert touched.tolist() == [0, 3, 7, 9, 20]
    assert small.inputs[0].tolist() == [[2, 1], [3, 0]]
    assert small.targets.tolist() == [[1, 4], [-100, -100]]
    assert targets.tolist() == [[3, 20], [-100, -100]]
    small, touched = rows.select(data)
    assert touched.tolist() == [0, 3, 7, 9]
    assert small.targets is data.targets


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), count=st.integers(1, 9), not_asked=st.sampled_from([0, 0.5, 1]))
def test_selected_targets_stand_for_the_ids_they_stood_for(seed, count, not_asked):
    data = next_ids(seed, range(1, 40, 3), count, not_asked)
    small, touched = rows.select(data, scored=True)
    asked = data.targets >= 0
    assert touched[small.targets[asked]].equal(data.targets[asked])
    assert (small.targets[~asked] == -100).all()
    assert touched[small.inputs[0]].equal(data.inputs[0])
    known = {0} | {*data.inputs[0].flatten().tolist()} | {*data.targets[asked].tolist()}
    assert touched.tolist() == sorted(known)


CONFIG = LocalConfig(2, 3, 0.05)


def one_client(model, data, **options):
    """Return the weights after a round of one client."""
    history = run(model, [data], fedavg(), Plan(2, local=CONFIG, workers=1), **options)
    assert not history[0].left_out
    return state.of_model(model)


def test_with_all_ids_touched_rows_are_trained_as_the_table_is(bits):
    data = next_ids(0, range(1, 12), count=40)
    assert rows.select(data, scored=True)[1].tolist() == [*range(12)]
    by_rows, whole, without = (
        one_client(TiedLSTM(12, 5, seed=1, **kind), data, codec=codec)
        for kind, codec in (
            ({}, wire.touched_rows()),
            ({}, wire.dense()),
            ({"own_words": False}, wire.touched_rows()),
        )
    )
    assert bits(by_rows) == bits(whole) == bits(without)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_own_rows_are_a_softmax_over_own_ids(optimizer):
    """The same as the whole table of which all other ids are impossible."""
    data, config = next_ids(3, range(1, 30, 4)), LocalConfig(3, 4, 0.05, optimizer)
    small, touched = rows.select(data, scored=True)
    others = torch.ones(40, dtype=torch.bool).index_fill(0, touched, False)
    models = [TiedLSTM(40, 5, seed=1) for _ in range(2)]
    before = state.of_model(models[0])
    rows.load(models[0], before | {"embedding.weight": before["embedding.weight"][touched]})
    train(models[0], small, config, seed=2)
    only = Hooks(logits=lambda logits: logits.masked_fill(others, -torch.inf))
    train(models[1], data, config, seed=2, hooks=only)
    by_rows, whole = (state.of_model(model) for model in models)
    table = whole["embedding.weight"]
    assert table[others].equal(before["embedding.weight"][others])
    assert not table[touched].equal(before["embedding.weight"][touched])
    by_rows["embedding.weight"] = before["embedding.weight"].index_copy(
        0, touched, by_rows["embedding.weight"]
    )
    for name, tensor in whole.items():
        torch.testing.assert_close(by_rows[name], tensor, atol=2e-5, rtol=1e-4)


def test_a_run_of_own_rows_is_resumed_to_the_same_bits(tmp_path, bits):
    data = [next_ids(seed, range(1 + seed, 30, 3)) for seed in range(3)]
    whole, end = (TiedLSTM(30, 5, seed=1) for _ in range(2))
    begun = data, rowwise(), Plan(4, 2, CONFIG, workers=1)
    run(whole, *begun, codec=wire.touched_rows())
    first = rounds(TiedLSTM(30, 5, seed=1), *begun, checkpoint=tmp_path)
    list(itertools.islice(first, 2))
    first.close()
    assert len(run(end, *begun, checkpoint=tmp_path, codec=wire.touched_rows())) == 4
    assert bits(state.of_model(end)) == bits(state.of_model(whole))


class Silent(TiedLSTM):
    """Does not say that its rows score words."""

    def __init__(self):
        super().__init__(30, 5, seed=1)
        self.scores_tokens = False


class Means(TiedLSTM):
    """Scores by what all rows are on average, too."""

    def forward(self, tokens, lengths):
        return super().forward(tokens, lengths) + self.embedding.weight.mean()


class Shifted(TiedLSTM):
    """Scores a word by another one's row."""

    def forward(self, tokens, lengths):
        return super().forward(tokens, lengths).roll(1, -1)


class Headed(NextWordLSTM):
    """Scores words by a head of its own, and says that the table does."""

    scores_tokens = True


WRONG = {
    "silent": Silent,
    "means": lambda: Means(30, 5, seed=1),
    "shifted": lambda: Shifted(30, 5, seed=1),
    "headed": lambda: Headed(30, 5, 6, seed=1),
}


@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG)
def test_rows_that_are_used_otherwise_are_refused(make):
    data = [next_ids(0, range(1, 30, 3))]
    with pytest.raises(ValueError, match=r"model: its token_parameter: got 'embedding.weight'"):
        run(make(), data, fedavg(), Plan(1, local=CONFIG))
    whole = make()
    whole.token_parameter = None
    assert not run(whole, data, fedavg(), Plan(1, local=CONFIG, workers=1))[0].left_out


class Tied(nn.Module):
    """Scores words by the rows that it looks them up in, under a second name."""

    token_parameter = "table.weight"

    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(9, 4), nn.Linear(4, 9)
        self.head.weight = self.table.weight

    def forward(self, tokens):
        return self.head(self.table(tokens).mean(1))


def test_a_table_under_a_second_name_is_refused():
    """Its head kept all rows when the table was tried with some, and the two came apart."""
    data = Examples((torch.arange(1, 7).reshape(2, 3),), torch.tensor([1, 8]))
    with pytest.raises(ValueError, match=r"model: its token_parameter: got 'table.weight'"):
        run(Tied(), [data], fedavg(), Plan(1, local=CONFIG))


def test_a_copy_of_a_model_has_the_rows_that_are_asked_for(bits):
    model = SentimentLSTM(VOCAB, 4, 4, seed=0)
    name, whole = model.token_parameter, state.of_model(model)
    some = rows.copied(model, name, torch.tensor([3, 5]))
    assert some.embedding.weight.equal(whole[name][[3, 5]])
    assert len(rows.copied(model, name, slice(0)).embedding.weight) == 0
    shared = rows.copied(model, name, slice(None))
    assert shared.embedding.weight.data_ptr() == model.embedding.weight.data_ptr()
    assert shared.head.weight.data_ptr() != model.head.weight.data_ptr()
    assert bits(state.of_model(rows.copied(model, None, slice(0)))) == bits(whole)
    assert bits(state.of_model(model)) == bits(whole)


class Renormed(SentimentLSTM):
    """Looks up rows that are scaled down as they are looked up, in place."""

    def __init__(self):
        super().__init__(VOCAB, 4, 4, seed=0)
        self.embedding.max_norm = 0.1


def test_trying_a_model_before_the_run_leaves_it_as_it_is(bits):
    model = Renormed()
    before = bits(state.of_model(model))
    rounds(model, [reviews(0)], fedavg(), Plan(1, local=CONFIG))
    assert bits(state.of_model(model)) == before


def test_targets_that_are_no_ids_are_refused_where_rows_score_them():
    data = next_ids(0)
    numbers = Examples(data.inputs, data.targets.float(), Numbers(each_step=True), padded=True)
    with pytest.raises(ValueError, match="with `scores_tokens`, to score these; or None"):
        run(TiedLSTM(12, 5, seed=0), [numbers], fedavg(), Plan(1, local=CONFIG))


def test_a_loss_that_a_strategy_asks_for_is_of_own_rows():
    """Ids that are never proposed may lie beyond the rows of a client; the loss is as it was."""
    objective = NextToken(never=(0, 1, 25))
    data = [next_ids(seed, range(2 + seed, 12)) for seed in range(2)]
    data = [Examples(d.inputs, d.targets, objective, padded=True) for d in data]
    model = TiedLSTM(30, 5, dropout=0.0, seed=1)
    (record,) = run(model, data, worst_group(), Plan(1, local=CONFIG, workers=1))
    assert not record.left_out
