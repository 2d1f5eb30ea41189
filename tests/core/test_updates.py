"""Updates: what the server refuses, and that the message says why."""

from dataclasses import replace

import pytest
import torch

from fedlab_helpers.core import messages
from fedlab_helpers.core.messages import RefusedUpdate, Update

LIKE = {"e": torch.zeros(4, 2), "b": torch.zeros(3), "scale": torch.tensor(1.0)}


def update(delta=None, **changes):
    """Return an acceptable update, but for what is named."""
    whole = {name: torch.ones_like(tensor) for name, tensor in LIKE.items()} | (delta or {})
    return replace(Update(7, whole, examples=3, steps=2, losses=(0.5,)), **changes)


def sparse(rows, values=None):
    """Return an update that holds these rows of "e"."""
    rows = torch.as_tensor(rows, dtype=torch.int64)
    values = torch.ones(rows.numel(), 2) if values is None else values
    return update({"e": values}, touched_rows={"e": rows})


@pytest.mark.parametrize(
    "fine",
    [
        update(),
        update(steps=0),
        update(extra={"anything": torch.tensor([2**40])}),
        sparse([]),
        sparse([3]),
        sparse([0, 1, 3]),
        sparse([0, 1, 2, 3]),
    ],
    ids=str,
)
def test_what_fits_is_accepted(fine):
    assert fine.require_fit(LIKE) is None


REFUSED = {
    "missing name": (
        replace(update(), delta={"e": LIKE["e"], "b": LIKE["b"]}),
        "'scale' is missing, expected",
    ),
    "odd name": (update({"c": torch.zeros(1)}), "'c' is .* expected no such name"),
    "no name": (replace(update(), delta={}), "'b' is missing"),
    "rows of no tensor": (
        update(touched_rows={"z": torch.tensor([0])}),
        r"rows of tensors that the model does not have: \['z'\]",
    ),
    "wide": (
        update({"b": torch.ones(4)}),
        r"'b' is \(4,\) torch.float32, expected \(3,\) torch.float32",
    ),
    "flat": (update({"e": torch.ones(8)}), r"'e' is \(8,\) .* expected \(4, 2\)"),
    "dtype": (update({"b": torch.ones(3).double()}), r"'b' is .*float64, expected .*float32"),
    "whole, said to be rows": (
        sparse([0, 1], torch.ones(4, 2)),
        r"'e' is \(4, 2\) .* expected \(2, 2\)",
    ),
    "narrow rows": (sparse([0, 1], torch.ones(2, 1)), r"'e' is \(2, 1\) .* expected \(2, 2\)"),
    "row too high": (sparse([1, 4]), r"rows of 'e' must ascend within 0\.\.3"),
    "row too low": (sparse([-1, 2]), r"rows of 'e' must ascend within 0\.\.3"),
    "row twice": (sparse([1, 1]), "rows of 'e' must ascend"),
    "rows descend": (sparse([2, 1]), "rows of 'e' must ascend"),
    "a row that is no list": (
        sparse(2, torch.ones(1, 2)),
        r"rows of 'e', which is \(4, 2\), come as \(\), expected \(k,\)",
    ),
    "rows in a table": (sparse([[0, 1], [2, 3]]), r"come as \(2, 2\), expected \(k,\)"),
    "rows of a number": (
        update({"scale": torch.ones(1)}, touched_rows={"scale": torch.tensor([0])}),
        r"rows of 'scale', which is \(\), come as \(1,\)",
    ),
    "NaN": (update({"b": torch.tensor([0.0, torch.nan, 0.0])}), "NaN or infinite"),
    "infinity": (sparse([1], torch.tensor([[1.0, -torch.inf]])), "NaN or infinite"),
    "NaN in extra": (update(extra={"c": torch.tensor(torch.nan)}), "NaN or infinite"),
    "NaN as loss": (update(losses=(0.5, float("nan"))), "NaN or infinite"),
    "no example": (update(examples=0), "0 examples, 2 steps and 1 losses are reported"),
    "negative examples": (update(examples=-5), "-5 examples"),
    "negative steps": (update(steps=-1), "3 examples, -1 steps"),
    "no loss": (update(losses=()), "0 losses are reported, expected at least 1, 0 and 1"),
}


@pytest.mark.parametrize(("bad", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_refused_with_its_reason(bad, reason):
    with pytest.raises(RefusedUpdate, match=reason):
        bad.require_fit(LIKE)


def test_a_dtype_that_torch_cannot_look_into_is_refused(monkeypatch):
    """As float8 in torch 2.13, which a payload can hold."""

    def not_implemented(state):
        raise NotImplementedError('"isfinite" not implemented for this dtype')

    monkeypatch.setattr(messages, "all_finite", not_implemented)
    with pytest.raises(RefusedUpdate, match=r"dtype cannot be checked: .isfinite"):
        update().require_fit(LIKE)
