"""The certificate: given to the sentences behind a gradient, and to nothing that is much alike."""

import pytest
import torch
from leak_toys import KINDS, examples, reader

from fedlab_helpers.privacy.leaks import Sentence, gives, gradient_of
from fedlab_helpers.privacy.leaks.certificate import _misfit, _rivals, _rows

WORDS = [7, 59, 3, 59, 21]


def stands(model, gradient, *pairs):
    return gives(model, [Sentence(tuple(words), label, False) for words, label in pairs], gradient)


@pytest.mark.parametrize(("cell", "pooling"), KINDS)
def test_only_the_sentence_itself_gives_its_gradient(cell, pooling):
    model = reader(cell, pooling)
    gradient = gradient_of(model, examples((WORDS, 1)))
    assert stands(model, gradient, (WORDS, 1))
    assert stands(model, {name: 0.01 * tensor for name, tensor in gradient.items()}, (WORDS, 1))
    assert not stands(model, gradient, (WORDS, 0))
    for other in ([59, 7, 3, 59, 21], [7, 3, 59, 21], [7, 7, 59, 3, 59, 21], WORDS[::-1]):
        assert not stands(model, gradient, (other, 1))


@pytest.mark.parametrize(("size", "told"), [(5e-4, True), (2e-3, False)])
def test_a_row_may_be_off_by_rounding_but_not_by_more(size, told):
    model = reader()
    gradient = gradient_of(model, examples(([7, 59], 1)))
    row = gradient["embedding.weight"][7]
    row += size * row.norm() * torch.eye(16)[3]
    assert stands(model, gradient, ([7, 59], 1)) == told


def test_all_words_that_were_touched_and_no_others_must_be_there():
    model = reader()
    gradient = gradient_of(model, examples((WORDS, 1)))
    for other in ([7, 59, 3, 59], [7, 59, 3, 59, 21, 2]):
        assert not stands(model, gradient, (other, 1))


def test_sentences_of_a_batch_are_judged_together():
    model, pairs = reader(), [([7, 59, 3], 1), ([21, 7], 0), ([5], 1)]
    gradient = gradient_of(model, examples(*pairs))
    assert stands(model, gradient, *reversed(pairs))
    assert not stands(model, gradient, ([7, 59, 3], 1), ([7, 21], 0), ([5], 1))
    assert not stands(model, gradient, *pairs[:2], ([5, 5], 1))


def test_nor_in_a_batch_is_certified_what_cannot_be_counted():
    model = reader("rnn", gain=0.5)
    gradient = gradient_of(model, examples(([31] * 8, 0), ([5, 6], 1)))
    for count in (7, 9):
        assert not stands(model, gradient, ([31] * count, 0), ([5, 6], 1))


def test_where_nothing_is_remembered_nothing_is_certified():
    """Only the last word leaves a trace, so any words may have stood before it."""
    model = reader("rnn")
    model.recurrent.weight_hh_l0.data.zero_()
    gradient = gradient_of(model, examples(([2, 7], 1)))
    for words in ([2, 7], [7], [7, 7]):
        assert not stands(model, gradient, (words, 1))


@pytest.mark.parametrize(("length", "told"), [(3, True), (30, False)])
def test_how_often_a_word_was_said_is_certified_only_as_long_as_it_is_seen(length, told):
    """Each time further back moves the row by a share of what the next one did."""
    model = reader("rnn", gain=0.5)
    gradient = gradient_of(model, examples(([31] * length, 0)))
    for count in range(1, 33):
        assert stands(model, gradient, ([31] * count, 0)) == (told and count == length)


def test_rivals_are_a_word_more_a_word_less_and_neighbours_exchanged():
    front = {(4, 4, 8, 8), (8, 4, 8, 8)}
    assert set(_rivals((4, 8, 8), [4, 8], {8})) == front | {(4, 8), (8, 4, 8)}
    assert set(_rivals((4, 8, 8), [4, 8], {4, 8})) == front | {(8, 8), (4, 8), (8, 4, 8)}
    assert set(_rivals((4, 8), [4, 8], set())) == {(4, 4, 8), (8, 4, 8)}  # rows say the rest
    assert set(_rivals((4,), [4, 8], {4})) == {(4, 4), (8, 4)}


def test_rows_are_those_of_the_gradient_and_misfits_relative_to_each():
    model, pairs = reader().double(), [(WORDS, 1), ([21, 7], 0)]
    words = torch.tensor([3, 7, 21, 59])
    rows = _rows(model, pairs, words)
    seen = gradient_of(model, examples(*pairs))["embedding.weight"][words]
    torch.testing.assert_close(rows.mean(0), seen)
    seen = torch.tensor([[3.0, 4.0], [0.0, 1e-3]], dtype=torch.float64)
    other = torch.stack([2 * seen, -seen, seen + torch.tensor([[0.0, 0.0], [0.0, 5e-4]])])
    assert _misfit(other, seen).tolist() == pytest.approx([0, torch.inf, 0.5], abs=1e-6)
