"""Training on the touched rows of an embedding is training on all of it, bit for bit."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedlab_helpers.core import rows, state
from fedlab_helpers.core.compute import intra_op_threads
from fedlab_helpers.core.training import LocalConfig, clip_gradients, train
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.model import CELLS, POOLINGS, SentimentLSTM

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
