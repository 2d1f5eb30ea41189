"""Which words an update holds, and in which order."""

import torch
from leak_toys import examples, reader

from fedlab_helpers.privacy.leaks import clock, gradient_of, touched


def test_rows_that_are_not_zero_are_touched_in_the_order_of_their_length():
    table = torch.tensor([[0.0, 0.0], [3.0, -4.0], [0.0, 0.0], [-1e-30, 0.0], [0.0, 2.0]])
    assert touched(table).tolist() == [1, 3, 4]
    assert clock(table).tolist() == [3, 4, 1]
    assert touched(torch.zeros(3, 2)).tolist() == []


def test_rows_too_short_for_their_squares_keep_their_order():
    table = torch.tensor([[2e-30, 2e-30], [1e-30, 1e-30], [3e-30, 3e-30]])
    assert clock(table).tolist() == [1, 0, 2]


def test_in_an_untrained_network_the_clock_tells_the_order_of_distinct_words():
    sentence = [7, 59, 3, 21, 40]
    gradient = gradient_of(reader(gain=1.0), examples((sentence, 1)))
    assert clock(gradient["embedding.weight"]).tolist() == sentence
