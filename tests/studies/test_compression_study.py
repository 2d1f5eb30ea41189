"""The study of bytes against accuracy: what one run measures."""

import numpy as np
import pytest

from fedlab_helpers import strategies
from fedlab_helpers.compression import WithFeedback, dense_size
from fedlab_helpers.core.rounds import Plan, run
from fedlab_helpers.core.training import predict
from fedlab_helpers.studies import compression, results
from fedlab_helpers.studies.aggregation import CHOSEN

SHORT = {"partition": "iid", "seed": 0, "codec": "top 10%, EF", "downlink": "whole"}


@pytest.fixture
def short(monkeypatch, few):
    """Three rounds of one client out of 100, so that a run takes a second."""
    for name, value in {"CLIENTS": 100, "COHORT": 1, "ROUNDS": 3, "LAST": 2}.items():
        monkeypatch.setattr(compression, name, value)


def test_a_row_after_every_late_round(short, few):
    rows = compression.measure(SHORT)
    assert [row["round"] for row in rows] == [2, 3]
    right = len(few.test) * rows[-1]["accuracy"]
    reference = (
        len(few.test) * compression.measure(SHORT | {"codec": "touched rows"})[-1]["accuracy"]
    )
    assert rows[-1]["gained"] - rows[-1]["lost"] == pytest.approx(right - reference, abs=0.2)
    assert rows[-1]["dense_bytes_up"] == 3 * dense_size(compression.new_model(0))
    assert 0 < rows[0]["bytes_up"] < rows[1]["bytes_up"] < rows[1]["dense_bytes_up"] / 20
    assert rows[-1]["bytes_down"] == pytest.approx(rows[-1]["dense_bytes_up"], rel=1e-3)


def test_the_lossless_run_loses_nothing_against_itself(short):
    for row in compression.measure(SHORT | {"codec": "touched rows"}):
        assert row["gained"] == row["lost"] == 0


def test_changes_down_are_counted(short):
    whole, changes = (
        compression.measure(SHORT | {"downlink": name})[-1]["bytes_down"]
        for name in ("whole", "changes of rank 2, known start")
    )
    assert 0 < changes < whole / 10


def test_it_is_the_run_that_it_names(short, few):
    model, settings = compression.new_model(0), SHORT | {"codec": "top 10%, EF"}
    clients = compression.clients_of({"partition": "iid", "clients": 100, "seed": 0})
    plan = Plan(3, 1, compression.LOCAL, 0, workers=1)
    codec = compression.CODECS["top 10%, EF"]
    assert isinstance(codec, WithFeedback)
    run(model, clients, strategies.rowwise(), plan, codec=codec)
    right = (predict(model, few.test).argmax(1) == few.test.labels).double().mean()
    assert compression.measure(settings)[-1]["accuracy"] == pytest.approx(float(right), abs=1e-5)


def test_the_rate_is_the_one_that_was_tuned_for_the_lossless_run():
    assert CHOSEN["rowwise"].lr == compression.LOCAL.lr


def runs_of(table: str) -> dict[tuple[str, ...], list[dict]]:
    runs = {}
    for row in results.read(results.RESULTS / table):
        runs.setdefault((row["partition"], row["downlink"], row["codec"], row["seed"]), []).append(
            row
        )
    return runs


def test_the_targets_are_met_in_the_table():
    """100 times fewer bytes up than dense at no more than a point; 462 is the literature's mark."""
    losses = {}
    for (partition, downlink, codec, _), rows in runs_of("compression.csv").items():
        late = [row for row in rows if int(row["round"]) > 15]
        lost = np.mean([int(row["lost"]) - int(row["gained"]) for row in late]) / 34.73
        factor = int(late[-1]["dense_bytes_up"]) / int(late[-1]["bytes_up"])
        losses.setdefault((partition, downlink, codec), []).append((factor, lost))
    for partition in ("iid", "by_domain"):
        for codec, least in (("top 10% sign, EF", 140), ("rank 2 in 4 bits, EF", 540)):
            factors, points = zip(*losses[partition, "whole", codec], strict=True)
            assert len(factors) == 3
            assert min(factors) > least
            assert np.mean(points) <= 1.0
