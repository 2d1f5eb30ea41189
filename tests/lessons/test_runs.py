"""Races and comparisons without a panel: real runs of a tiny task."""

import threading
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fedlab_helpers.core import rounds
from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.core.training import evaluate
from fedlab_helpers.lessons import plots, runs
from fedlab_helpers.lessons.runs import (
    Comparison,
    End,
    advice,
    anchors,
    compare,
    differences,
    fingerprint,
    race,
    title,
)
from fedlab_helpers.recipe import Recipe, Result
from fedlab_helpers.strategies.attacks import STRENGTHS, Hostile
from fedlab_helpers.studies.study import task as built_in
from fedlab_helpers.tasks.reviews.model import SentimentLSTM
from fedlab_helpers.tasks.reviews.words import Vocabulary

SMALL = {"partition": "iid", "clients": 6, "cohort": 4, "rounds": 2}
FEDAVG, FEDPROX = Recipe(**SMALL), Recipe("fedprox", {"mu": 0.1}, **SMALL)


def test_a_strategy_for_sgd_is_advised_so():
    assert "SCAFFOLD was made for" in advice(Recipe("scaffold"))
    assert advice(Recipe("scaffold", optimizer="sgd")) is None
    assert advice(Recipe()) is None


def test_a_title_says_what_was_chosen():
    dgc = Recipe(
        "rowwise", keep="topk", amount=0.05, write="signs", squeeze=19, feedback=True, momentum=0.9
    )
    assert title(dgc) == "the largest values (5%), its sign, Zstandard, error feedback, momentum"
    assert title(Recipe("rowwise", keep="lowrank", amount=2)) == "low-rank factors (rank 2)"
    assert title(Recipe("median", keep="everything")) == "every value, median"
    assert title(Recipe("rowwise", keep="everything", squeeze=3)) == "Zstandard"
    assert title(Recipe("rowwise", keep="everything", write="bits8")) == "8 bits"
    assert title(Recipe("rowwise", keep="everything")) == "every value"
    assert title(Recipe("fedprox")) == "FedProx (mu=0.0001)"
    assert title(Recipe("median", keep="dense")) == "median, every value, dense"
    assert title(Recipe("rowwise", method="ditto", partition="by_domain")) == "Ditto (pull 10)"
    assert title(Recipe("rowwise", method="fedper", partition="by_domain")) == "FedPer, own head"


# Races


def by_hand(recipe, task, transforms=()):
    clients = task.clients(task.deal("iid", recipe.clients, numpy_rng(recipe.seed, "partition")))
    model = SentimentLSTM(len(task.vocab), pooling="mean", dropout=0.3, seed=recipe.seed)
    first = evaluate(model, task.validation)
    options = {"test": task.validation, "transforms": transforms}
    history = rounds.run(model, clients, recipe.new_strategy(), recipe.plan(), **options)
    told, total = [(0, first.accuracy, first.loss, 0)], 0
    for record in history:
        total += record.bytes_up + record.bytes_down
        told.append((record.round, record.metrics["accuracy"], record.metrics["loss"], total))
    return told


def told(news, recipe):
    results = [n for s, n in news if s == recipe and isinstance(n, Result)]
    return [(p.round, p.score, p.measures["loss"], p.total_bytes) for p in results]


def test_a_race_begins_with_the_untrained_models_and_takes_turns(small_task):
    news = list(race([FEDAVG, FEDPROX, FEDAVG], small_task))
    order = [(s.strategy, n.round if isinstance(n, Result) else n.state) for s, n in news]
    turns = (0, 1, 2, "finished")
    assert order == [(s, turn) for turn in turns for s in ("fedavg", "fedprox")]


def test_racing_and_ticking_change_no_bit(small_task):
    attacked_ = Recipe(attackers=0.34, attack="noise", **SMALL)
    recipes, ticks = [FEDAVG, FEDPROX, attacked_], []
    news = list(
        race(recipes, small_task, tick=lambda recipe, client: ticks.append((recipe, client)))
    )
    hostile = Hostile(attacked_.hostile(), "noise", STRENGTHS["noise"])
    for recipe, transforms in ((FEDAVG, ()), (FEDPROX, ()), (attacked_, (hostile,))):
        assert told(news, recipe) == by_hand(recipe, small_task, transforms)
    for recipe in recipes:
        cohorts = [rounds.sample_cohort(recipe.plan(), number, 6) for number in (1, 2)]
        seen = sorted(client for s, client in ticks if s == recipe)
        assert seen == sorted([*cohorts[0], *cohorts[1]])


def test_stop_ends_every_run_between_two_batches(small_task):
    stop, ticks = threading.Event(), []

    def tick(recipe, client):
        ticks.append(client)
        stop.set()

    news = list(race([FEDAVG, FEDPROX], small_task, stop, tick))
    assert [n for _, n in news][-2:] == [End("stopped"), End("stopped")]
    assert [n.round for _, n in news[:-2]] == [0, 0]
    assert len(ticks) < 4  # not even the first cohort went on to its end


def test_a_run_that_breaks_down_says_why_and_leaves_the_others(small_task):
    broken = Recipe(attackers=1.0, attack="nan", **SMALL)
    news = list(race([broken, FEDAVG], small_task))
    (end,) = [n for s, n in news if s == broken and isinstance(n, End)]
    assert end.state == "failed"
    assert "every client was left out" in end.why
    assert told(news, FEDAVG) == by_hand(FEDAVG, small_task)


# Comparisons


def filled(task, *runs):
    comparison = Comparison(task)
    for recipe, results, end in runs:
        comparison.begin([recipe])
        for number, accuracy in enumerate(results):
            measures = {"accuracy": accuracy, "loss": 0.5}
            sent = {"bytes_up": number * 1_000_000, "bytes_down": number * 2_000_000}
            comparison.take(recipe, Result(number, measures, **sent, seconds=number * 2.0))
        if end:
            comparison.take(recipe, End(end))
    return comparison


def test_the_table_by_hand(small_task):
    slow = Recipe("fedprox", {"mu": 0.1}, **SMALL | {"seed": 1})
    comparison = filled(
        small_task, (FEDAVG, (0.5, 0.8, 0.7), "finished"), (slow, (0.5, 0.6), "stopped")
    )
    table = comparison.table(0.7)
    assert table.astype(object).where(table.notna(), None).to_dict("records") == [
        {
            "name": "1 FedAvg", "differs": "seed 0", "state": "finished", "rounds": 2,
            "final_accuracy": 0.7, "best_accuracy": 0.8, "rounds_to_target": 1,
            "megabytes_to_target": 3.0, "seconds": 4.0,
        },
        {
            "name": "2 FedProx (mu=0.1)", "differs": "seed 1", "state": "stopped", "rounds": 1,
            "final_accuracy": 0.6, "best_accuracy": 0.6, "rounds_to_target": None,
            "megabytes_to_target": None, "seconds": 2.0,
        },
    ]  # fmt: skip
    assert comparison.table(0.8)["rounds_to_target"][0] == 1  # reached, not passed
    assert comparison.table(0.81)["rounds_to_target"].isna().all()
    assert Comparison(small_task).table().empty


def test_only_settings_that_differ_are_told():
    recipes = [
        Recipe(**SMALL),
        Recipe("median", **SMALL | {"cohort": 5}),
        Recipe(clients=6, rounds=2),
    ]
    assert differences(recipes) == [
        "reviews are dealt at random (IID), cohort of a round 4",
        "reviews are dealt at random (IID), cohort of a round 5",
        "reviews are dealt labels, Dirichlet, alpha 0.5, cohort of a round 10",
    ]
    assert differences(recipes[:1]) == [""]


def test_what_is_sent_of_a_change_is_told_beside_titles_in_a_table():
    largest = Recipe("rowwise", keep="topk", amount=0.01, squeeze=19)
    recipes = [largest, replace(largest, feedback=True), replace(largest, squeeze=None)]
    assert differences(recipes) == ["", "", ""]
    assert differences(recipes, titled=False) == [
        "Zstandard on top: yes, error feedback: no",
        "Zstandard on top: yes, error feedback: yes",
        "Zstandard on top: no, error feedback: no",
    ]


def test_an_untrained_model_has_not_reached_a_target(small_task):
    comparison = filled(small_task, (FEDAVG, (0.9, 0.8, 0.9), "finished"))
    assert comparison.reached(comparison.runs[0], 0.85).round == 2


def test_finished_runs_come_back_dropped_or_not_and_stopped_ones_begin_anew(small_task):
    comparison = filled(small_task, (FEDAVG, (0.5, 0.8), "finished"), (FEDPROX, (0.5,), "stopped"))
    before = comparison.runs
    comparison.drop(1)
    assert comparison.runs == before[1:]
    assert comparison.begin([FEDAVG, FEDPROX]) == [FEDPROX]
    assert comparison.runs[0] == before[0]
    assert (comparison.runs[1].results, comparison.runs[1].state) == ((), "running")
    assert comparison.runs[1].number == before[1].number
    comparison.abandon()
    assert comparison.runs[1].state == "stopped"


def test_runs_that_differ_in_their_seed_share_number_and_name(small_task):
    other = replace(FEDAVG, seed=1)
    comparison = filled(
        small_task,
        (FEDAVG, (0.5, 0.8, 0.7), "finished"), (FEDPROX, (0.5,), None),
        (other, (0.4, 0.6), "stopped"),
    )  # fmt: skip
    assert [(run.number, run.recipe.seed) for run in comparison.runs] == [(1, 0), (1, 1), (2, 0)]
    first, second = comparison.together
    assert (first.name, first.state, second.name) == (
        "1 FedAvg (2 seeds)", "stopped", "2 FedProx (mu=0.1)",
    )  # fmt: skip
    mean, low, high = first.curves()  # as far as both have come
    assert mean["accuracy"].tolist() == pytest.approx([0.45, 0.7])
    assert (low["accuracy"].tolist(), high["accuracy"].tolist()) == ([0.4, 0.6], [0.5, 0.8])
    assert mean["total_megabytes"].tolist() == [0.0, 3.0]
    comparison.rename(1, " mine ")
    assert [run.name for run in comparison.runs] == ["1 mine", "1 mine", "2 FedProx (mu=0.1)"]
    comparison.begin([replace(FEDAVG, seed=2)])
    assert comparison.together[0].name == "1 mine (3 seeds)"
    comparison.drop(1)
    assert [run.number for run in comparison.runs] == [2]
    assert comparison.begin([FEDAVG]) == []  # shown as it was, under its number
    assert [run.number for run in comparison.runs] == [1, 2]
    (empty,) = filled(small_task, (FEDAVG, (), None)).together
    assert all(frame.empty for frame in empty.curves())


def test_a_copy_goes_its_own_way(small_task):
    comparison = filled(small_task, (FEDAVG, (0.5, 0.8), "finished"))
    twin = comparison.copy()
    twin.drop(1)
    twin.begin([FEDPROX])
    twin.rename(2, "mine")
    assert [run.name for run in comparison.runs] == ["1 FedAvg"]
    assert [run.name for run in twin.runs] == ["2 mine"]


def test_the_file_holds_every_round_with_all_settings(tmp_path, small_task):
    comparison = compare([FEDAVG, FEDPROX], small_task)
    comparison.rename(1, "my base")
    comparison.to_csv(tmp_path / "runs.csv")
    frame = pd.read_csv(tmp_path / "runs.csv")
    assert frame["name"].tolist() == [run.name for run in comparison.runs for _ in range(3)]
    assert frame["name"].iloc[0] == "1 my base"
    assert frame[["run", "round"]].to_numpy().tolist() == [[r, i] for r in (1, 2) for i in range(3)]
    assert frame["parameters"].tolist()[3:] == ["mu=0.1"] * 3
    assert set(Recipe.__dataclass_fields__) < set(frame)
    last = comparison.runs[1].results[-1]
    assert frame["accuracy"].iloc[-1] == last.score
    assert frame["total_bytes"].iloc[-1] == last.total_bytes


def test_a_file_of_somebody_else_stays_and_ones_own_is_replaced(tmp_path, small_task):
    comparison = filled(small_task, (FEDAVG, (0.5, 0.8), "finished"))
    theirs, second = tmp_path / "runs.csv", tmp_path / "runs_2.csv"
    for mine in (second, second):
        theirs.write_text("my reviews")
        assert comparison.to_csv(theirs) == mine
        assert theirs.read_text() == "my reviews"
    second.write_text("changed by hand")
    assert comparison.to_csv(second) == tmp_path / "runs_2_2.csv"
    assert second.read_text() == "changed by hand"
    other = filled(small_task, (FEDAVG, (0.5, 0.9), "finished"))  # of another panel
    assert other.to_csv(second) == tmp_path / "runs_2_3.csv"
    second.unlink()
    assert comparison.to_csv(second) == second
    with pytest.raises(IsADirectoryError):
        comparison.to_csv(tmp_path)


def test_anchors_are_means_over_seeds(tmp_path, small_task, monkeypatch):
    monkeypatch.setattr(runs, "_MEASURED", fingerprint(small_task))
    monkeypatch.setattr(runs.tables, "RESULTS", tmp_path)
    assert anchors(small_task) == {}
    rows = ["majority,0,0.5", "lstm,0,0.8", "lstm,1,0.9", "gru,0,1"]
    table = "\n".join(["model,seed,validation_accuracy", *rows])
    (tmp_path / "baselines.csv").write_text(table)
    found = anchors(small_task)
    assert found == {"centralised": pytest.approx(0.85), "majority class": 0.5}


def test_anchors_are_shown_beside_the_examples_they_were_measured_on_alone(small_task):
    assert anchors(built_in()).keys() == {"centralised", "majority class"}
    assert anchors(small_task) == {}
    fewer = {"validation_reviews": built_in().validation_reviews[1:]}
    for other in (fewer, {"vocab": Vocabulary(built_in().vocab.words[3:])}):
        assert anchors(replace(built_in(), **other)) == {}


def test_runs_of_another_task_are_not_shown(small_task):
    Comparison(small_task).require(replace(small_task))
    with pytest.raises(ValueError, match="made on other examples"):
        Comparison(small_task).require(built_in())


def test_the_picture_draws_each_run_in_three_axes(small_task):
    comparison = filled(
        small_task, (FEDAVG, (0.5, 0.8, 0.7), None), (FEDPROX, (0.5, 0.6), "stopped")
    )
    picture = plots.race(comparison.runs, {"centralised": 0.83}, {1: 3})
    drawn = [line.get_ydata() for line in picture.axes[0].lines[:2]]
    assert [list(values) for values in drawn] == [[0.5, 0.8, 0.7], [0.5, 0.6]]
    assert list(picture.axes[2].lines[0].get_ydata()) == [0.0, 3.0, 6.0]
    styles = [(x.get_color(), x.get_linestyle(), x.get_marker()) for x in picture.axes[1].lines]
    assert [len(set(kind)) for kind in zip(*styles, strict=True)] == [2, 2, 2]
    marks = [line for line in picture.axes[0].lines if line.get_marker() == "|"]
    assert np.allclose(marks[0].get_xdata(), [2.25, 2.5, 2.75])
    assert len(marks[1].get_xdata()) == 0
    names = [entry.get_text() for entry in picture.legends[0].get_texts()]
    assert names == ["1 FedAvg", "2 FedProx (mu=0.1)", "centralised"]
    own = Recipe(method="fedper", partition="by_domain", rounds=4)  # without a loss
    plots.race(filled(small_task, (own, (0.5,), None)).runs)
    assert plots.race([])._repr_png_()[:4] == b"\x89PNG"
