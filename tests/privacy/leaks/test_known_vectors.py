"""Words read where none was sent: the same as with a table, and refused where nothing is told."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from leak_toys import KINDS, examples, reader, sentences, told

from fedlab_helpers.core.compute import torch_rng
from fedlab_helpers.privacy.leaks import alike, gradient_of, outside, read, touched, with_table
from fedlab_helpers.tasks.reviews.model import PublicWordsLSTM

VECTORS = torch.randn(60, 16, generator=torch_rng(0))
VECTORS[[0, 1, 30, 31]] = 0  # padding, unknown, and words that the text has not
each_kind = pytest.mark.parametrize(("cell", "pooling"), KINDS)
ABC = [7, 1, 7, 21, 40, 59, 3]


def public(cell="lstm", pooling="last", seed=0):
    """Return a small classifier over known vectors, whose gradient does not vanish at once."""
    model = PublicWordsLSTM(VECTORS, 16, cell=cell, pooling=pooling, seed=seed)
    with torch.no_grad():
        for weight in model.recurrent.parameters():
            weight.mul_(1.5)
    return model


def test_words_with_one_vector_are_one_word_and_padding_is_none():
    table = torch.tensor([[0.0], [0.0], [2.0], [3.0], [2.0], [0.0]])
    assert alike(table).tolist() == [0, 1, 2, 3, 2, 1]


@given(
    st.sampled_from(KINDS),
    sentences(10).filter(lambda s: len(set(s)) < 9),
    st.integers(0, 9),
)
def test_the_words_of_a_sentence_lie_in_the_space_and_no_others(kind, sentence, seed):
    gradient = gradient_of(public(*kind, seed), examples((sentence, 1)))
    found = (outside(VECTORS, gradient) < 0.1).nonzero()[:, 0]
    expected = {int(alike(VECTORS)[word]) for word in sentence}
    assert set(alike(VECTORS)[found].tolist()) == expected


@each_kind
def test_the_model_with_a_table_is_the_same_and_so_is_its_gradient(cell, pooling):
    model, data = public(cell, pooling), examples((ABC, 1))
    whole, gradient = with_table(model, gradient_of(model, data))
    torch.testing.assert_close(whole(*data.inputs), model(*data.inputs))
    expected = gradient_of(whole, data)
    assert gradient.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(gradient[name].float(), tensor, rtol=1e-3, atol=1e-6)
    assert touched(gradient["embedding.weight"]).tolist() == sorted(set(ABC))


@each_kind
def test_a_sentence_is_read_of_which_no_row_was_sent(cell, pooling):
    model = public(cell, pooling)
    (found,) = read(*with_table(model, gradient_of(model, examples((ABC, 0)))))
    assert told([found]) == [(ABC, 0)]
    assert found.certified


def test_several_sentences_are_read():
    model, both = public(), [([7, 21, 40], 1), ([3, 59, 12, 7], 0)]
    found = read(*with_table(model, gradient_of(model, examples(*both))), sentences=2)
    assert told(found) == sorted(both)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3])
def test_a_multiple_of_a_gradient_tells_the_same(scale):
    gradient = gradient_of(public(), examples((ABC, 1)))
    torch.testing.assert_close(
        outside(VECTORS, {name: scale * g for name, g in gradient.items()}),
        outside(VECTORS, gradient),
        atol=1e-4,
        rtol=0,
    )


def test_nothing_is_told_by_noise_by_zeros_or_by_more_words_than_dimensions():
    model = public()
    gradient = gradient_of(model, examples((ABC, 1)))
    many = gradient_of(model, examples((range(2, 22), 1), (range(40, 60), 0)))
    noise = {n: g + 1e-3 * torch.randn(g.shape, generator=torch_rng(1)) for n, g in many.items()}
    for empty in (many, noise, {name: 0 * g for name, g in gradient.items()}):
        assert float(outside(VECTORS, empty).min()) > 0.999
        with pytest.raises(ValueError, match="gradient: got 'the space of no word, or of all'"):
            with_table(model, empty)


def test_a_model_with_a_table_is_refused():
    model = reader()
    with pytest.raises(ValueError, match=r"model\.embedding: got Embedding.*FrozenWords"):
        with_table(model, gradient_of(model, examples((ABC, 1))))
