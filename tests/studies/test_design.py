"""A design for a brief: what cannot be combined is refused, and the books are those of the run."""

import math
from dataclasses import replace
from threading import Event

import pytest
import torch
from brief_toys import LIMITS, entered, slope_of, toy_brief
from owner_toys import series

from fedlab_helpers import strategies
from fedlab_helpers.compression.registry import make_codec
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.rounds import run
from fedlab_helpers.core.training import LocalConfig, Stopped, judged
from fedlab_helpers.privacy.budget import Mechanism
from fedlab_helpers.privacy.per_example import PerExample
from fedlab_helpers.studies import briefs
from fedlab_helpers.studies.briefs import alone
from fedlab_helpers.studies.design import (
    DEVICE_FORMS,
    Design,
    Line,
    measure,
    noise_within,
    problem,
)
from fedlab_helpers.tasks.owners import Owner, score

SMALL = Design("gru", 4, rounds=2, cohort=3, batch=4)


@pytest.fixture
def brief(monkeypatch):
    with entered(monkeypatch, toy_brief()) as made:
        yield made


@pytest.fixture
def entering(monkeypatch):
    """Return a function that enters a brief with other options."""
    stack = []

    def enter(**options):
        stack.append(entered(monkeypatch, toy_brief(**options)))
        return stack[-1].__enter__()

    yield enter
    for each in stack:
        each.__exit__(None, None, None)


def by_hand(brief, design, seed=0):
    """Return model and records of the same run."""
    model = brief.new_model(design.cell, design.size, seed)
    local = LocalConfig(design.epochs, design.batch, design.lr)
    plan = Plan(design.rounds, design.cohort, local, seed, 1)
    data = [own.train for own in brief.owners(seed)]
    return model, run(model, data, strategies.fedavg(), plan)


def test_the_books_are_those_of_the_run(brief):
    made = measure("toy", SMALL, 1)
    model, records = by_hand(brief, SMALL, 1)
    owners = brief.owners(1)
    assert made.used["megabytes_up"] == sum(r.bytes_up for r in records) / 5 / 1e6
    assert made.megabytes_down == sum(r.bytes_down for r in records) / 5 / 1e6
    for client, own in enumerate(owners):
        expected = own.test.objective.metrics(judged(model, own.validation))["rmse"]
        assert made.scores[client] == pytest.approx(expected, rel=1e-6)
    whole = [score(own.test.objective, [judged(model, own.test)])["own"]["rmse"] for own in owners]
    assert made.exam() == pytest.approx(sum(whole) / 5, rel=1e-6)
    assert 0 < made.used["cpu_seconds"] < 20
    assert made.used["epsilon"] == math.inf
    assert made.used["seen"] == 1


def test_who_loses_would_do_better_alone(brief):
    made = measure("toy", SMALL)
    own = [
        o.test.objective.metrics(slope_of(o.train)(o.validation))["rmse"] for o in brief.owners(0)
    ]
    assert [*made.alone.values()] == pytest.approx(own)
    worse = [score > alone for score, alone in zip(made.scores.values(), own, strict=True)]
    assert made.used["losing"] == sum(worse) / 5 > 0
    assert made.missed == ["losing"]


@pytest.mark.parametrize("form", DEVICE_FORMS)
def test_a_device_answers_with_the_bytes_that_it_keeps(brief, form):
    design = replace(SMALL, device=form, pruned=0.5)
    model, _ = by_hand(brief, design)
    payload = design.on_device(model)
    made = measure("toy", design)
    assert made.used["device_kilobytes"] == len(payload) / 1e3
    held = brief.new_model("gru", 4, 0)
    held.load_state_dict(design.device_codec.decode(payload))
    zeros = sum(int((p == 0).sum()) for p in held.parameters() if p.dim() == 2)
    matrices = sum(p.numel() for p in held.parameters() if p.dim() == 2)
    assert zeros >= matrices // 2
    own = brief.owners(0)[2].validation
    assert made.scores[2] == pytest.approx(own.objective.metrics(judged(held, own))["rmse"])


def test_own_epochs_give_each_its_model_and_cost_time(brief):
    plain, tuned = (measure("toy", replace(SMALL, tuning=n, tuning_rate=0.05)) for n in (0, 8))
    assert len({*map(id, plain.judges.values())}) == 1
    assert len({*map(id, tuned.judges.values())}) == 5
    assert tuned.score < plain.score
    assert tuned.used["cpu_seconds"] > plain.used["cpu_seconds"]
    assert tuned.used["megabytes_up"] == plain.used["megabytes_up"]


def test_a_codec_and_secure_sums_are_those_of_the_package(brief):
    sent = {"keep": "topk", "amount": 0.1, "write": "bits8", "feedback": True}
    few, plain = (measure("toy", d) for d in (replace(SMALL, **sent), SMALL))
    assert few.used["megabytes_up"] < plain.used["megabytes_up"] / 3
    codec = make_codec(**sent)
    assert type(codec).__name__ == "WithFeedback"
    hidden = measure("toy", replace(SMALL, secure=True))
    assert hidden.used["seen"] == 0
    assert hidden.score == pytest.approx(plain.score, rel=0.02)


def test_the_model_of_sums_is_judged_like_a_network(brief):
    made = measure("toy", Design("sums"))
    assert made.used["megabytes_up"] == 16 / 1e6
    assert made.used["device_kilobytes"] == 0.008
    assert (made.used["epsilon"], made.used["seen"]) == (math.inf, 1)
    assert len({*map(id, made.judges.values())}) == 1


def test_hostile_clients_are_in_the_run_and_are_not_asked(entering):
    design = replace(SMALL, cohort=5)
    peace = measure(entering().name, design)
    entering(attackers=0.4, attack="sign")
    war = measure("toy", design)
    assert len(war.scores) == 3
    assert war.score > peace.score  # an error
    assert len(peace.scores) == 5
    assert "nothing here defends" in problem("toy", Design("sums"))


def test_some_are_asked(entering):
    assert [*measure(entering(every=2).name, SMALL).scores] == [0, 2, 4]


def test_epsilon_of_clients_is_the_accountants(entering):
    design = Design("gru", 4, "private", {"noise_multiplier": 2.0}, rounds=2, cohort=3, batch=4)
    entering(protects="client", delta=1e-3)
    made = measure("toy", design)
    assert made.used["epsilon"] == Mechanism(2.0, 2, 5, 3, "poisson", 1e-3).epsilon()
    silent = replace(design, parameters={"noise_multiplier": 0.0})
    assert measure("toy", silent).used["epsilon"] == math.inf
    every = measure("toy", replace(design, cohort=5))
    assert every.used["epsilon"] == Mechanism(2.0, 2, 5, 5, "all", 1e-3).epsilon()
    many = measure(entering(protects="client", delta=1e-3, stands_for=100).name, design)
    assert many.used["epsilon"] == Mechanism(2.0, 2, 500, 300, "poisson", 1e-3).epsilon()
    assert many.scores != made.scores  # noise is a hundredth beside the sum
    masked = replace(design, secure=True)
    assert "one client stands for: got 100" in problem("toy", masked)


def test_epsilon_of_examples_is_that_of_whoever_was_there_most(entering):
    entering(protects="example", delta=1e-3)
    design = Design("gru", 4, "dp_sgd", {"noise_multiplier": 2.0}, rounds=3, cohort=4, batch=4)
    made = measure("toy", design)
    private = PerExample(1.0, 2.0, 1e-3)
    local = LocalConfig(1, 4, design.lr, max_grad_norm=None)
    assert made.used["epsilon"] == private.epsilon(12, local, 3)
    of_clients = replace(design, strategy="private", parameters={})
    assert measure("toy", of_clients).used["epsilon"] == math.inf
    assert measure(entering(protects="client").name, design).used["epsilon"] == math.inf


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"secure": True, "keep": "topk"}, "masks hide numbers of a ring"),
        ({"secure": True, "strategy": "median"}, "their mean only"),
        ({"secure": True, "strategy": "scaffold"}, "nothing beside the change"),
        ({"cohort": 6}, "1 to 5, the clients"),
        ({"rounds": 0}, "rounds"),
        ({"batch": 0}, "batch"),
        ({"tuning": -1}, "tuning"),
        ({"tuning": 1, "tuning_rate": 0.0}, "lr"),
        ({"pruned": 1.0}, "pruned"),
        ({"lr": -1.0}, "lr"),
        ({"size": 0}, "hidden_size"),
        ({"cell": "transformer", "size": 3}, "even"),
        ({"keep": "topk", "amount": 2.0}, "share: got 2.0"),
        ({"strategy": "krum", "parameters": {"f": 3}}, "at least"),
    ],
)
def test_what_cannot_be_right_is_refused_before_anybody_trains(brief, changes, why):
    design = replace(SMALL, **changes)
    said = problem("toy", design)
    assert said is not None
    assert why in said
    with pytest.raises(ValueError, match=r"."):
        measure("toy", design)
    assert problem("toy", SMALL) is None


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"cell": "elman"}, "cell: got 'elman'"),
        ({"strategy": "best"}, "strategy"),
        ({"device": "bits3"}, "device"),
        ({"optimizer": "lion"}, "optimizer"),
        ({"keep": "most"}, "keep: got 'most'"),
        ({"keep": "topk", "write": "bits3"}, "write: got 'bits3'"),
        ({"strategy": ["fedavg"]}, "strategy"),
        ({"parameters": 5}, "numbers of the strategy by name"),
        ({"parameters": {"clip": 1.0}}, "those of fedavg"),
        ({"cell": "sums", "secure": True}, "it is no network"),
        ({"cell": "sums", "tuning": 2}, "it is no network"),
    ],
)
def test_names_are_looked_at_at_once(options, why):
    with pytest.raises(ValueError, match=why):
        Design(**options)


def test_equal_designs_are_equal_and_survive_json():
    assert Design(tuning_rate=0.5) == Design()
    assert Design(server_rate=1.0) == Design()
    assert Design(keep="dense", amount=0.5, write="bits8") == Design(keep="dense")
    designs = [
        Design(), Design("sums"), SMALL,
        Design("lstm", 8, "private", {"clip": 0.5}, 2.0, tuning=3, tuning_rate=0.1),
        Design(keep="topk", amount=0.1, write="bits4", feedback=True, device="bits8"),
    ]  # fmt: skip
    for design in designs:
        assert Design.from_json(design.to_json()) == design
    for odd in ("3", "{", '{"rounds": "x", "layer": 1}'):
        with pytest.raises(ValueError, match="not the JSON of one"):
            Design.from_json(odd)


def test_a_run_can_be_stopped_and_is_told_of(brief):
    stop, seen = Event(), []

    def told(number):
        seen.append(number)
        stop.set()

    with pytest.raises(Stopped):
        measure("toy", replace(SMALL, rounds=50), 0, stop, told)
    assert seen == [1]
    stop.clear()
    measure("toy", SMALL, 0, stop, seen.append)
    assert seen == [1, 1, 2]


def test_stopped_while_devices_train_on_their_own(brief):
    stop = Event()

    def told(number):
        if number == 2:
            stop.set()

    with pytest.raises(Stopped):
        measure("toy", replace(SMALL, tuning=3), 0, stop, told)


def test_a_budget_is_met_by_what_is_equal_to_it():
    assert Line("epsilon", 8.0, 8.0).met
    assert not Line("epsilon", 8.0, 8.01).met
    assert not Line("epsilon", 8.0, math.inf).met
    assert not Line("seen", 0, 1.0).met


def test_the_same_seed_gives_the_same_and_noise_too(entering):
    entering(protects="client")
    for strategy in ("fedavg", "private"):
        design = replace(SMALL, strategy=strategy, parameters=())
        first, second, other = (measure("toy", design, seed) for seed in (3, 3, 4))
        assert first.scores == second.scores
        assert first.scores != other.scores


def test_the_yard_is_of_this_machine():
    from fedlab_helpers.studies.design import yard

    state = torch.get_num_threads()
    assert 0.01 < yard() < 5
    assert yard() == yard()
    assert torch.get_num_threads() == state


def test_one_run_at_a_time_and_in_one_thread(brief):
    before, seen = torch.get_num_threads(), []

    def told(number):
        seen.append(torch.get_num_threads())
        if number == 1:
            with pytest.raises(ValueError, match="another run: got 'one that goes on'"):
                measure("toy", SMALL)

    torch.set_num_threads(2)
    try:
        measure("toy", SMALL, on_round=told)
        assert seen == [1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    measure("toy", SMALL)


@pytest.mark.parametrize("cohort", [3, 5])
def test_the_noise_that_a_budget_needs(entering, cohort):
    limits = LIMITS | {"epsilon": 4.0}
    entering(protects="client", delta=1e-3, limits=limits)
    design = Design("gru", 4, "private", rounds=2, cohort=cohort, batch=4)
    noise = noise_within("toy", design)
    made = measure("toy", replace(design, parameters={"noise_multiplier": noise}))
    assert made.used["epsilon"] == pytest.approx(4.0, rel=0.01)
    assert made.used["epsilon"] <= 4.0
    entering(protects="example", delta=1e-3, limits=limits)
    with pytest.raises(ValueError, match="one that promises an epsilon"):
        noise_within("toy", design)
    design = replace(design, strategy="dp_sgd", parameters={})
    noise = noise_within("toy", design)
    made = measure("toy", replace(design, parameters={"noise_multiplier": noise}))
    assert made.used["epsilon"] <= 4.0
    if cohort == 5:  # everybody in every round
        assert made.used["epsilon"] == pytest.approx(4.0, rel=0.01)


@pytest.mark.parametrize(
    "options",
    [{"protects": "clients"}, {"attack": "rumour"}, {"every": 0}, {"stands_for": 0},
     {"attackers": 1.0}],
)  # fmt: skip
def test_a_brief_is_looked_at(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        toy_brief(**options)


@pytest.mark.parametrize(
    "name",
    ["keyboard", "hotels", *(pytest.param(n, marks=pytest.mark.public_data)
                             for n in ("clinics", "turbines"))],
)  # fmt: skip
def test_a_brief_knows_how_its_owners_are_judged(name):
    brief, owners = briefs.BRIEFS[name], briefs.owners_of(name, 0)
    objective = owners[0].test.objective
    told = brief.measure, brief.higher_is_better
    assert told == (objective.measure, objective.higher_is_better)
    assert max(owner.train.asked for owner in owners) <= brief.most_examples
    assert len(alone(name, 0)) == len(range(0, len(owners), brief.every))


def test_hotels_have_parts_of_their_own_and_tests_like_them():
    owners = briefs.hotels(0)
    assert len(owners) == 20
    assert all(len(owner.test) == 60 for owner in owners)
    for owner in owners:
        own, asked = (part.labels.float().mean() for part in (owner.train, owner.test))
        assert abs(own - asked) < 0.12
    shares = [float(owner.train.labels.float().mean()) for owner in owners]
    assert min(shares) < 0.4
    assert max(shares) > 0.9
    rows = [
        tuple(row.tolist())
        for o in owners
        for row in torch.cat([o.train.tokens, o.validation.tokens])
    ]
    assert len(rows) == 4849
    again = briefs.hotels(0)
    assert all(
        torch.equal(a.train.tokens, b.train.tokens) for a, b in zip(owners, again, strict=True)
    )


def test_limits_are_of_known_budgets():
    with pytest.raises(ValueError, match="limits"):
        toy_brief(limits=LIMITS | {"watts": 1})
    with pytest.raises(ValueError, match="brief: got 'bank'"):
        briefs.owners_of("bank", 0)


def test_the_noise_is_enough_for_whoever_is_drawn_most_often(entering):
    sizes = (10, 12)  # as many steps; of fewer examples each is drawn more often
    owners = [Owner(f"{n}", *(series(k, 1.0, n + k) for k in (n, 4, 6))) for n in sizes]
    entering(
        protects="example", delta=1e-3, limits=LIMITS | {"epsilon": 4.0}, owners=lambda _: owners
    )
    design = Design("gru", 4, "dp_sgd", rounds=2, cohort=2, batch=4)
    noise = {"noise_multiplier": noise_within("toy", design)}
    made = measure("toy", replace(design, parameters=noise))
    assert made.used["epsilon"] <= 4.0
