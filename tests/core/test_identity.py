"""Fingerprints: what prints alike need not be alike, and what is alike must be known again."""

import functools
import random
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fedlab_helpers import strategies
from fedlab_helpers.core.identity import digest, known_as

SCALE = 1.0


class Clip:
    """A reader's own transform, which prints as an address."""

    def __init__(self, most):
        self.most = most

    def __call__(self, update, kept, rng):
        return update, kept


class Slotted:
    __slots__ = ("most",)

    def __init__(self, most):
        self.most = most


@dataclass(frozen=True)
class Fixed:
    inner: object


def scaled(update, kept, rng):
    return SCALE, kept


def closing_over(number):
    return lambda update, kept, rng: (number, kept)


class Pooled(nn.Module):
    def __init__(self, pooling):
        super().__init__()
        self.pooling = pooling
        self.rnn, self.head = nn.LSTM(2, 2), nn.Linear(2, 2)


class Narrow(Slotted):
    __slots__ = ()


def frozen(model):
    model.rnn.requires_grad_(False)
    return model


PAIRS = {
    "an attribute": (Clip(1.0), Clip(2.0)),
    "a slot": (Slotted(1.0), Slotted(2.0)),
    "what a lambda closes over": (closing_over(1), closing_over(2)),
    "a default": (lambda update, k=1: k, lambda update, k=2: k),
    "a number in the code": (lambda update: 1, lambda update: 2),
    "a number in a function within": (
        lambda u: (lambda: 1)(),
        lambda u: (lambda: 2)(),
    ),
    "an argument of a partial": (
        functools.partial(scaled, rng=1),
        functools.partial(scaled, rng=2),
    ),
    "a bound method's object": (Clip(1).__call__, Clip(2).__call__),
    "deep inside": (Fixed([{"a": Clip(1)}]), Fixed([{"a": Clip(2)}])),
    "pooling": (Pooled("mean"), Pooled("last")),
    "a tensor's value": (torch.zeros(3), torch.ones(3)),
    "a tensor's dtype": (torch.zeros(2), torch.zeros(1, dtype=torch.float64)),
    "an array": (np.zeros(3), np.ones(3)),
    "a long array": (np.arange(5000), np.arange(5000) % 4999),
    "a set": ({1, 2}, {1, 3}),
    "half an emoji": ("\ud83d", "\ud83e"),
    "True and 1": (True, 1),
    "a slot of a base": (Narrow(1.0), Narrow(2.0)),
    "a range": (range(2), range(5)),
    "a path": (Path("a"), Path("b")),
    "a date": (date(2020, 1, 1), date(2021, 1, 1)),
    "a queue": (deque([1]), deque([2])),
    "NumPy's generator": (np.random.default_rng(0), np.random.default_rng(1)),
    "Python's generator": (random.Random(0), random.Random(1)),
    "a sparse tensor": (torch.eye(2).to_sparse(), 2 * torch.eye(2).to_sparse()),
    "a frozen part": (Pooled("mean"), frozen(Pooled("mean"))),
}


@pytest.mark.parametrize(("one", "other"), PAIRS.values(), ids=PAIRS)
def test_what_differs_is_told_apart(one, other):
    assert digest(one) != digest(other)
    assert digest(one) == digest(one)


def test_another_number_in_a_method_or_a_global_is_another_value(monkeypatch):
    def make(most):
        class Own:
            limit = most

            def __call__(self, update, kept, rng):
                return update, kept

        return Own()

    assert digest(make(1)) != digest(make(2))
    assert digest(make(1)) == digest(make(1))
    before = digest(scaled)
    monkeypatch.setitem(globals(), "SCALE", 2.0)
    assert digest(scaled) != before


FACTORS, TABLE, ARRAY = [1.0], {"scale": 1.0}, np.ones(2)


class Factor:
    of = 1.0


def uses_a_list(update):
    return FACTORS[0]


def uses_a_dictionary(update):
    return TABLE["scale"]


def uses_an_array(update):
    return ARRAY[0]


def uses_a_class(update):
    return Factor.of


def uses_a_number_within(update):
    return [SCALE for _ in range(3)]


VALUE = Fixed(1)


def uses_a_value(update):
    return VALUE


@pytest.mark.parametrize(
    ("function", "name", "other"),
    [
        (uses_a_list, "FACTORS", [0.0]),
        (uses_a_dictionary, "TABLE", {"scale": 0.0}),
        (uses_an_array, "ARRAY", np.zeros(2)),
        (uses_a_class, "Factor", type("Factor", (), {"of": 2.0})),
        (uses_a_number_within, "SCALE", 2.0),
        (uses_a_value, "VALUE", Fixed(2)),
        (uses_a_value, "VALUE", frozenset({1})),
    ],
)
def test_what_a_function_looks_up_is_part_of_it(function, name, other, monkeypatch):
    before = digest(function)
    assert digest(function) == before
    monkeypatch.setitem(globals(), name, other)
    assert digest(function) != before


def test_classes_that_know_each_other_are_gone_through_once():
    classes = [type(f"Knows{k}", (), {}) for k in range(12)]
    for one in classes:
        one.others = tuple(classes)
    began = time.perf_counter()
    assert digest(classes[0]) != digest(classes[1])
    assert time.perf_counter() - began < 5


def reads_an_attribute(update):
    return update.FACTORS


def test_an_attribute_is_not_the_global_of_its_name(monkeypatch):
    before = digest(reads_an_attribute)
    monkeypatch.setitem(globals(), "FACTORS", [2.0])
    assert digest(reads_an_attribute) == before


def test_what_cannot_be_written_down_has_a_digest_all_the_same():
    assert digest(threading.Lock()) == digest(threading.Lock())


def test_equal_content_is_known_again():
    same, equal = Clip(1), [Clip(1), Clip(1)]
    assert digest([same, same]) == digest(equal)  # whether or not it is one object
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    assert digest({3, 1, 2}) == digest({2, 3, 1})
    ring = []
    ring.append(ring)
    assert digest(ring) == digest(ring)


def test_a_models_weights_and_mode_do_not_count_for_the_model():
    model = Pooled("mean")
    before = known_as(model)
    model.load_state_dict({name: t + 1 for name, t in model.state_dict().items()})
    assert known_as(model.eval()) == before


def test_no_address_is_shown_and_strategies_differ_by_their_numbers():
    assert " at 0x" in repr(Clip(1))
    assert " at 0x" not in known_as(Clip(1))
    assert known_as(strategies.fedprox(0.1)) != known_as(strategies.fedprox(0.2))


def test_a_digest_tells_data_apart(reviews):
    one, two = reviews(5, seed=1), reviews(5, seed=2)
    assert digest([one, two]) == digest([one.subset(range(5)), two])
    others = [[two, one], [one], [one, two.subset([1, 0, 2, 3, 4])], []]
    others.append([one.with_targets(1 - one.labels), two])
    others.append([one, two.with_inputs(two.tokens, two.lengths.clamp(max=2))])
    assert len({digest(data) for data in [[one, two], *others]}) == 7


def test_it_is_the_same_in_every_process():
    code = (
        "import sys, torch; sys.path[:0] = sys.argv[1:]\n"
        "from test_identity import Clip, Fixed, Pooled, closing_over\n"
        "from fedlab_helpers.core.identity import digest\n"
        "print(digest([Clip({1, 'a', None}), Fixed({'x': closing_over(3)}), Pooled('mean')]))"
    )
    here = [sys.path[0], *(p for p in sys.path if p.endswith(("tests", "core")))]
    said = {
        subprocess.run(
            [sys.executable, "-c", code, *here],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_a_replaced_value_is_another(reviews):
    fixed = Fixed(1)
    assert digest(fixed) == digest(replace(fixed))
    assert digest(fixed) != digest(replace(fixed, inner=1.0))
