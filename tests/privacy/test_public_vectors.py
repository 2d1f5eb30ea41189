"""Vectors from public text: counts and mutual information by hand, and a model that reads them."""

import math
import time

import numpy as np
import pytest
import torch

from fedlab_helpers import LocalConfig, Plan, of_model, rounds, run, strategies, wire
from fedlab_helpers.core.checkpoint import CheckpointError
from fedlab_helpers.privacy import public_vectors as public
from fedlab_helpers.shrinking.prune import require_plain
from fedlab_helpers.tasks.reviews.model import PublicWordsLSTM
from fedlab_helpers.tasks.reviews.words import Vocabulary

WORDS = ["中国", "人民", "经济", "发展", "同志", "的", "改革", "这个词没有人写"]
VECTORS = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
PLAN = Plan(2, local=LocalConfig(1, 4, 0.5, "sgd"), seed=3)


def test_counts_by_hand():
    """Ids 2, 3, 4 and 2 in one line, 1 unknown: pairs one apart count 1, two apart 1/2; the next
    line begins anew."""
    counts = public.cooccurrences([[2, 1, 3, 4, 2], [3], []], 5, window=2).toarray()
    expected = np.zeros((5, 5))
    expected[2, 3] = 1 + 1 / 2
    expected[2, 4] = 1 / 2 + 1
    expected[3, 4] = 1
    assert (counts == expected + expected.T).all()
    assert public.cooccurrences([[2, 3, 4, 2]], 5, window=3)[2, 2] == 2 / 3


def test_mutual_information_by_hand():
    """Rows and columns sum to 3, 1 and 2; smoothed contexts to 3^.75, 1 and 2^.75."""
    counts = public.cooccurrences([[2, 3], [2, 4], [2, 4]], 5, window=1)
    information = public.ppmi(counts).toarray()
    total = 3**0.75 + 1 + 2**0.75
    assert information[3, 2] == pytest.approx(math.log(1 * total / (1 * 3**0.75)))
    assert information[2, 4] == pytest.approx(math.log(2 * total / (3 * 2**0.75)))
    assert information[2, 2] == information[3, 4] == 0
    assert (information >= 0).all()


def test_a_pair_that_is_rarer_than_chance_counts_as_chance():
    counts = public.cooccurrences([[2, 3]] * 50 + [[4, 5]] * 50 + [[2, 4]], 6, window=1)
    information = public.ppmi(counts)
    assert information[2, 3] > 0
    assert information[2, 4] == 0
    assert information.nnz == 4


@pytest.fixture(scope="module")
def vectors():
    return public.public_vectors(Vocabulary(WORDS), size=4)


def test_vectors_of_words_that_the_text_has_and_zeros_for_others(vectors):
    assert (vectors.shape, vectors.dtype) == ((10, 4), torch.float32)
    assert vectors[[0, 1, 9]].tolist() == [[0.0] * 4] * 3
    known = vectors[2:9].double()
    torch.testing.assert_close(known.mean(0), torch.zeros(4).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(known.T @ known / 7, torch.eye(4).double(), atol=1e-5, rtol=0)


def test_white_by_hand():
    """On two axes with variances 4 and 1 around (1, 1), the first is halved and none is turned."""
    around = np.array([[2.0, 1.0], [2.0, -1.0], [-2.0, 1.0], [-2.0, -1.0]])
    expected = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert public.white(around + 1) == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"vectors: spread: got .*expected 2 dimensions with some"):
        public.white(around * [1, 0])


def test_they_are_the_same_each_time_and_made_in_seconds(vectors):
    began = time.perf_counter()
    assert torch.equal(vectors, public.public_vectors(Vocabulary(WORDS), size=4))
    assert time.perf_counter() - began < 30  # some 2 s


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size: got 0, expected an integer of at least 1"),
        ({"size": 7}, "size: got 7, expected less than the 7 words that the text has"),
        ({"size": 4, "window": 0}, "window: got 0, expected an integer of at least 1"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        public.public_vectors(Vocabulary(WORDS), **options)


def make(vectors=VECTORS, **options):
    return PublicWordsLSTM(vectors, 5, **{"seed": 0, **options})


def test_the_model_reads_them_and_padding_is_never_seen():
    model = make().eval()
    tokens, lengths = torch.tensor([[4, 9, 2, 0, 0]]), torch.tensor([3])
    shown, _ = model.recurrent(VECTORS[tokens[:, :3]])
    torch.testing.assert_close(model(tokens, lengths), model.head(shown.mean(1)))
    torch.testing.assert_close(model(tokens, lengths), model(tokens[:, :3], lengths))


def test_the_table_is_neither_weight_nor_state_and_shares_no_memory():
    table = VECTORS.clone()
    model = make(table)
    table.zero_()
    assert torch.equal(model.embedding.vectors, VECTORS)
    sizes = 4 * 5 * (6 + 5 + 2) + 5 * 2 + 2
    assert sum(p.numel() for p in model.parameters()) == sizes
    assert sum(t.numel() for t in of_model(model).values()) == sizes


@pytest.mark.parametrize(
    "strategy",
    [strategies.fedavg(), strategies.private(), strategies.private(noise_multiplier=0.0)],
    ids=["fedavg", "private", "clipped"],
)
def test_nothing_of_the_table_is_sent_trained_or_noised(clients, bits, strategy):
    model = make()
    before = of_model(model)
    history = run(model, clients, strategy, PLAN, test=clients[0])
    weights = len(wire.dense().encode(before))
    for record in history:
        assert not record.left_out
        assert record.bytes_down == 4 * weights
        assert record.bytes_up < 4 * (weights + 500)
    assert bits(model.embedding.vectors) == bits(VECTORS)
    assert all(bits(after) != bits(before[name]) for name, after in of_model(model).items())


def test_it_learns(reviews):
    """Words 2 to 21 tell one label, 22 to 41 the other."""
    data = [reviews(40, seed) for seed in range(5)]
    model, plan = make(), Plan(8, local=LocalConfig(4, 8, 0.05, "adam"))
    history = run(model, data, strategies.fedavg(), plan, test=reviews(200, 9))
    assert history[-1].metrics["loss"] < 0.95 * history[0].metrics["loss"]
    assert history[-1].metrics["accuracy"] > 0.7


def test_other_vectors_are_another_run(clients, tmp_path):
    run(make(), clients, strategies.fedavg(), PLAN, checkpoint=tmp_path)
    assert len(run(make(), clients, strategies.fedavg(), PLAN, checkpoint=tmp_path)) == 2
    with pytest.raises(CheckpointError, match="holds another run: model is"):
        list(rounds(make(VECTORS + 1), clients, strategies.fedavg(), PLAN, checkpoint=tmp_path))


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (VECTORS[0], r"vectors: got '\(6,\) torch.float32', expected \(V, E\) float32, finite"),
        (VECTORS.double(), "vectors: got .*float64"),
        (VECTORS / 0, "vectors: got"),
    ],
)
def test_other_tables_are_refused(vectors, message):
    with pytest.raises(ValueError, match=message):
        make(vectors)


def test_what_cuts_models_smaller_refuses_it_by_name():
    with pytest.raises(ValueError, match="model: got PublicWordsLSTM"):
        require_plain(make())
