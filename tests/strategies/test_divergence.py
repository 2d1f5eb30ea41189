"""Angles and lengths of updates: by hand, and what must hold for any."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlab_helpers.core import state
from fedlab_helpers.strategies.divergence import block_of, divergence, gates


def change(*values: float) -> state.State:
    return {"a": torch.tensor(values[:1]), "b": torch.tensor(values[1:])}


def test_by_hand():
    """(3, 4) and (4, 3): length 5, cosine 24/25, mean (3.5, 3.5)."""
    measured = divergence([change(3.0, 4.0), change(4.0, 3.0)])
    assert measured["norm"] == 5
    assert measured["cosine"] == pytest.approx(24 / 25)
    assert measured["survives"] == pytest.approx(3.5 * math.sqrt(2) / 5)


def test_orthogonal_changes_shrink_by_the_root_of_their_number():
    rows = torch.eye(9)
    measured = divergence([{"w": row} for row in rows])
    assert measured["cosine"] == pytest.approx(0)
    assert measured["survives"] == pytest.approx(1 / 3)


def test_a_client_that_did_not_move():
    measured = divergence([{"w": torch.zeros(3)}, {"w": torch.ones(3)}])
    assert measured["cosine"] == 0
    assert measured["survives"] == pytest.approx(1)
    assert divergence([{"w": torch.zeros(3)}] * 2) == {"norm": 0, "cosine": 0, "survives": 0}


@given(st.lists(st.lists(st.floats(-9, 9), min_size=3, max_size=3), min_size=2, max_size=6))
def test_length_cosine_and_what_survives_belong_together(rows):
    """‖mean‖² = (1/K²)(sum of squares + sum over pairs): with unit lengths, (1 + (K-1)·cos)/K."""
    vectors = torch.tensor(rows, dtype=torch.float64)
    lengths = vectors.norm(dim=1)
    if bool((lengths < 1e-3).any()):
        return
    measured = divergence([{"w": v / n} for v, n in zip(vectors, lengths, strict=True)])
    count = len(rows)
    assert measured["norm"] == pytest.approx(1)
    expected = (1 + (count - 1) * measured["cosine"]) / count
    assert measured["survives"] ** 2 == pytest.approx(expected, abs=1e-6)


def test_an_lstm_falls_into_its_gates(small_model):
    weights = state.of_model(small_model())
    cut = gates(weights)
    hidden = 5
    for gate, start in zip("ifgo", range(0, 4 * hidden, hidden), strict=True):
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
            rows = weights[f"recurrent.{name}"][start : start + hidden]
            assert cut[f"{gate}.{name}"].equal(rows)
    assert {block_of(name) for name in cut} == {"embedding", "head", *"ifgo"}
    assert sum(t.numel() for t in cut.values()) == sum(t.numel() for t in weights.values())


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="deltas: got 1, expected at least two to compare"):
        divergence([change(1.0, 2.0)])
