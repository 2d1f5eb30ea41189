"""What holds of every check: a blank is not yet, and whatever an answer raises is told."""

import importlib
import inspect
import pkgutil

import numpy as np
import pandas as pd
import pytest
import torch
from verdicts import refused

from fedlab_helpers.lessons import checks
from fedlab_helpers.lessons.checks.verdict import Hint, exercise, number, tensor, whole

MODULES = [module.name for module in pkgutil.iter_modules(checks.__path__)]
CHECKS = [
    pytest.param(check, id=f"{name}.{check.__name__}")
    for name in MODULES
    for check in vars(importlib.import_module(f"{checks.__name__}.{name}")).values()
    if hasattr(check, "__wrapped__") and check.__module__.startswith(checks.__name__)
]


def test_every_notebook_has_its_checks():
    assert {*checks.__all__, "verdict"} == set(MODULES)
    assert len(CHECKS) > 45


@pytest.mark.parametrize("check", CHECKS)
def test_a_blank_or_a_stub_is_not_yet_and_an_exception_is_a_hint(check):
    parameters = list(inspect.signature(check).parameters)

    def stub(*_):
        raise NotImplementedError

    blanks = [None, ..., *([stub] if parameters[0] == "function" else [])]
    for blank in blanks:
        verdict = check(blank, *[0] * (len(parameters) - 1))
        assert (verdict.started, verdict.passed) == (False, False)
    if parameters[0] == "function":
        verdict = check(lambda *_: 1 / 0)
        assert verdict.started
        assert "ZeroDivisionError" in verdict.message


def test_what_pytorch_has_not_implemented_is_no_stub():
    def answer():
        raise NotImplementedError('"abs" not implemented for Float8')

    refused(exercise("write it")(lambda function: function())(answer), "for Float8")


def test_a_whole_number_may_come_from_anywhere():
    for count in (110, 110.0, np.int64(110), np.float32(110), torch.tensor(110), np.array([110])):
        assert whole(count) == 110
    for other in (1.5, True, "110", None, float("nan"), float("inf"), [110], np.array([1, 2])):
        assert whole(other) is None


@pytest.mark.parametrize(
    "got", [2, 2.0, np.int64(2), np.float32(2), np.array([2.0]), torch.tensor([2.0])]
)
def test_a_number_may_come_in_any_form(got):
    assert number(got) == 2.0


@pytest.mark.parametrize(
    "got",
    [
        [1, 2.0],
        (np.float32(1), torch.tensor(2)),
        np.array([1, 2]),
        torch.tensor([1.0, 2.0], requires_grad=True),
        pd.Series([1, 2], index=[7, 8]),
    ],
)
def test_numbers_may_come_in_any_form(got):
    assert torch.equal(tensor(got), torch.tensor([1.0, 2.0], dtype=torch.float64))
    assert torch.equal(tensor([got, got])[1], tensor(got))


@pytest.mark.parametrize(
    ("got", "told"),
    [(None, "return"), ("two", "str: 'two'"), ({}, "dict"), ([1, 2], "one number, got 2")],
)
def test_what_is_no_number_is_told(got, told):
    @exercise("a number")
    def check(function):
        number(function())

    verdict = check(lambda: got)
    refused(verdict, told)
    with pytest.raises(Hint):
        number(got)
