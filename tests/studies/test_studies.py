"""Studies: each run once, whatever interrupts them, and no row lost."""

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial

import pandas as pd
import pytest

from fedlab_helpers import studies
from fedlab_helpers.studies import __main__ as main
from fedlab_helpers.studies import baselines, load, local_training, local_work, results
from fedlab_helpers.studies.__main__ import run_study
from fedlab_helpers.studies.study import Study, best, grid, task


def study(measure, seeds=3):
    return Study("tiny", grid(model=["a", "b"], seed=range(seeds)), measure)


def must_not_run(settings):
    raise AssertionError(f"measured again: {settings}")


def value(settings):
    return [{"value": settings["seed"] / 2}]


def test_grid_has_every_combination_once():
    assert grid(x=[1, 2], y=["a"]) == ({"x": 1, "y": "a"}, {"x": 2, "y": "a"})


def test_the_best_setting_is_best_in_the_mean_the_first_of_equals():
    rows = [
        *(("ditto", 1.0, merit) for merit in (0.9, 0.5)),
        *(("ditto", 10.0, merit) for merit in (0.8, 0.7)),
        ("ditto", 100.0, 0.75),
        *(("tune", number, 0.6) for number in (math.nan, 2.0)),
    ]
    won = best(pd.DataFrame(rows, columns=["of", "number", "merit"]), ["of"], ["number"])
    assert won["ditto",] == (10.0,)
    assert math.isnan(won["tune",][0])


def test_a_table_has_settings_measurements_and_versions_and_grows(tmp_path, capsys):
    run_study(study(value, seeds=1), tmp_path)
    table = pd.read_csv(run_study(study(value), tmp_path))
    assert table["value"].tolist() == [0.0, 0.5, 1.0] * 2
    assert {"study", "model", "seed", "torch", "python", "fedlab_helpers"} <= set(table.columns)


def test_interrupted_runs_go_on_without_losing_or_repeating_one(tmp_path, capsys):
    seen = []

    def measure(settings):
        if len(seen) in (2, 5):
            seen.append(None)
            raise KeyboardInterrupt
        seen.append((settings["model"], settings["seed"]))
        return [{"round": 1}, {"round": 2}]

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_study(study(measure), tmp_path)
    path = run_study(study(measure), tmp_path)
    finished = [run for run in seen if run]
    assert len(finished) == len(set(finished)) == 6
    assert len(results.read(path)) == 12
    before = path.read_bytes()
    run_study(study(measure), tmp_path)
    assert path.read_bytes() == before


def slow_first(settings):
    """Measure a run; the first takes longest, so that they finish in another order."""
    time.sleep(0.3 if settings["seed"] == 0 else 0.0)
    return [{"value": 10 * settings["seed"]}]


@pytest.fixture
def threads(monkeypatch):
    """Measure in threads what is measured in processes, whose start takes seconds."""
    monkeypatch.setattr(main, "ProcessPoolExecutor", lambda jobs, *_: ThreadPoolExecutor(jobs))


def test_runs_side_by_side_make_the_table_in_the_order_of_the_study(tmp_path, capsys, threads):
    runs = Study("tiny", grid(seed=range(4)), slow_first)
    rows = results.read(run_study(runs, tmp_path, jobs=2))
    assert [(row["seed"], row["value"]) for row in rows] == [
        (str(s), str(10 * s)) for s in range(4)
    ]


def two_of_four(settings):
    """Measure a run; the last two take for ever."""
    time.sleep(600 if settings["seed"] > 1 else 0)
    return [{"value": settings["seed"], "process": os.getpid()}]


def test_interrupted_runs_side_by_side_end_at_once_and_those_that_finished_are_kept(
    tmp_path, capsys, request
):
    """Only this process is interrupted, as by `kill -INT`: those that it started are its own to
    end."""
    path, sent = tmp_path / "tiny.csv", []
    # A shell's background job ignores what this test sends itself.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))

    def interrupt():
        while len(results.read(path)) < 2:
            time.sleep(0.05)
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run_study(Study("tiny", grid(seed=range(4)), two_of_four), tmp_path, jobs=2)
    assert time.monotonic() - sent[0] < 5
    assert not multiprocessing.active_children()
    rows = results.read(path)
    assert [row["value"] for row in rows] == ["0", "1"]
    assert str(os.getpid()) not in {row["process"] for row in rows}


def test_what_finished_but_was_not_written_when_interrupted_is_written(
    tmp_path, capsys, monkeypatch, threads
):
    def interrupted(runs):
        wait(runs)
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "as_completed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_study(study(lambda s: [{"value": 1}]), tmp_path, jobs=2)
    assert len(results.read(tmp_path / "tiny.csv")) == 6


@pytest.mark.parametrize(("module", "name"), [(os, "replace"), (main, "read_own")])
def test_an_interrupt_while_a_table_is_kept_leaves_the_new_one(
    module, name, tmp_path, capsys, monkeypatch
):
    times, act = iter(range(9)), getattr(module, name)

    def interrupted(*arguments):
        if next(times) == (1 if name == "replace" else 2):  # when the second run is kept
            raise KeyboardInterrupt
        return act(*arguments)

    monkeypatch.setattr(module, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_study(study(value), tmp_path)
    monkeypatch.undo()
    assert len(results.read(tmp_path / "tiny.csv")) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.csv"]


def test_a_run_that_broke_down_before_its_first_row_does_not_end_the_study(tmp_path, capsys):
    rows = {("a", 0): [], ("a", 1): [{"value": 1}]}
    path = run_study(study(lambda s: rows.get(tuple(s.values()), []), seeds=2), tmp_path)
    assert [row["value"] for row in results.read(path)] == ["1"]


def test_a_setting_of_none_is_found_again(tmp_path, capsys):
    seen = []
    once = Study("tiny", grid(size=[None, 8]), lambda s: seen.append(s) or [{"value": 1}])
    for _ in range(2):
        run_study(once, tmp_path)
    assert seen == [{"size": None}, {"size": 8}]


def test_other_columns_are_refused_and_the_table_stays(tmp_path, capsys):
    path = run_study(study(value, 1), tmp_path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"value.*other"):
        run_study(study(lambda s: [{"other": 1}], 2), tmp_path)
    assert path.read_bytes() == before


def test_a_table_without_its_versions_is_refused_before_anything_is_measured(tmp_path):
    path = tmp_path / "tiny.csv"
    path.write_text("study,model,seed,value\ntiny,a,0,1\n")
    with pytest.raises(ValueError, match=r"tiny\.csv: columns .*'machine'\] last"):
        run_study(study(must_not_run), tmp_path)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda rows: [*rows, rows[1]], r"row 7, of a, 1: it is there twice"),
        (lambda rows: [*rows, rows[1] | {"seed": "1.0"}], r"row 7, of a, 1\.0: no run of 'tiny'"),
    ],
)
def test_a_table_that_would_count_a_run_twice_is_refused(change, why, tmp_path, capsys):
    path = run_study(study(value), tmp_path)
    results.write(path, change(results.read(path)))
    before = path.read_bytes()
    with pytest.raises(ValueError, match=why):
        run_study(study(must_not_run), tmp_path)
    assert path.read_bytes() == before


def test_what_cannot_be_written_to_its_table_is_written_beside_it(
    tmp_path, capsys, monkeypatch, threads
):
    path = run_study(study(value, 1), tmp_path)
    before = path.read_bytes()
    (tmp_path / "tiny_2.csv").write_text("mine")
    only(monkeypatch, study(lambda s: [{"other": s["seed"]}]))
    for number, jobs in enumerate(("1", "4"), start=3):
        assert main.main(["tiny", "--folder", str(tmp_path), "--jobs", jobs]) == 1
        assert (
            f"What was measured is in {tmp_path / f'tiny_{number}.csv'}" in capsys.readouterr().err
        )
        rows = results.read(tmp_path / f"tiny_{number}.csv")
        assert {row["other"] for row in rows} <= {"1", "2"}
        assert rows
    assert path.read_bytes() == before
    assert (tmp_path / "tiny_2.csv").read_text() == "mine"


FOREIGN = {
    "notes": b"my notes\n",
    "a table of another kind": b"model,seed\na,0\n",
    "another study's rows": b"study,model,seed,value\nhuge,a,0,1\n",
    "a longer row": b"study,model,seed,value\ntiny,a,0,1,2\n",
    "a shorter row": b"study,model,seed,value\ntiny,a,0\n",
    "a line that is free": b"\nmy notes\n",
    "no text": b"\xff\xfe\x00\x01",
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_file_that_holds_something_else_is_refused_and_stays(what, tmp_path):
    path = tmp_path / "tiny.csv"
    path.write_bytes(FOREIGN[what])
    with pytest.raises(ValueError, match=r"tiny\.csv: got a file with something else than rows"):
        run_study(study(must_not_run), tmp_path)
    assert path.read_bytes() == FOREIGN[what]


def test_what_comes_into_the_folder_while_a_study_runs_is_not_lost(tmp_path, capsys):
    """A table of no row is begun; two commands may add to one; somebody's file is left alone."""
    path = tmp_path / "tiny.csv"
    path.write_bytes(b"")

    def measure(settings):
        if settings["seed"] == 1:
            run_study(study(value, seeds=1), tmp_path)  # another command, of which "b" is new
        return value(settings)

    run_study(Study("tiny", grid(model=["a"], seed=range(2)), measure), tmp_path)
    rows = [(row["model"], row["seed"]) for row in results.read(path)]
    assert sorted(rows) == [("a", "0"), ("a", "1"), ("b", "0")]

    def disturbed(settings):
        path.write_bytes(FOREIGN["notes"])
        return value(settings)

    with pytest.raises(ValueError, match="something else than rows"):
        run_study(study(disturbed), tmp_path)
    assert path.read_bytes() == FOREIGN["notes"]


def only(monkeypatch, study):
    """Let the command know this study by its name, whatever it asks for."""
    monkeypatch.setitem(studies.STUDIES, study.name, "made here")
    monkeypatch.setattr(main, "load", lambda name: study)


def test_the_command_names_its_studies(tmp_path, monkeypatch, capsys):
    only(monkeypatch, study(value))
    assert main.main(["tiny", "--folder", str(tmp_path / "new")]) == 0
    assert (tmp_path / "new" / "tiny.csv").exists()


def test_the_command_refuses_what_it_cannot_do_before_it_measures(tmp_path, monkeypatch, capsys):
    only(monkeypatch, study(must_not_run))
    path = tmp_path / "tiny.csv"
    path.write_bytes(FOREIGN["notes"])
    for arguments, why in (
        (["unheard-of"], "unheard-of"),
        (["tiny", "--folder", str(tmp_path)], f"{path}: got a file with something else"),
        (["tiny", "--folder", str(path)], str(path)),
        (["tiny", "--jobs", "0"], "jobs: got 0, expected an integer of at least 1"),
    ):
        with pytest.raises(SystemExit):
            main.main(arguments)
        assert why in capsys.readouterr().err
    assert path.read_bytes() == FOREIGN["notes"]


def test_a_table_is_read_without_any_study():
    seen = "import sys, fedlab_helpers.studies.results; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


def test_half_of_the_95_percent_interval_is_by_students_t():
    assert results.half_width([1.0, 2.0, 3.0]) == pytest.approx(4.3027 / 3**0.5, abs=1e-4)
    assert results.half_width(pd.Series([0.0, 0.0, 0.0, 0.0, 1.0])) == pytest.approx(
        0.5553, abs=1e-4
    )
    assert results.half_width([2.0, 2.0]) == 0


def test_an_unknown_study_is_refused_by_name():
    with pytest.raises(ValueError, match=r"study: got 'unheard-of', expected one of .*baselines"):
        load("unheard-of")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_at_the_command_line_says_how_to_go_on(
    number, tmp_path, monkeypatch, capsys, request
):
    """Ctrl-C, and a plain `kill`, after which no process that measures is left."""
    request.addfinalizer(partial(signal.signal, number, signal.getsignal(number)))
    signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    only(monkeypatch, study(lambda settings: signal.raise_signal(number)))
    assert main.main(["tiny", "--folder", str(tmp_path)]) == 130
    assert "same command goes on" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGTERM) != signal.default_int_handler


each_study = pytest.mark.parametrize("name", sorted(studies.STUDIES))


@each_study
def test_every_run_of_a_study_differs(name):
    runs = load(name).runs
    assert len({tuple(run.values()) for run in runs}) == len(runs)
    assert all(run.keys() == runs[0].keys() for run in runs)


FRESH = {3, 4, 5, 6, 7}
AGAIN = {
    "aggregation_again": {3, 4, 5},
    "chaos": {*range(8)},
    "compression_again": FRESH,
    "shrinking_again": FRESH,
}


@pytest.mark.parametrize(
    "name", [n for n in sorted(studies.STUDIES) if not n.endswith(("_rates", "_epochs"))]
)
def test_what_is_claimed_stands_on_three_seeds_and_is_confirmed_on_others(name):
    more = {"baselines": {0, 1, 2, 3, 4}, **AGAIN}
    assert {run["seed"] for run in load(name).runs} == more.get(name, {0, 1, 2})


@each_study
def test_the_committed_table_is_of_these_runs(name, tmp_path, monkeypatch, capsys):
    committed = results.RESULTS / f"{name}.csv"
    copy = tmp_path / committed.name
    copy.write_bytes(committed.read_bytes())
    runs = load(name).runs
    run_study(Study(name, runs, must_not_run), tmp_path)
    rows = results.read(copy)
    assert {tuple(row[key] for key in runs[0]) for row in rows} == {
        tuple("" if value is None else str(value) for value in run.values()) for run in runs
    }


def test_a_federated_measurement_is_the_run_it_names(few):
    settings = {**load("local_training").runs[0], "rounds": 1, "cohort": 1}
    row = local_training.measure_federated({**settings, "clients": 200})[0]
    assert row["round"] == 1
    assert 0.4 < row["accuracy"] < 0.7  # one client of 7 reviews, one round
    assert row["total_bytes"] > row["bytes_up"] > 0


SHORT = {"seed": 0, "partition": "iid", "clients": 200, "cohort": 2, "epochs": 1, "batch_size": 8}


@pytest.mark.parametrize(
    ("case", "rounds", "reached"),
    [
        ({"lr": 1.0, "cap": 3, "target": 0.3}, {1}, True),
        ({"partition": "by_domain", "lr": 0.01, "cap": 2, "target": 0.99}, {2}, False),
        # A rate that ruins the weights.
        ({"lr": 1e39, "cap": 9, "target": 0.99}, set(range(9)), False),
    ],
)
def test_a_run_ends_at_its_target_at_the_cap_or_where_it_breaks_down(case, rounds, reached, few):
    (row,) = local_work.measure_rounds_to_target(SHORT | case)
    assert row["reached"] == reached
    assert row["rounds"] in rounds
    assert row["late_validation_accuracy"] <= row["best_validation_accuracy"]
    if case["lr"] < 1e9:
        assert row["total_bytes"] > row["bytes_up"] > 0
        assert 0.3 < row["accuracy"] < 0.7


def test_the_best_rate_is_the_first_to_reach_the_target_or_the_most_accurate_late():
    missed = [(0.3, False, 150, 0.6), (1.0, False, 150, 0.7), (10.0, False, 2, 0.5)]
    reached = [(0.3, True, 90, 0.7), (3.0, True, 40, 0.6)]
    rows = [
        (*cell, *tried)
        for cell in local_work.CELLS
        for tried in (missed + reached if cell[:2] == ("iid", 5) else missed)
    ]
    columns = "partition epochs batch_size lr reached rounds late_validation_accuracy".split()
    assert local_work.best_rates(pd.DataFrame(rows, columns=columns)) == {
        cell: 3.0 if cell[:2] == ("iid", 5) else 1.0 for cell in local_work.CELLS
    }


def test_the_rates_of_the_study_are_those_that_its_table_chose():
    table = pd.read_csv(results.RESULTS / "local_work_rates.csv")
    assert local_work.best_rates(table) == local_work.RATES
    assert set(table["seed"]).isdisjoint(run["seed"] for run in local_work.LOCAL_WORK.runs)


def test_the_majority_baseline_is_the_larger_class():
    row = baselines.measure_baseline({"model": "majority", "seed": 0})[0]
    labels = task().test.labels
    assert row["accuracy"] == pytest.approx(float((labels == 0).double().mean()))
