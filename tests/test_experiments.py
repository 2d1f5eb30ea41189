"""Studies: each run once, whatever interrupts them, and no row lost."""

import pandas as pd
import pytest

from fedlab_helpers import experiments, studies
from fedlab_helpers.studies import Study, baselines, grid, local_training
from fedlab_helpers.studies.study import task


def study(measure, seeds=3):
    return Study("tiny", grid(model=["a", "b"], seed=range(seeds)), measure)


def test_grid_has_every_combination_once():
    assert grid(x=[1, 2], y=["a"]) == ({"x": 1, "y": "a"}, {"x": 2, "y": "a"})


def test_a_table_has_settings_measurements_and_versions(tmp_path, capsys):
    path = experiments.run_study(study(lambda s: [{"value": s["seed"] / 2}]), tmp_path)
    table = pd.read_csv(path)
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
            experiments.run_study(study(measure), tmp_path)
    path = experiments.run_study(study(measure), tmp_path)
    finished = [run for run in seen if run]
    assert len(finished) == len(set(finished)) == 6
    assert len(experiments.read(path)) == 12
    before = path.read_bytes()
    experiments.run_study(study(measure), tmp_path)
    assert path.read_bytes() == before


def test_more_seeds_are_added_to_a_table(tmp_path, capsys):
    measure = lambda settings: [{"value": 1}]  # noqa: E731
    experiments.run_study(study(measure, seeds=1), tmp_path)
    path = experiments.run_study(study(measure, seeds=2), tmp_path)
    assert len(experiments.read(path)) == 4


def test_other_columns_are_refused_and_the_table_stays(tmp_path, capsys):
    path = experiments.run_study(study(lambda s: [{"value": 1}], 1), tmp_path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"value.*other"):
        experiments.run_study(study(lambda s: [{"other": 1}], 2), tmp_path)
    assert path.read_bytes() == before


def test_the_command_names_its_studies(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(experiments.STUDIES, "tiny", study(lambda s: [{"value": 1}]))
    assert experiments.main(["tiny", "--folder", str(tmp_path)]) == 0
    assert (tmp_path / "tiny.csv").exists()
    with pytest.raises(SystemExit):
        experiments.main(["unheard-of"])
    assert "unheard-of" in capsys.readouterr().err


def test_an_interrupt_at_the_command_line_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupt(settings):
        raise KeyboardInterrupt

    monkeypatch.setitem(experiments.STUDIES, "tiny", study(interrupt))
    assert experiments.main(["tiny", "--folder", str(tmp_path)]) == 130
    assert "same command goes on" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(studies.STUDIES))
def test_every_run_of_a_study_differs_and_has_three_seeds(name):
    runs = studies.STUDIES[name].runs
    assert len({tuple(run.values()) for run in runs}) == len(runs)
    assert all(run.keys() == runs[0].keys() for run in runs)
    assert {run["seed"] for run in runs} == {0, 1, 2}


def test_a_federated_measurement_is_the_run_it_names(monkeypatch):
    settings = {**studies.STUDIES["local_training"].runs[0], "rounds": 1, "cohort": 1}
    row = local_training.measure_federated({**settings, "clients": 200})[0]
    assert row["round"] == 1
    assert 0.4 < row["accuracy"] < 0.7  # one client of 60 reviews, one round
    assert row["total_bytes"] > row["bytes_up"] > 0


def test_the_majority_baseline_is_the_larger_class():
    row = baselines.measure_baseline({"model": "majority", "seed": 0})[0]
    labels = task().test.labels
    assert row["accuracy"] == pytest.approx(float((labels == 0).double().mean()))
