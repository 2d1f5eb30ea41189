"""Clipping and noise, live: what epsilon is claimed, what canaries tell of it, what it costs."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import ipywidgets
import pandas as pd
from torch import Tensor

from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.training import LocalConfig
from fedlab_helpers.lessons import plots, runs
from fedlab_helpers.lessons.panels import dial
from fedlab_helpers.lessons.panels.lab import Lab, Try
from fedlab_helpers.lessons.panels.parts import box, choice, named, powers, slider, steps
from fedlab_helpers.lessons.plots.runs import validation
from fedlab_helpers.lessons.words import say
from fedlab_helpers.privacy.budget import Mechanism
from fedlab_helpers.privacy.public_vectors import public_vectors
from fedlab_helpers.recipe import Recipe
from fedlab_helpers.tasks.reviews.model import PublicWordsLSTM
from fedlab_helpers.tasks.reviews.task import Task
from fedlab_helpers.tasks.reviews.words import Vocabulary

NOISES = (0.5, 0.6, 0.7, 0.8, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0)
SERVER_RATE = 2.0
LOCAL = LocalConfig(epochs=3, batch_size=None, lr=4.0, optimizer="sgd", max_grad_norm=1.0)


@cache
def vectors(vocab: Vocabulary) -> Tensor:
    """Return the word vectors from public text; some seconds at the first call."""
    return public_vectors(vocab, dial.VECTOR)


class PrivateRecipe(Recipe):
    """A run of DP-FedAvg: cohorts by coins, and a small model over word vectors from public text.
    What decides it is as in `Recipe`."""

    def settings(self) -> dict[str, Any]:
        own = dict(self.parameters)
        told = say("private_settings", noise=own["noise_multiplier"], clip=own["clip"])
        return super().settings() | {"parameters": told}

    def plan(self) -> Plan:
        local = replace(LOCAL, lr=self.lr, epochs=self.epochs)
        return Plan(self.rounds, self.cohort, local, self.seed, sampling="poisson")

    def new_model(self, task: Task) -> PublicWordsLSTM:
        classes, known = len(task.classes), vectors(task.vocab)
        return PublicWordsLSTM(known, self.hidden, classes, seed=self.seed, dropout=self.dropout)

    def problem(self, task: Task) -> tuple[str, str] | None:
        """Look at the cohort alone: all other settings that the panel offers can be run, and a
        model takes some seconds."""
        fits = self.cohort <= self.clients
        return None if fits else ("plan", f"cohort: got {self.cohort} of {self.clients} clients")

    @property
    def claim(self) -> Mechanism | None:
        """What an accountant sees of the run; None without noise, where nothing can be claimed."""
        noise = dict(self.parameters)["noise_multiplier"]
        return Mechanism(noise, self.rounds, self.clients, self.cohort) if noise else None

    def spent(self) -> list[float]:
        """Return epsilon after 0, 1, … and all rounds."""
        return [0.0, *(_by_round(self.claim) if self.claim else [math.inf] * self.rounds)]

    def having(self, **own: float) -> "PrivateRecipe":
        """Return the same run with another clip, or another noise_multiplier."""
        return replace(self, parameters=dict(self.parameters) | own)


@cache
def _by_round(claim: Mechanism) -> list[float]:
    return claim.epsilon_by_round()


USUAL = PrivateRecipe(
    "private", {"clip": 1.0, "noise_multiplier": 1.0}, SERVER_RATE,
    "sgd", LOCAL.lr, LOCAL.epochs, "iid", clients=1000, cohort=100, rounds=15,
    embedding=dial.VECTOR, hidden=dial.HIDDEN, dropout=0,
)  # fmt: skip


class PrivacyLab(Lab):
    """Choose noise, clip, cohort and rounds: a dial shows at once what epsilon is claimed, and what
    canaries tell of the mechanism. Press Run, and watch what it costs.

    What is not chosen here is as in `usual`.
    """

    name = "privacy_lab"
    groups = (
        ("noise", ("noise_multiplier", "clip")),
        ("crowd", ("clients", "cohort", "rounds")),
        ("audit", ("mechanism",)),
        ("beside", ("noiseless", "seed")),
    )
    folded = ("beside",)
    xs = ("round", "epsilon")
    usual = USUAL
    crowds: tuple[int, ...] = (200, 300, 500, 1000)
    cohorts: tuple[int, ...] = (20, 30, 50, 100, 200, 300)
    tries = (
        Try("try_price", tuple(USUAL.having(noise_multiplier=noise) for noise in (0.0, 2.0))),
        Try("try_crowd", (replace(USUAL, clients=200, cohort=20), USUAL)),
        Try("try_clip", tuple(USUAL.having(clip=clip) for clip in (0.1, 10.0))),
    )

    def __init__(self, task: Task, comparison: runs.Comparison | None = None):
        self._levels = runs.anchors(task)
        self.dial = named("dial", ipywidgets.HTML()).add_class("fl-board")
        super().__init__(task, comparison)

    def _controls(self) -> dict[str, ipywidgets.Widget]:
        usual, own, held = self.usual, dict(self.usual.parameters), len(self.task.train.labels)
        crowds = [(say("crowd", clients=n, reviews=held // n), n) for n in self.crowds]
        return {
            "noise_multiplier": _listed("noise_multiplier", NOISES, own["noise_multiplier"]),
            "clip": powers("clip", own["clip"], 0.1, 10.0),
            "clients": steps("clients", crowds, usual.clients),
            "cohort": _listed("cohort", self.cohorts, usual.cohort),
            "rounds": slider("rounds", usual.rounds, 1, 40),
            "mechanism": choice("mechanism", dial.MECHANISMS, "as_claimed"),
            "noiseless": box("noiseless", True),
            "seed": slider("seed", usual.seed, 0, 99),
        }

    def _above(self) -> list[ipywidgets.Widget]:
        return [self.dial]

    @property
    def recipe(self) -> PrivateRecipe:
        told = self.form.values
        own = {name: told.pop(name) for name in ("noise_multiplier", "clip")}
        rest = {name: told[name] for name in ("clients", "cohort", "rounds", "seed")}
        return replace(self.usual.having(**own), **rest)

    def _set(self, recipe: Recipe) -> None:
        settings = {name: getattr(recipe, name) for name in ("clients", "cohort", "rounds", "seed")}
        for name, value in (settings | dict(recipe.parameters)).items():
            if name in self.form.controls:
                self.form.controls[name].value = value

    def _chosen(self) -> list[Recipe]:
        """Return what Run is to run; what is not lined up has its noiseless twin beside it."""
        twin = [self.recipe.having(noise_multiplier=0.0)] if self.form.noiseless.value else []
        return self.lined_up or [self.recipe, *twin]

    def _adapt(self) -> None:
        form, recipe, kind = self.form, self.recipe, self.form.mechanism.value
        form.explain("clients", about=say("crowd_help"))
        form.explain("cohort", about=say("cohort_poisson_help"))
        form.explain("mechanism", about=say(f"{kind}_help"))
        if recipe.problem(self.task):
            self.dial.add_class("fl-pale")  # it is of the settings before
            return
        self.dial.remove_class("fl-pale")
        epsilon, told = recipe.claim.epsilon(), dial.needle(kind, recipe.claim)
        of_delta = {"of_delta": 1 / recipe.claim.delta}
        verdict = "canaries_beyond" if told.beyond else "canaries_agree"
        lines = [
            say("claimed", epsilon=dial.short(epsilon), of=recipe, **of_delta),
            say(verdict, told=dial.short(told.epsilon)),
            say("not_covered"),
        ]
        about = "".join(f"<p>{line}</p>" for line in lines)
        self.dial.value = f"{dial.drawn(epsilon, told)}<div>{about}</div>"

    def _state(self, run: runs.Run) -> str:
        if not run.results:
            return say("words_first", name=self._called(run))
        told = {"round": run.last.round, "rounds": run.recipe.rounds}
        return say("racer", name=self._called(run), **told)

    def _came_to(self, run: runs.Run) -> str:
        if run.state != "finished":
            return super()._came_to(run)
        told = {"score": run.last.score, "epsilon": dial.short(run.recipe.spent()[-1])}
        return say("privacy_done", name=self._called(run), **told)

    def _panes(self) -> list[dict[str, Any]]:
        levels = [{"name": name, "value": value} for name, value in self._levels.items()]
        label = validation("accuracy")
        return [{"y": "accuracy", "label": label, "form": "share", "levels": levels}]

    def _curves(self, each: runs.Together) -> tuple[pd.DataFrame, ...]:
        """Return the curves, and how much epsilon had been spent at each place."""
        spent = dict(enumerate(each.recipe.spent()))
        return tuple(
            frame.assign(epsilon=frame["round"].map(spent).replace(math.inf, math.nan))
            for frame in each.curves()
        )

    def _cells(self, each: runs.Together) -> dict[str, Any]:
        last = [run.last for run in each.runs if run.last]
        spent = each.recipe.spent()
        return {
            "state": say(each.state),
            "rounds": [result.round for result in last],
            "final_accuracy": [result.score for result in last],
            "epsilon": [spent[result.round] for result in last if each.recipe.claim],
            "seconds": [result.seconds for result in last],
        }

    def _answers(self, tried: Try) -> dict[str, str]:
        done = {run.recipe: run.last for run in self._racing()}
        scores = [done[recipe].score for recipe in tried.recipes]
        epsilons = [dial.short(recipe.spent()[-1]) for recipe in tried.recipes]
        return {"answer": say(f"{tried.name}_answer", scores=scores, epsilons=epsilons)}

    def _still(self) -> plots.Picture:
        if self.comparison.runs:
            return plots.race(self.comparison.runs, self._levels)
        shown = [self.usual.having(noise_multiplier=noise) for noise in (0.5, 0.7, 1.0)]
        rounds = range(self.usual.rounds + 1)
        spent = {each: pd.DataFrame({"round": rounds, "epsilon": each.spent()}) for each in shown}
        return plots.curves({runs.title(each): frame for each, frame in spent.items()}, y="epsilon")


def _listed(name: str, values: Sequence[float], value: float) -> ipywidgets.SelectionSlider:
    return steps(name, [(f"{each:g}", each) for each in values], value)
