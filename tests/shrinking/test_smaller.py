"""Smaller models: what goes is gone, what stays is what it was."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlab_helpers.compression import Compressed
from fedlab_helpers.core.compute import child_seed
from fedlab_helpers.core.model import use_own_randomness
from fedlab_helpers.core.rounds import Plan
from fedlab_helpers.core.state import of_model
from fedlab_helpers.core.training import Hooks, LocalConfig, evaluate, predict, train
from fedlab_helpers.personal.fine_tuning import mix
from fedlab_helpers.shrinking import (
    Rounded,
    agreement,
    apply_masks,
    best_factors,
    cooled,
    distillation_rounds,
    drop_words,
    factor_recurrent,
    hash_reviews,
    keep_pruned,
    keep_units,
    narrow_embedding,
    smallest_masks,
    softened,
    taught,
    to_integers,
    trim_model,
    trim_reviews,
    unit_sizes,
)
from fedlab_helpers.shrinking.onnx_model import to_onnx
from fedlab_helpers.tasks.layers import CELLS
from fedlab_helpers.tasks.reviews.model import OwnWordsLSTM, SentimentLSTM
from fedlab_helpers.tasks.reviews.words import Vocabulary

each_cell = pytest.mark.parametrize("cell", sorted(CELLS))
QUICK = LocalConfig(epochs=3, batch_size=8, lr=0.02)


# Pruning


def test_of_each_matrix_the_smallest_go():
    model = SentimentLSTM(3, 2, 2, seed=0)
    with torch.no_grad():
        model.embedding.weight.copy_(torch.tensor([[50.0, 60.0], [-10.0, 20.0], [30.0, 40.0]]))
    masks = smallest_masks(model, 0.5)
    assert masks["embedding.weight"].tolist() == [[True, True], [False, False], [False, True]]
    assert masks.keys() == {n for n, p in model.named_parameters() if p.dim() == 2}
    for name, mask in masks.items():
        assert int((~mask).sum()) == mask.numel() // 2, name


@given(share=st.floats(0, 0.99))
def test_the_share_that_goes_is_the_one_asked_for(share):
    model = SentimentLSTM(20, 6, 5, seed=0)
    masks = smallest_masks(model, share)
    before = of_model(model)
    apply_masks(model, masks)
    for name, mask in masks.items():
        assert int((~mask).sum()) == int(share * mask.numel())
        kept, gone = before[name][mask].abs(), before[name][~mask].abs()
        assert not len(gone) or not len(kept) or float(gone.max()) <= float(kept.min())
        assert torch.equal(model.state_dict()[name], before[name] * mask)


def test_pruned_weights_stay_zero_while_the_model_trains_on(small_model, reviews):
    model, masks = small_model(), smallest_masks(small_model(), 0.7)
    apply_masks(model, masks)
    train(model, reviews(40), QUICK, hooks=keep_pruned(masks))
    for name, mask in masks.items():
        assert not model.state_dict()[name][~mask].any()
    assert not torch.equal(model.head.weight, small_model().head.weight)


@each_cell
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_units_that_do_nothing_can_be_taken_out(small_model, reviews, cell, pooling):
    """With all that leaves a unit at zero, the model without it answers the same."""
    model, data = small_model(cell=cell, pooling=pooling), reviews(20)
    with torch.no_grad():
        for matrix in (model.recurrent.weight_hh_l0, model.head.weight):
            matrix[:, [1, 4]] = 0.0
    small = keep_units(model, [0, 2, 3])
    assert small.recurrent.hidden_size == 3
    torch.testing.assert_close(predict(small, data), predict(model, data))


@each_cell
def test_order_of_units_changes_nothing(small_model, reviews, cell):
    model, data = small_model(cell=cell), reviews(20)
    turned = keep_units(model, [4, 2, 0, 1, 3])
    torch.testing.assert_close(predict(turned, data), predict(model, data))


def test_the_size_of_a_unit_counts_all_that_goes_in_and_comes_out():
    model = SentimentLSTM(3, 2, 2, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.recurrent.weight_ih_l0[1, 0] = 3.0  # unit 1, input gate
        model.recurrent.weight_ih_l0[7, 1] = 4.0  # unit 1, output gate
        model.head.weight[0, 1] = 12.0
        model.recurrent.bias_hh_l0[4] = 2.0  # unit 0, candidate
        model.recurrent.weight_hh_l0[0, 1] = 84.0  # from unit 1 into unit 0
    assert unit_sizes(model).tolist() == pytest.approx([(4 + 84**2) ** 0.5, 85.0])


def odd_models():
    two_layers, both_ways, relu = (SentimentLSTM(50, 6, 5, seed=0) for _ in range(3))
    two_layers.recurrent = torch.nn.LSTM(6, 5, num_layers=2, batch_first=True)
    both_ways.recurrent = torch.nn.LSTM(6, 5, bidirectional=True, batch_first=True)
    relu.recurrent = torch.nn.RNN(6, 5, nonlinearity="relu", batch_first=True)
    half = SentimentLSTM(50, 6, 5, seed=0).double()
    return two_layers, both_ways, relu, half, OwnWordsLSTM(50, 6, 5, seed=0)


@pytest.mark.parametrize("model", odd_models())
def test_models_whose_parts_are_not_known_are_refused(model):
    with pytest.raises(ValueError, match=r"model: got .*expected a SentimentLSTM with one forward"):
        keep_units(model, [0, 1])
    with pytest.raises(ValueError, match="expected a SentimentLSTM"):
        to_onnx(model, None)


@pytest.mark.parametrize("units", [[], [0, 0], [5], [-1], [0.5, 1.0]])
def test_units_that_are_not_there_are_named(small_model, units):
    with pytest.raises(ValueError, match=r"units: got .*expected at least one of 0 to 4"):
        keep_units(small_model(), units)


# Few bits


def test_whole_numbers_by_hand():
    matrix = torch.tensor([[127.0, 0.0], [-63.5, 0.0]])
    whole, scale = to_integers(matrix, 8)
    assert whole.tolist() == [[127, 0], [-64, 0]]
    assert whole.dtype == torch.int8
    torch.testing.assert_close(scale, torch.tensor([[1.0, 1.0]]))
    whole, scale = to_integers(torch.tensor([[7.0], [-3.4], [0.6]]), 4)
    assert whole.tolist() == [[7], [-3], [1]]


@given(
    st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=9), st.integers(2, 8)
)
def test_nothing_is_off_by_more_than_half_a_step(values, bits):
    matrix = torch.tensor(values)[:, None]
    whole, scale = to_integers(matrix, bits)
    assert int(whole.abs().max()) <= 2 ** (bits - 1) - 1
    off = (whole.double() * scale.double() - matrix.double()).abs().max()
    assert float(off) <= 0.5001 * float(scale)


def test_bits_are_two_to_eight():
    for bits in (1, 9, 2.5):
        with pytest.raises(ValueError, match=f"bits: got {bits}, expected 2 to 8"):
            to_integers(torch.ones(2, 2), bits)
    for odd in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="matrix: got 'others', expected finite values"):
            to_integers(torch.tensor([[odd]]), 8)


@each_cell
def test_a_rounded_model_is_that_with_rounded_matrices_and_gradients_pass(
    small_model, reviews, cell
):
    model, by_hand, data = small_model(cell=cell), small_model(cell=cell), reviews(20)
    with torch.no_grad():
        for parameter in by_hand.parameters():
            if parameter.dim() == 2:
                whole, scale = to_integers(parameter, 3)
                parameter.copy_(whole * scale)
    got = predict(Rounded(model, 3), data)
    assert not torch.allclose(got, predict(model, data))
    torch.testing.assert_close(got, predict(by_hand, data))
    for one in (Rounded(model, 3), by_hand):
        one(data.tokens, data.lengths).sum().backward()
    for straight, rounded in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(straight.grad, rounded.grad)


def test_training_that_knows_of_rounding_suffers_it_better(small_model, reviews):
    model, data = small_model(), reviews(60)
    train(model, data, QUICK)
    losses = []
    for bits in (2, None):  # aware of it, or not
        learner = small_model()
        learner.load_state_dict(model.state_dict())
        train(Rounded(learner, bits) if bits else learner, data, QUICK)
        losses.append(evaluate(Rounded(learner, 2), data).loss)
    assert losses[0] < losses[1]


# Factors


def test_a_matrix_of_rank_two_is_found_exactly():
    rng = torch.Generator().manual_seed(0)
    matrix = torch.randn(9, 2, generator=rng) @ torch.randn(2, 7, generator=rng)
    left, right = best_factors(matrix, 2)
    assert (left.shape, right.shape) == ((9, 2), (2, 7))
    torch.testing.assert_close(left @ right, matrix, rtol=1e-4, atol=1e-5)


@each_cell
def test_a_narrow_table_does_what_the_best_wide_one_would(small_model, reviews, cell):
    model, data = small_model(cell=cell), reviews(20)
    narrow = narrow_embedding(model, 3)
    left, right = best_factors(model.embedding.weight.detach(), 3)
    wide = small_model(cell=cell)
    with torch.no_grad():
        wide.embedding.weight.copy_(left @ right)
    assert narrow.embedding.weight.shape == (50, 3)
    torch.testing.assert_close(predict(narrow, data), predict(wide, data), rtol=1e-4, atol=1e-5)
    assert not narrow.embedding.weight[0].any()  # padding stays zero


def test_at_full_rank_nothing_changes_below_it_the_rank_is_that_asked_for(small_model, reviews):
    model, data = small_model(), reviews(20)
    for made in (narrow_embedding(model, 6), factor_recurrent(model, 5)[0]):
        torch.testing.assert_close(predict(made, data), predict(model, data), rtol=1e-4, atol=1e-5)
    made, numbers = factor_recurrent(small_model(), 2)
    assert int(torch.linalg.matrix_rank(made.recurrent.weight_hh_l0, rtol=1e-5)) == 2
    assert numbers == 2 * (20 + 5)
    for rank in (0, 7):
        with pytest.raises(ValueError, match=rf"rank: got {rank}, expected 1 to 6"):
            narrow_embedding(small_model(), rank)


# Words


def test_a_trimmed_model_reads_trimmed_reviews_as_the_whole_one_does(small_model, reviews):
    model, whole = small_model(), reviews(20)
    data = trim_reviews(whole, 10)
    common = whole.tokens < 10
    assert torch.equal(data.tokens, whole.tokens * common + ~common)  # rare words are unknown
    small = trim_model(model, 10)
    assert small.embedding.num_embeddings == 10
    torch.testing.assert_close(predict(small, data), predict(model, data))


def test_sizes_and_shares_that_make_no_sense_are_named(small_model, reviews):
    for size in (2, 51):
        with pytest.raises(ValueError, match=f"size: got {size}, expected 3 to 50"):
            trim_model(small_model(), size)
    with pytest.raises(ValueError, match="size: got 2, expected at least 3"):
        hash_reviews(reviews(3), Vocabulary(["one"]), 2)
    with pytest.raises(ValueError, match=r"share: got 1\.5"):
        drop_words(reviews(3), 1.5, torch.Generator())
    for refusing in (cooled, lambda temperature: softened(torch.ones(1, 2), temperature)):
        with pytest.raises(ValueError, match="temperature: got 0"):
            refusing(0)
    # Those of a model inside another would be passed over.
    with pytest.raises(ValueError, match=r"masks: got \['embedding.weight'"):
        apply_masks(Rounded(small_model(), 4), smallest_masks(small_model(), 0.5))


def test_hashed_words_share_rows_by_their_text(reviews):
    vocab, other = Vocabulary(["好", "差", "贵"]), Vocabulary(["贵", "好"])
    data = reviews(1).with_inputs(torch.tensor([[2, 3, 4, 0]]), torch.tensor([3]))
    hashed = hash_reviews(data, vocab, 4).tokens[0].tolist()
    assert hashed[3] == 0
    assert set(hashed[:3]) <= {2, 3}
    turned = data.with_inputs(torch.tensor([[3, 1, 2, 0]]), data.lengths)
    again = hash_reviews(turned, other, 4).tokens[0].tolist()
    assert again == [hashed[0], 1, hashed[2], 0]


def test_dropped_words_are_unknown_and_padding_stays(reviews):
    data = reviews(300)
    dropped = drop_words(data, 0.25, torch.Generator().manual_seed(0))
    assert torch.equal(dropped.tokens == 0, data.tokens == 0)
    changed = dropped.tokens != data.tokens
    assert (dropped.tokens[changed] == 1).all()
    assert float(changed.sum() / (data.tokens > 1).sum()) == pytest.approx(0.25, abs=0.04)


# Distillation


def test_the_target_mixes_teacher_and_label(reviews):
    data, logits = reviews(2), torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    data = data.with_targets(torch.tensor([1, 1]))
    mixed = taught(data, logits, 2.0, trust=0.5).labels
    assert mixed[0].tolist() == pytest.approx([0.7311 / 2, 0.5 + 0.2689 / 2], abs=1e-4)
    assert taught(data, logits, 2.0, trust=1.0).labels[1, 1] == pytest.approx(0.7311, abs=1e-4)
    assert taught(data, logits, 2.0, trust=0.0).labels.tolist() == [[0, 1], [0, 1]]
    with pytest.raises(ValueError, match=r"trust: got 1\.5"):
        taught(data, logits, 2.0, trust=1.5)


def test_one_mixed_target_is_the_sum_of_two_losses(small_model, reviews):
    """Cross entropy is linear in its target."""
    data, model = reviews(12), small_model()
    teacher = torch.randn(12, 2, generator=torch.Generator().manual_seed(0))
    logits = predict(model, data) / 2.0
    ce = torch.nn.functional.cross_entropy
    mixed = ce(logits, taught(data, teacher, 2.0, 0.7).labels)
    two = 0.7 * ce(logits, softened(teacher, 2.0)) + 0.3 * ce(logits, data.labels)
    torch.testing.assert_close(mixed, two)


def test_a_student_without_a_label_learns_from_its_teacher(small_model, reviews):
    teacher, data, exam = small_model(), reviews(200), reviews(100, seed=9)
    train(teacher, data, LocalConfig(epochs=10, lr=0.02))
    unlabelled = data.with_targets(torch.zeros_like(data.labels))
    lesson = taught(unlabelled, predict(teacher, data), 2.0, trust=1.0)
    student = SentimentLSTM(50, 4, 3, seed=1, cell="gru")
    train(student, lesson, LocalConfig(epochs=15, lr=0.02), hooks=cooled(2.0))
    assert evaluate(student, exam).accuracy > 0.8
    assert agreement(student, predict(teacher, exam), exam) > 0.85
    assert agreement(teacher, predict(teacher, exam), exam) == 1.0


# Federated distillation


def players(small_model):
    cells = ("lstm", "gru", "rnn", "lstm")
    return [small_model(cell=cell, seed=seed) for seed, cell in enumerate(cells)]


PLAN = Plan(3, 3, LocalConfig(epochs=2, batch_size=8, lr=0.02), seed=1)


def test_models_of_all_kinds_learn_from_each_other(small_model, reviews):
    clients = [reviews(40, seed) for seed in range(4)]
    models, public, exam = players(small_model), reviews(150, seed=5), reviews(200, seed=9)
    alone = players(small_model)
    for model, data in zip(alone, clients, strict=True):
        train(model, data, LocalConfig(epochs=8, batch_size=8, lr=0.02))
    plan = replace(PLAN, rounds=4, clients_per_round=None)
    records = list(distillation_rounds(models, clients, public, plan))
    assert [record.round for record in records] == [1, 2, 3, 4]
    together, apart = (
        sum(evaluate(model, exam).accuracy for model in group) / 4 for group in (models, alone)
    )
    assert together > apart + 0.03


def test_what_is_exchanged_are_answers_of_those_who_are_asked(small_model, clients, reviews, bits):
    public, models = reviews(50, seed=5), players(small_model)
    before = [bits(model.state_dict()) for model in models]
    record = next(distillation_rounds(models, clients, public, PLAN))
    moved = [c for c, model in enumerate(models) if bits(model.state_dict()) != before[c]]
    assert moved == sorted(record.cohort)
    assert len(record.cohort) == 3
    assert record.consensus.shape == (50, 2)
    assert record.bytes_up == record.bytes_down == 3 * (50 * 2 * 2 + 28)
    whole = next(distillation_rounds(models, clients, public, PLAN, codec=Compressed()))
    assert whole.bytes_up > 1.8 * record.bytes_up
    small = [SentimentLSTM(10, 4, 3, seed=seed) for seed in range(4)]
    views = [lambda data: trim_reviews(data, 10)] * 4
    assert len([*distillation_rounds(small, clients, public, PLAN, views=views)]) == 3
    with pytest.raises(ValueError, match=r"models, clients, views: got \[3, 4, 4\]"):
        next(distillation_rounds(models[:3], clients, public, PLAN))


def test_labels_of_public_reviews_are_not_looked_at(small_model, clients, reviews, bits):
    ends = []
    for label in (0, 1):
        public = reviews(50, seed=5)
        public = public.with_targets(torch.full_like(public.labels, label))
        models = players(small_model)
        list(distillation_rounds(models, clients, public, PLAN, temperature=2.0))
        ends.append([bits(model.state_dict()) for model in models])
    assert ends[0] == ends[1]


def test_two_rounds_by_hand(small_model, clients, reviews, bits):
    """Two clients, temperature 3, half precision, steps of their own on the public reviews."""
    public, learn = reviews(20, seed=5), LocalConfig(batch_size=4, lr=0.01)
    plan = Plan(2, None, LocalConfig(batch_size=8, lr=0.02), seed=7)
    models, others = ([players(small_model)[0], Dropping()] for _ in range(2))
    options = {"learn": learn, "temperature": 3.0}
    list(distillation_rounds(models, clients[:2], public, plan, **options))
    use_own_randomness(others[1])
    for number in (1, 2):
        said = []
        for client, model in enumerate(others):
            train(model, clients[client], plan.local, seed=child_seed(7, "local", number, client))
            said.append(predict(model, public).half().float())
        mean = torch.stack(said).mean(0).half().float()
        for client, model in enumerate(others):
            seed = child_seed(7, "learn", number, client)
            lesson = public.with_targets((mean / 3).softmax(1))
            hooks = Hooks(logits=lambda z: z / 3, loss=lambda m, loss: loss * 9)
            train(model, lesson, learn, seed=seed, hooks=hooks)
    for model, other in zip(models, others, strict=True):
        assert bits(model.state_dict()) == bits(other.state_dict())


class Dropping(torch.nn.Module):
    """A bag of words with torch's own dropout, which draws from the global generator."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.bag = torch.nn.EmbeddingBag(50, 2)
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, tokens, lengths):
        return self.drop(self.bag(tokens))


# What is frozen


SMALLER = {
    "keep_units": lambda model: keep_units(model, [0, 2]),
    "narrow_embedding": lambda model: narrow_embedding(model, 3),
    "factor_recurrent": lambda model: factor_recurrent(model, 2)[0],
    "trim_model": lambda model: trim_model(model, 20),
}


@pytest.mark.parametrize("shrink", SMALLER.values(), ids=SMALLER.keys())
@pytest.mark.parametrize("training", [True, False])
def test_a_smaller_model_is_frozen_where_the_large_one_was(small_model, shrink, training):
    model = small_model().train(training)
    model.embedding.weight.requires_grad_(False)
    model.head.bias.requires_grad_(False)
    for one in (model, shrink(model)):
        frozen = {name for name, p in one.named_parameters() if not p.requires_grad}
        assert frozen == {"embedding.weight", "head.bias"}
        assert one.training is training


def test_training_for_few_bits_or_with_masks_leaves_frozen_what_was(small_model, reviews):
    model = small_model()
    model.embedding.weight.requires_grad_(False)
    before, masks = of_model(model), smallest_masks(model, 0.3)
    train(Rounded(model, 4), reviews(20), QUICK)
    assert torch.equal(model.embedding.weight, before["embedding.weight"])
    apply_masks(model, masks)
    train(model, reviews(20), QUICK, hooks=keep_pruned(masks))
    assert torch.equal(
        model.embedding.weight, before["embedding.weight"] * masks["embedding.weight"]
    )
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["embedding.weight"]


def test_a_column_of_numbers_is_no_answer_to_classes():
    """The softmax of one column makes every answer 1."""
    for function in (lambda x: softened(x, 2.0), lambda x: mix(x, x, 0.5)):
        with pytest.raises(ValueError, match=r"got \(4, 1\), expected (logits )?\(N, C\) of at"):
            function(torch.rand(4, 1))
