"""Sentences out of one gradient: what is certified is true, and nearly all is certified."""

import copy

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from leak_toys import KINDS, WORDS, examples, reader, readers, sentences, told

from fedlab_helpers.core import state
from fedlab_helpers.core.training import LocalConfig, train
from fedlab_helpers.privacy.leaks import explain, gradient_behind, gradient_of, read

some = settings(max_examples=20)


def spoken(*pairs):
    return sorted((list(words), label) for words, label in pairs)


def certified(found):
    assert len({sentence.certified for sentence in found}) == 1
    return found[0].certified


def require_true(found, *pairs):
    """A certificate is never wrong."""
    assert not certified(found) or told(found) == spoken(*pairs)


@some
@given(readers, sentences(), st.integers(0, 1))
def test_what_is_certified_is_the_sentence(model, words, label):
    require_true(read(model, gradient_of(model, examples((words, label)))), (words, label))


@some
@given(readers, sentences(30, range(1, 4)), st.integers(0, 1))
@example(reader("rnn", gain=0.5), [31] * 8, 0)
def test_nor_is_it_wrong_where_words_recur_again_and_again(model, words, label):
    require_true(read(model, gradient_of(model, examples((words, label)))), (words, label))


def random_words(seed, longest=12):
    rng = torch.Generator().manual_seed(seed)
    length = int(torch.randint(1, longest + 1, (1,), generator=rng))
    return torch.randint(1, WORDS, (length,), generator=rng).tolist()


@pytest.mark.parametrize(("cell", "pooling"), KINDS)
def test_nearly_every_short_sentence_is_certified(cell, pooling):
    model = reader(cell, pooling)
    pairs = [(random_words(seed), seed % 2) for seed in range(10)]
    hits = 0
    for pair in pairs:
        found = read(model, gradient_of(model, examples(pair)))
        hits += certified(found) and told(found) == spoken(pair)
    assert hits >= 9


@some
@given(readers, sentences(8), st.floats(1e-3, 1e3))
def test_a_positive_multiple_tells_the_same(model, words, factor):
    gradient = gradient_of(model, examples((words, 1)))
    scaled = {name: tensor * factor for name, tensor in gradient.items()}
    assert read(model, scaled) == read(model, gradient)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_negative_multiple_is_the_other_class_of_two_and_nothing_of_three(classes):
    model = reader(classes=classes)
    gradient = gradient_of(model, examples(([7, 59, 3], 1)))
    found = read(model, {name: -tensor for name, tensor in gradient.items()})
    assert certified(found) == (classes == 2)
    assert found[0].label != 1


@pytest.mark.parametrize(("cell", "pooling"), KINDS)
@pytest.mark.parametrize("norm", [None, 0.1])
def test_the_change_of_one_step_tells_the_same(cell, pooling, norm):
    model, pair = reader(cell, pooling), ([7, 59, 3, 7], 1)
    config = LocalConfig(1, None, 1.0, "sgd", max_grad_norm=norm)
    trained = copy.deepcopy(model)
    train(trained, examples(pair), config)
    change = state.subtract(state.of_model(trained), state.of_model(model))
    found = read(model, gradient_behind(change, config))
    assert certified(found)
    assert told(found) == spoken(pair)


@pytest.mark.parametrize(("cell", "pooling"), KINDS)
@pytest.mark.parametrize("count", [2, 3])
def test_a_few_sentences_of_words_of_their_own_are_told_apart(cell, pooling, count):
    model = reader(cell, pooling)
    pairs = [([9 * k + step for step in range(1, 5)], k % 2) for k in range(count)]
    found = read(model, gradient_of(model, examples(*pairs)), count)
    assert certified(found)
    assert told(found) == spoken(*pairs)


@some
@given(readers, st.lists(st.tuples(sentences(4), st.integers(0, 1)), min_size=2, max_size=3))
def test_a_batch_that_is_certified_is_the_batch(model, pairs):
    found = read(model, gradient_of(model, examples(*pairs)), len(pairs))
    require_true(found, *pairs)


def test_one_of_a_batch_may_end_in_the_same_word_again_and_again():
    pairs = ([3, 4, 40], 1), ([10, 42, 22, *[8] * 7], 0)
    model = reader()
    found = read(model, gradient_of(model, examples(*pairs)), 2)
    assert sorted(told(found)) == sorted(pairs)
    assert certified(found)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_of_three_classes_the_one_is_told(label):
    model = reader(classes=3)
    found = read(model, gradient_of(model, examples(([7, 59, 3], label))))
    assert told(found) == [([7, 59, 3], label)]
    assert certified(found)


@some
@given(readers, sentences(8))
def test_a_gradient_of_another_model_is_never_certified(model, words):
    other = reader(model.recurrent.mode.split("_")[0].lower(), model.pooling, seed=100)
    gradient = gradient_of(other, examples((words, 1)))
    assert not certified(read(model, gradient))


@settings(max_examples=10)
@given(readers, sentences(6), st.integers(0, 99))
def test_a_noisy_gradient_is_never_certified(model, words, seed):
    rng, gradient = torch.Generator().manual_seed(seed), gradient_of(model, examples((words, 1)))
    for tensor in gradient.values():
        size = 2e-3 * tensor.norm() / max(1, int(tensor.count_nonzero())) ** 0.5
        tensor += size * torch.randn(tensor.shape, generator=rng) * (tensor != 0)
    assert not certified(read(model, gradient))


def test_where_training_drops_values_nothing_is_certified_and_the_model_stays_as_it_was():
    model, pair = reader(dropout=0.3), ([7, 59, 3, 21], 1)
    trained, config = copy.deepcopy(model), LocalConfig(1, None, 1.0, "sgd")
    train(trained, examples(pair), config)
    change = state.subtract(state.of_model(trained), state.of_model(model))
    model.train()
    model.dropout.eval()
    model.head.weight.grad = torch.ones_like(model.head.weight)
    before = copy.deepcopy(model.state_dict())
    assert not certified(read(model, gradient_behind(change, config)))
    assert certified(read(model, gradient_of(model, examples(pair))))  # taken without dropout
    assert [model.training, model.dropout.training, model.recurrent.training] == [True, False, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(model.head.weight.grad, torch.ones_like(model.head.weight))
    assert all(p.grad is None for n, p in model.named_parameters() if n != "head.weight")


@pytest.mark.parametrize("words", [[59], [7], [7, 7], [7] * 6, [59, 1, 59], [3, 3, 9, 9, 3]])
@pytest.mark.parametrize(("cell", "pooling"), KINDS)
def test_the_last_word_of_the_vocabulary_single_words_and_repetitions(cell, pooling, words):
    model = reader(cell, pooling)
    found = read(model, gradient_of(model, examples((words, 0))))
    assert told(found) == [(words, 0)]
    assert certified(found)


def test_a_model_in_double_precision_and_another_default_dtype():
    pair = ([7, 59, 3, 7], 1)
    model = reader().double()
    found = read(model, gradient_of(model, examples(pair)))
    assert (told(found), certified(found)) == (spoken(pair), True)
    torch.set_default_dtype(torch.float64)
    try:
        model = reader().float()
        found = read(model, gradient_of(model, examples(pair)))
    finally:
        torch.set_default_dtype(torch.float32)
    assert (told(found), certified(found)) == (spoken(pair), True)


@pytest.mark.parametrize("count", [0, -1, 1.5, True])
def test_no_sentence_cannot_be_asked_for(count):
    with pytest.raises(ValueError, match=r"sentences: got .*expected an integer of at least 1"):
        read(reader(), gradient_of(reader(), examples(([7], 1))), count)


def test_what_is_too_long_is_told_as_its_words_by_the_clock():
    """Where nothing explains the head's gradient: it has been exchanged for another's."""
    model = reader(gain=1.0)
    gradient = gradient_of(model, examples(([7, 59, 3], 1)))
    other = gradient_of(model, examples(([8, 8, 2], 1)))
    (found,) = read(model, {**gradient, "head.weight": other["head.weight"]})
    assert (list(found.tokens), found.label, found.certified) == ([7, 59, 3], 1, False)


def test_views_that_explain_a_head_are_found_with_their_weights():
    views = torch.tensor([[1, 0, 1], [0, 1, 1], [0.5, -1, 1], [2, 2, 1]], dtype=torch.float64)
    weights = torch.tensor([[0.3, -0.2], [-0.3, 0.2]], dtype=torch.float64)
    chosen, found = explain(weights @ views[[2, 1]], views, 2)
    assert sorted(chosen) == [1, 2]
    back = {row: found[:, k].tolist() for k, row in enumerate(chosen)}
    assert back[2] == pytest.approx([0.3, -0.3])
    assert back[1] == pytest.approx([-0.2, 0.2])
    head = torch.tensor([[0.1, 0.2, 0.4]], dtype=torch.float64)
    assert explain(head, views[:2], 1)[0] == []
    assert explain(head, views[:0], 1)[0] == []


def test_a_view_much_like_the_first_is_found_by_what_it_adds():
    """Of what is left after the first, the last view holds more, but only part of itself fits."""
    views = torch.tensor([[0, 0, 1], [0.1, 0, 1], [1, 1, 1]], dtype=torch.float64)
    chosen, _ = explain(views[:2].sum(0, keepdim=True), views, 2)
    assert sorted(chosen) == [0, 1]
