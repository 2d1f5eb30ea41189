"""Settings, races and comparisons without a panel: real runs of a tiny task."""

import re
import threading

import numpy as np
import pandas as pd
import pytest

from fedlab_helpers.core import rounds
from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.core.training import evaluate
from fedlab_helpers.lessons.panels.comparison import Comparison, anchors, compare, differences
from fedlab_helpers.lessons.panels.lab import LOCAL, Setup, advice, problem
from fedlab_helpers.lessons.panels.race import End, Point, race
from fedlab_helpers.lessons.plots.race import race_plot
from fedlab_helpers.strategies import fedadam, fedavg, fedprox
from fedlab_helpers.strategies.attacks import STRENGTHS, Hostile, attacked
from fedlab_helpers.strategies.registry import STRATEGIES
from fedlab_helpers.studies.aggregation import CHOSEN
from fedlab_helpers.studies.contenders import CONTENDERS
from fedlab_helpers.tasks.reviews.model import SentimentLSTM
from fedlab_helpers.tasks.reviews.task import DEALS

SMALL = {"partition": "iid", "clients": 6, "cohort": 4, "rounds": 2}
FEDAVG, FEDPROX = Setup(**SMALL), Setup("fedprox", {"mu": 0.1}, **SMALL)


# Settings


def test_what_does_not_apply_makes_no_difference():
    assert Setup(alpha=3.0, **SMALL) == Setup(alpha=0.1, **SMALL)
    assert Setup(attack="nan", **SMALL) == Setup(attack="sign", **SMALL)
    assert Setup("feddyn", server_rate=2.0) == Setup("feddyn")
    assert Setup("fedprox") == Setup("fedprox", {"mu": 1e-4}, server_rate=1.0)
    assert Setup(optimizer="sgd") == Setup(optimizer="sgd", lr=LOCAL["sgd"].lr)
    assert len({Setup(alpha=3.0), Setup(alpha=0.1)}) == 2
    assert len({Setup(attackers=0.2, attack=attack) for attack in STRENGTHS}) == len(STRENGTHS)


def test_the_parts_of_a_setup_are_those_of_the_package():
    assert Setup().make() == fedavg()
    assert Setup("fedprox", {"mu": 0.1}).make() == fedprox(0.1)
    assert Setup("fedadam", server_rate=0.5).make() == fedadam(0.5)
    assert Setup("qfedavg", {"q": 2.0}, optimizer="sgd", lr=2.0).make().combine.lr == 2.0
    assert Setup().plan().local == LOCAL["adam"]
    plan = Setup(epochs=3, optimizer="sgd", lr=3.0, seed=4, rounds=7, cohort=5).plan()
    assert (plan.local.epochs, plan.local.optimizer, plan.local.lr) == (3, "sgd", 3.0)
    assert (plan.seed, plan.rounds, plan.clients_per_round) == (4, 7, 5)
    assert len(Setup(clients=10, attackers=0.3).hostile()) == 3


@pytest.mark.parametrize("name", sorted(STRATEGIES.keys() & CHOSEN.keys()))
def test_each_strategy_is_offered_as_it_was_tuned(name):
    offer, tuned = STRATEGIES[name], CHOSEN[name].parameter
    defaults = [parameter.default for parameter in offer.parameters]
    if CONTENDERS[name].parameter == "server_rate":
        assert offer.server_rate == tuned
    elif tuned is not None:
        assert defaults == [tuned]


@pytest.mark.parametrize("field", ["strategy", "optimizer", "partition", "attack"])
def test_unknown_names_are_refused(field):
    with pytest.raises(ValueError, match=f"{field}: got 'best'"):
        Setup(**{"attackers": 0.2, field: "best"})
    with pytest.raises(ValueError, match=r"got \['nu'\], fedprox has \['mu'\]"):
        Setup("fedprox", {"nu": 1})


def test_alpha_matters_for_exactly_the_deals_that_say_so(small_task):
    def sizes(kind, alpha):
        return [p.tolist() for p in small_task.deal(kind, 4, numpy_rng(0), alpha)]

    assert {k for k in DEALS if sizes(k, 0.1) != sizes(k, 9.0)} == {
        kind for kind, deal in DEALS.items() if deal.uses_alpha
    }


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_offer_runs_at_the_ends_of_its_ranges(name, small_task):
    for end in ("default", "low", "high"):
        own = {p.name: getattr(p, end) for p in STRATEGIES[name].parameters}
        if name == "krum":
            own = {"f": 1, "keep": 2}  # the others are for larger cohorts
        setup = Setup(name, own, **SMALL | {"cohort": 6, "rounds": 1})
        assert problem(setup, small_task) is None
        assert list(race([setup], small_task))[-1][1].state == "finished"


BAD = {
    "more clients than reviews": ({"clients": 300}, "cannot be dealt"),
    "too few reviews each": ({"partition": "quantity", "clients": 20}, "at least 20 example"),
    "fewer clients than domains": ({"partition": "by_domain", "clients": 1}, "book.*hotel"),
    "alpha": ({"partition": "dirichlet", "alpha": 0.0}, "alpha: got 0.0"),
    "cohort": ({"cohort": 7}, "at most all of them.*got 7, expected 1 to 6"),
    "rounds": ({"rounds": 0}, "rounds: got 0"),
    "epochs": ({"epochs": 0}, "epochs: got 0"),
    "rate": ({"lr": 0.0}, "rate.*do not fit.*lr: got 0"),
    "parameter": ({"strategy": "fedprox", "parameters": {"mu": -1}}, "out of range.*mu: got -1"),
    "server rate": ({"server_rate": -1.0}, "out of range.*lr: got -1"),
    "krum": ({"strategy": "krum", "parameters": {"f": 1}}, "larger cohort.*it takes 5 clients"),
    "multi-krum": (
        {"strategy": "krum", "parameters": {"f": 0, "keep": 5}},
        "larger cohort.*keep: got 5, expected at most 4",
    ),
    "share": ({"attackers": 1.5}, "share: got 1.5"),
    "no attacker": ({"attackers": 0.05}, "5% of 6 clients is less than one"),
}


@pytest.mark.parametrize("change", BAD)
def test_bad_combinations_are_explained(change, small_task):
    changed, why = BAD[change]
    said = problem(Setup(**SMALL | changed), small_task)
    assert said is not None
    assert re.search(why, said), said


def test_a_strategy_for_sgd_is_advised_so():
    assert "SCAFFOLD was made for" in advice(Setup("scaffold"))
    assert advice(Setup("scaffold", optimizer="sgd")) is None
    assert advice(Setup()) is None


def test_an_attack_reaches_the_clients_it_says(small_task):
    clients = small_task.clients(FEDAVG.deal(small_task))
    data, transforms = attacked(clients, (1, 3), "flip_labels")
    assert [k for k in range(6) if not data[k].labels.equal(clients[k].labels)] == [1, 3]
    assert transforms == ()
    data, transforms = attacked(clients, (1, 3), "sign")
    assert (data, transforms) == (clients, (Hostile((1, 3), "sign", STRENGTHS["sign"]),))
    assert attacked(clients, (), "sign") == (clients, ())


# Races


def by_hand(setup, task, transforms=()):
    clients = task.clients(
        task.deal(setup.partition, setup.clients, numpy_rng(setup.seed, "partition"))
    )
    model = SentimentLSTM(len(task.vocab), pooling="mean", dropout=0.3, seed=setup.seed)
    first = evaluate(model, task.validation)
    options = {"test": task.validation, "transforms": transforms}
    history = rounds.run(model, clients, setup.make(), setup.plan(), **options)
    total = np.cumsum([r.bytes_up + r.bytes_down for r in history]).tolist()
    rest = [
        (r.round, r.metrics["accuracy"], r.metrics["loss"], b)
        for r, b in zip(history, total, strict=True)
    ]
    return [(0, first.accuracy, first.loss, 0), *rest]


def told(news, setup):
    points = [n for s, n in news if s == setup and isinstance(n, Point)]
    return [(p.round, p.accuracy, p.loss, p.total_bytes) for p in points]


def test_a_race_begins_with_the_untrained_models_and_takes_turns(small_task):
    news = list(race([FEDAVG, FEDPROX, FEDAVG], small_task))
    order = [(s.strategy, n.round if isinstance(n, Point) else n.state) for s, n in news]
    turns = (0, 1, 2, "finished")
    assert order == [(s, turn) for turn in turns for s in ("fedavg", "fedprox")]


def test_racing_and_ticking_change_no_bit(small_task):
    attacked_ = Setup(attackers=0.34, attack="noise", **SMALL)
    setups, ticks = [FEDAVG, FEDPROX, attacked_], []
    news = list(race(setups, small_task, tick=lambda setup, client: ticks.append((setup, client))))
    hostile = Hostile(attacked_.hostile(), "noise", STRENGTHS["noise"])
    for setup, transforms in ((FEDAVG, ()), (FEDPROX, ()), (attacked_, (hostile,))):
        assert told(news, setup) == by_hand(setup, small_task, transforms)
    for setup in setups:
        cohorts = [rounds.sample_cohort(setup.plan(), number, 6) for number in (1, 2)]
        seen = sorted(client for s, client in ticks if s == setup)
        assert seen == sorted([*cohorts[0], *cohorts[1]])


def test_stop_ends_every_run_between_two_batches(small_task):
    stop, ticks = threading.Event(), []

    def tick(setup, client):
        ticks.append(client)
        stop.set()

    news = list(race([FEDAVG, FEDPROX], small_task, stop, tick))
    assert [n for _, n in news][-2:] == [End("stopped"), End("stopped")]
    assert [n.round for _, n in news[:-2]] == [0, 0]
    assert len(ticks) < 4  # not even the first cohort went on to its end


def test_a_run_that_breaks_down_says_why_and_leaves_the_others(small_task):
    broken = Setup(attackers=1.0, attack="nan", **SMALL)
    news = list(race([broken, FEDAVG], small_task))
    (end,) = [n for s, n in news if s == broken and isinstance(n, End)]
    assert end.state == "failed"
    assert "every client was left out" in end.why
    assert told(news, FEDAVG) == by_hand(FEDAVG, small_task)


# Comparisons


def filled(*runs):
    comparison = Comparison()
    for setup, points, end in runs:
        comparison.begin([setup])
        for round_, accuracy in enumerate(points):
            comparison.take(setup, Point(round_, accuracy, 0.5, round_ * 3_000_000, round_ * 2.0))
        if end:
            comparison.take(setup, End(end))
    return comparison


def test_the_table_by_hand():
    slow = Setup("fedprox", {"mu": 0.1}, **SMALL | {"seed": 1})
    comparison = filled((FEDAVG, (0.5, 0.8, 0.7), "finished"), (slow, (0.5, 0.6), "stopped"))
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
    assert Comparison().table().empty


def test_only_settings_that_differ_are_told():
    setups = [Setup(**SMALL), Setup("median", **SMALL | {"cohort": 5}), Setup(clients=6, rounds=2)]
    assert differences(setups) == [
        "reviews are dealt at random (IID), cohort of a round 4",
        "reviews are dealt at random (IID), cohort of a round 5",
        "reviews are dealt labels, Dirichlet, alpha 0.5, cohort of a round 10",
    ]
    assert differences(setups[:1]) == [""]


def test_finished_runs_come_back_and_stopped_ones_begin_anew():
    comparison = filled((FEDAVG, (0.5, 0.8), "finished"), (FEDPROX, (0.5,), "stopped"))
    before = comparison.runs
    assert comparison.begin([FEDAVG, FEDPROX]) == [FEDPROX]
    assert comparison.runs[0] == before[0]
    assert (comparison.runs[1].points, comparison.runs[1].state) == ((), "running")
    assert comparison.runs[1].number == before[1].number
    comparison.abandon()
    assert comparison.runs[1].state == "stopped"


def test_a_dropped_run_comes_back_from_the_cache_under_its_number():
    comparison = filled((FEDAVG, (0.5, 0.8), "finished"), (FEDPROX, (0.5,), "stopped"))
    shown = comparison.runs[0]
    comparison.drop(1)
    assert [run.number for run in comparison.runs] == [2]
    assert comparison.begin([FEDAVG]) == []
    assert comparison.runs[0] == shown


def test_the_file_holds_every_round_with_all_settings(tmp_path, small_task):
    comparison = compare([FEDAVG, FEDPROX], small_task)
    comparison.to_csv(tmp_path / "runs.csv")
    frame = pd.read_csv(tmp_path / "runs.csv")
    assert frame[["run", "round"]].to_numpy().tolist() == [[r, i] for r in (1, 2) for i in range(3)]
    assert frame["parameters"].tolist()[3:] == ["mu=0.1"] * 3
    assert set(Setup.__dataclass_fields__) < set(frame)
    last = comparison.runs[1].points[-1]
    assert frame["accuracy"].iloc[-1] == last.accuracy
    assert frame["total_bytes"].iloc[-1] == last.total_bytes


def test_anchors_are_means_over_seeds(tmp_path):
    path = tmp_path / "baselines.csv"
    rows = [
        "model,seed,validation_accuracy",
        "majority,0,0.5",
        "lstm,0,0.8",
        "lstm,1,0.9",
        "gru,0,1",
    ]
    path.write_text("\n".join(rows) + "\n")
    assert anchors(path) == {"centralised": pytest.approx(0.85), "majority class": 0.5}
    assert anchors(tmp_path / "none.csv") == {}
    assert anchors().keys() == {"centralised", "majority class"}


def test_the_picture_draws_each_run_in_three_axes():
    comparison = filled((FEDAVG, (0.5, 0.8, 0.7), None), (FEDPROX, (0.5, 0.6), "stopped"))
    picture = race_plot(comparison.runs, {"centralised": 0.83}, {1: 3})
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
    assert race_plot([])._repr_png_()[:4] == b"\x89PNG"
