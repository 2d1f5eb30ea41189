"""The lab of privacy without a browser: the dial follows the controls, runs are private ones."""

import json
import math
import re
from dataclasses import replace

import pytest
import torch

from fedlab_helpers.core.rounds import run as run_rounds
from fedlab_helpers.lessons.panels import PrivacyLab, dial, lab, privacy_lab
from fedlab_helpers.lessons.panels.lab import Try
from fedlab_helpers.lessons.panels.privacy_lab import USUAL
from fedlab_helpers.lessons.words import ENGLISH
from fedlab_helpers.privacy.budget import Mechanism
from fedlab_helpers.privacy.canaries import audit
from fedlab_helpers.privacy.private_mean import PrivateMean

CLAIM = Mechanism(1.0, 15, 1000, 100)
WRONG = [kind for kind in dial.MECHANISMS if kind != "as_claimed"]


class Small(PrivacyLab):
    """For a task of 240 reviews."""

    usual = replace(USUAL, clients=12, cohort=4, rounds=2)
    crowds, cohorts = (4, 12), (2, 4, 12)


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """Word vectors for words that no public text has."""
    drawn = torch.randn(50, dial.VECTOR, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(privacy_lab, "vectors", lambda vocab: drawn)


@pytest.fixture
def panel(small_task):
    made = Small(small_task)
    yield made
    made.close()
    made.wait(60)


def set_to(panel, **values):
    for name, value in values.items():
        panel.form.controls[name].value = value


def told(panel):
    """Return what the dial says: the claim, and what canaries tell."""
    found = re.findall(r"ε = (\S+?)[<.]?</b>", panel.dial.value)
    return [math.inf if text == "∞" else float(text.replace(",", "")) for text in found]


def run(panel):
    panel.run.click()
    panel.wait(120)


def test_the_panel_opens_with_a_claim_and_a_needle_that_agrees(small_task):
    panel = PrivacyLab(small_task)
    assert panel.recipe == USUAL
    claimed, needle = told(panel)
    assert claimed == pytest.approx(CLAIM.epsilon(), rel=0.05)
    assert needle == pytest.approx(claimed, rel=0.35)
    assert "δ\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}1/100,000" in panel.dial.value
    assert ENGLISH["not_covered"] in panel.dial.value
    assert panel._still()._repr_png_()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    "moved",
    [{"noise_multiplier": 0.7}, {"rounds": 3}, {"cohort": 2}, {"clients": 4}, {"clip": 5.0}],
)
def test_the_claim_is_that_of_the_settings(panel, moved):
    before = told(panel)[0]
    set_to(panel, **moved)
    claim = Mechanism(*(getattr(panel.form, name).value for name in (
        "noise_multiplier", "rounds", "clients", "cohort")))  # fmt: skip
    assert told(panel)[0] == float(dial.short(claim.epsilon()).replace(",", ""))
    assert (told(panel)[0] == before) == ("clip" in moved)


@pytest.mark.parametrize("kind", dial.MECHANISMS)
def test_the_needle_leaves_a_wrong_claim_and_no_right_one(panel, kind):
    set_to(panel, mechanism=kind)
    claimed, needle = told(panel)
    beyond = kind in WRONG
    assert (ENGLISH["canaries_beyond"].split("<i class")[1][-30:] in panel.dial.value) == beyond
    assert ("fl-beyond" in panel.dial.value) == beyond
    assert (needle > 1.5 * claimed) == beyond
    assert panel.form._places["mechanism"].children[1].value  # what it is, or the question


def test_a_layer_without_noise_has_no_epsilon():
    assert dial.needle("layer_without_noise", CLAIM) == dial.Needle(math.inf, True)


@pytest.mark.parametrize("kind", ["as_claimed", "clip_each_layer", "noise_tenth"])
def test_signal_and_noise_by_themselves_tell_what_an_audit_tells(kind):
    def mechanism(updates):
        return dial.MECHANISMS[kind](PrivateMean(1.0, 0.7, cohort=1), updates)

    whole = audit(mechanism, dial.CANARIES, rounds=3).mu
    assert dial._mu(kind, 0.7, 3) == pytest.approx(whole, rel=0.25)


def test_little_that_is_told_of_loud_noise_is_no_reproach():
    loud = replace(CLAIM, noise_multiplier=5.0, rounds=1)
    for _ in range(20):
        dial._mu.cache_clear()
        assert not dial.needle.__wrapped__("as_claimed", loud).beyond


@pytest.mark.parametrize(
    ("epsilon", "said"),
    [(0.0123, "0.012"), (6.84, "6.8"), (7.0, "7"), (844, "840"), (99_999, "100,000"), (1e6, "∞")],
)
def test_an_epsilon_is_said_as_one_says_it(epsilon, said):
    assert dial.short(epsilon) == said


@pytest.mark.parametrize("claim", [0.001, 0.1, 3.0, 1e4])
def test_the_dial_stays_in_its_frame(claim):
    for epsilon in (0.0, claim, math.inf):
        svg = dial.drawn(claim, dial.Needle(epsilon, epsilon > claim))
        _, _, width, height = map(float, re.search(r'viewBox="([^"]+)"', svg)[1].split())
        places = re.findall(r'<text x="(\S+?)" y="(\S+?)"', svg)
        assert all(14 < float(x) < width - 14 and 10 < float(y) < height - 3 for x, y in places)


def test_a_cohort_larger_than_all_is_refused(panel):
    before = panel.dial.value
    set_to(panel, clients=4, cohort=12)
    assert "at most all of them: here 12 of 4" in panel.note.value
    assert panel.run.disabled
    assert "fl-pale" in panel.dial._dom_classes
    assert panel.dial.value != before  # that of 4 clients, all in each round
    set_to(panel, cohort=4)
    assert "fl-pale" not in panel.dial._dom_classes
    assert not panel.run.disabled


def test_run_races_the_settings_and_the_same_without_noise(panel):
    begins = []
    panel.board.observe(lambda change: begins.append(panel.board.text), "status")
    claim = Mechanism(1.0, 2, 12, 4)
    run(panel)
    private, plain = panel.board.runs
    assert (private["name"], plain["name"]) == (
        "1 DP-FedAvg (noise 1, clip 1)",
        "2 DP-FedAvg (noise 0, clip 1)",
    )
    done = [f"{run.name}: {run.last.score:.1%}, ε = " for run in panel.comparison.runs]
    first, second = panel.board.text.splitlines()
    assert first == f"Done: {done[0]}{dial.short(claim.epsilon())}"
    assert second == f"{done[1]}∞"
    assert private["points"]["epsilon"] == pytest.approx([0, *claim.epsilon_by_round()], abs=1e-5)
    assert plain["points"]["epsilon"] == [0.0, None, None]
    assert private["cells"]["epsilon"][0] == pytest.approx(claim.epsilon())
    assert plain["cells"]["epsilon"] == [None, "–"]
    json.dumps([panel.board.runs, panel.board.panes], allow_nan=False)
    assert any("word vectors from public text come first" in text for text in begins)
    set_to(panel, noiseless=False, noise_multiplier=0.7)
    run(panel)
    assert [each["name"][:1] for each in panel.board.runs] == ["1", "2", "3"]


def test_what_is_lined_up_runs_alone(panel):
    panel.line_up.click()
    assert panel._chosen() == [panel.recipe]


def test_a_run_spends_what_the_panel_says(small_task):
    recipe = replace(Small.usual, rounds=3)
    clients = small_task.clients(recipe.deal(small_task))
    history = run_rounds(
        recipe.new_model(small_task), clients, recipe.new_strategy(), recipe.plan()
    )
    assert [record.told["epsilon"] for record in history] == pytest.approx(
        recipe.spent()[1:], rel=1e-3
    )


def test_rate_and_epochs_of_the_clients_are_those_of_the_recipe():
    local = replace(USUAL, lr=0.5, epochs=2).plan().local
    assert (local.lr, local.epochs, local.batch_size) == (0.5, 2, None)


def test_a_private_run_learns(small_task):
    recipe = replace(Small.usual, clients=12, cohort=12, rounds=8).having(noise_multiplier=0.1)
    assert recipe.run(small_task)[-1].score > 0.7


@pytest.mark.parametrize("attempt", PrivacyLab.tries, ids=lambda attempt: attempt.name)
def test_an_experiment_asks_runs_and_answers_from_its_runs(panel, attempt):
    assert {attempt.name, f"{attempt.name}_look", f"{attempt.name}_answer"} <= ENGLISH.keys()
    small = tuple(
        replace(each, clients=12 if each.clients == 1000 else 4, cohort=2, rounds=2)
        for each in attempt.recipes
    )
    panel._try(Try(attempt.name, small))
    panel.wait(120)
    assert panel.recipe == small[-1]
    assert {run.recipe for run in panel.comparison.runs} == set(small)
    parts = dict(panel.board.status["parts"])
    assert parts["Look for"] == ENGLISH[f"{attempt.name}_look"]
    for each in panel.comparison.runs:
        assert f"{each.last.score:.1%}" in parts["Answer"]
    assert f"ε = {dial.short(small[-1].spent()[-1])}" in parts["Answer"]


@pytest.mark.parametrize("attempt", PrivacyLab.tries, ids=lambda attempt: attempt.name)
def test_the_controls_can_say_each_experiment(small_task, monkeypatch, attempt):
    monkeypatch.setattr(lab, "race", lambda *_: iter(()))
    panel = PrivacyLab(small_task)
    panel._try(attempt)
    panel.wait(60)
    assert panel.recipe == attempt.recipes[-1]
    assert all(recipe.problem(small_task) is None for recipe in attempt.recipes)
