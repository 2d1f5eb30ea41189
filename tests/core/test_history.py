"""Records of rounds: through JSON and back, and as a table."""

import json
import math
from dataclasses import replace

import pytest

from fedlab_helpers.core.history import History, RoundRecord

FIRST = RoundRecord(
    round=1,
    cohort=(2, 5, 11),
    examples=30,
    steps=6,
    client_losses={2: 0.75, 11: 0.25},
    left_out={5: "dropped out (simulated)"},
    bytes_down=300,
    bytes_up=200,
    seconds=1.5,
    metrics={"loss": 0.6, "accuracy": 0.7, "examples": 3473},
)
SECOND = replace(
    FIRST, round=2, left_out={}, bytes_down=30, bytes_up=70, metrics={}, seconds=0.1 + 0.2
)
EMPTY = replace(FIRST, cohort=(), examples=0, steps=0, client_losses={}, left_out={})
TELLING = replace(FIRST, told={"epsilon": 0.1 + 0.2, "mu": math.inf})


@pytest.mark.parametrize("record", [FIRST, SECOND, EMPTY, TELLING])
def test_records_survive_json_text(record):
    read = RoundRecord.from_json(json.loads(json.dumps(record.to_json())))
    assert read == record
    assert isinstance(read.cohort, tuple)
    assert {type(client) for client in read.client_losses} <= {int}


def test_train_loss_is_the_mean_over_accepted_clients():
    assert FIRST.train_loss == 0.5
    assert math.isnan(EMPTY.train_loss)


def test_a_history_is_a_sequence_of_its_records():
    history = History((FIRST, SECOND))
    assert len(history) == 2
    assert list(history) == [FIRST, SECOND]
    assert (history[0], history[-1]) == (FIRST, SECOND)
    assert history[1:] == (SECOND,)
    assert SECOND in history
    assert history == History((FIRST, SECOND))
    assert history != History((FIRST,))


def test_to_frame_has_a_row_a_round_and_its_columns_in_order():
    frame = History((FIRST, SECOND)).to_frame()
    assert frame.index.name == "round"
    assert frame.index.tolist() == [1, 2]
    assert frame.columns.tolist() == [
        "clients",
        "left_out",
        "examples",
        "steps",
        "train_loss",
        "loss",
        "accuracy",
        "bytes_down",
        "bytes_up",
        "total_bytes",
        "seconds",
    ]
    assert frame.loc[1].to_dict() == {
        "clients": 2,
        "left_out": 1,
        "examples": 30,
        "steps": 6,
        "train_loss": 0.5,
        "loss": 0.6,
        "accuracy": 0.7,
        "bytes_down": 300,
        "bytes_up": 200,
        "total_bytes": 500,
        "seconds": 1.5,
    }


def test_total_bytes_is_summed_up_to_each_round_in_both_directions():
    third = replace(SECOND, round=3, bytes_down=1, bytes_up=2)
    assert History((FIRST, SECOND, third)).to_frame()["total_bytes"].tolist() == [500, 600, 603]


def test_an_empty_history_gives_an_empty_table():
    history = History()
    assert len(history) == 0
    assert list(history) == []
    assert history.to_frame().empty


def test_what_a_strategy_tells_is_a_column_beside_the_metrics():
    frame = History((TELLING,)).to_frame()
    assert frame.columns.tolist()[6:10] == ["accuracy", "epsilon", "mu", "bytes_down"]
    assert frame.loc[1, "epsilon"] == 0.1 + 0.2
