"""The state before each word, against what torch's own layer had there."""

import pytest
import torch
from leak_toys import KINDS, examples, reader
from torch import nn

from fedlab_helpers.privacy.leaks import dominoes, gradient_of

each_kind = pytest.mark.parametrize(("cell", "pooling"), KINDS)


def states_before(model, sentence):
    """Return the state that the layer had before each word, (T, H)."""
    outputs, _ = model.recurrent(model.embedding(torch.tensor([sentence])))
    return torch.cat([torch.zeros(1, outputs.shape[2]), outputs[0, :-1]]).detach().double()


def laid(cell, pooling, sentence):
    model = reader(cell, pooling)
    tiles = dominoes(model, gradient_of(model, examples((sentence, 1))))
    places = [tiles.words.tolist().index(word) for word in sentence]
    return tiles, places, states_before(model, sentence)


@each_kind
def test_before_distinct_words_stand_the_states_that_the_layer_had(cell, pooling):
    tiles, places, states = laid(cell, pooling, [7, 59, 3, 21, 40])
    assert sorted(places) == [0, 1, 2, 3, 4]
    assert tiles.recurring == 0
    assert torch.equal(tiles.seen, torch.eye(16, dtype=torch.float64))
    torch.testing.assert_close(tiles.before[places], states, rtol=0, atol=1e-4)
    assert bool((tiles.blur < 1e-4).all())


@each_kind
def test_where_a_word_recurs_the_part_that_is_seen_agrees(cell, pooling):
    sentence = [7, 59, 7, 21, 40, 59]
    tiles, places, states = laid(cell, pooling, sentence)
    assert len(tiles.words) == 4
    assert tiles.recurring == 2
    assert float(tiles.seen.trace()) == pytest.approx(14)
    torch.testing.assert_close(tiles.seen @ tiles.seen, tiles.seen, rtol=0, atol=1e-9)
    torch.testing.assert_close(tiles.before[places], states @ tiles.seen, rtol=0, atol=1e-4)
    hidden = states[0] - states[2]  # of one word in two places, the difference is not told
    assert float((hidden @ tiles.seen).norm()) < 1e-3 * float(hidden.norm())


def test_vectors_are_those_of_the_words():
    tiles, places, _ = laid("gru", "last", [7, 59, 3])
    vectors = reader("gru").embedding.weight[[7, 59, 3]].double()
    assert torch.equal(tiles.vectors[places], vectors)


def refusal(model, sentence, match):
    with pytest.raises(ValueError, match=match):
        dominoes(model, gradient_of(model, examples((sentence, 1))))


def test_more_words_than_a_vector_is_wide_are_refused():
    refusal(reader(), list(range(1, 18)), "words: got 17, expected 1 to 16")


@pytest.mark.parametrize("options", [{"num_layers": 2}, {"bidirectional": True}])
def test_other_layers_are_refused(options):
    model = reader()
    model.recurrent = nn.LSTM(16, 16, batch_first=True, **options)
    model.head = nn.Linear(32 if "bidirectional" in options else 16, 2)
    refusal(model, [7, 59], "model.recurrent: got LSTM.*expected one layer in one direction")


def test_a_gradient_that_touches_no_word_is_refused():
    model = reader()
    gradient = gradient_of(model, examples(([7, 59], 1)))
    gradient["embedding.weight"].zero_()
    with pytest.raises(ValueError, match="words: got 0, expected 1 to 16"):
        dominoes(model, gradient)


@pytest.mark.parametrize("name", ["head.bias", "recurrent.weight_hh_l0", "embedding.weight"])
def test_what_is_no_gradient_of_the_model_is_refused_by_name(name):
    model = reader()
    gradient = gradient_of(model, examples(([7, 59], 1)))
    for value in (float("nan"), float("inf")):
        odd = {**gradient, name: gradient[name].clone()}
        odd[name].view(-1)[3 % odd[name].numel()] = value
        with pytest.raises(ValueError, match=rf"gradient: '{name}'.*finite numbers"):
            dominoes(model, odd)
    missing = {key: tensor for key, tensor in gradient.items() if key != name}
    with pytest.raises(ValueError, match=rf"gradient: got \['{name}'\]"):
        dominoes(model, missing)
    with pytest.raises(ValueError, match=rf"gradient: '{name}': got .*expected equal shapes"):
        dominoes(model, {**gradient, name: gradient[name][:-1]})


def test_a_head_without_a_gradient_tells_no_class_and_is_refused():
    model = reader()
    gradient = gradient_of(model, examples(([7, 59], 1)))
    with pytest.raises(ValueError, match=r"gradient: 'head.bias': got .*not 0"):
        dominoes(model, {**gradient, "head.bias": torch.zeros(2)})
