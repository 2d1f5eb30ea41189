"""Federated runs at the press of a button: choose settings, let them race, compare."""

from collections.abc import Callable
from typing import Any

import ipywidgets

from fedlab_helpers.lessons import plots, runs
from fedlab_helpers.lessons.panels import seen
from fedlab_helpers.lessons.panels.lab import Lab, Try
from fedlab_helpers.lessons.panels.parts import choice, explained, named, powers, slider
from fedlab_helpers.lessons.plots.runs import HIGHEST_LOSS, measure_of, validation
from fedlab_helpers.lessons.words import ENGLISH, say
from fedlab_helpers.recipe import LOCAL, STRATEGIES, Recipe
from fedlab_helpers.strategies.attacks import STRENGTHS
from fedlab_helpers.strategies.registry import Entry, Parameter
from fedlab_helpers.tasks.reviews.task import DEALS, Task

SHORT = {"rounds": 12}
_UNLIKE = {"partition": "dirichlet", "alpha": 0.1, "lr": 0.02, **SHORT}
_WORDS = {"partition": "by_domain", "lr": 0.02, **SHORT}
_LIARS = {"partition": "iid", "lr": 0.02, "attackers": 0.2, "attack": "sign", **SHORT}


class StrategyLab(Lab):
    """Choose a strategy and its surroundings, press Run, and watch; every run stays to compare."""

    name = "strategy_lab"
    groups = (
        ("server", ("strategy", "parameters", "server_rate")),
        ("data", ("partition", "alpha")),
        ("clients", ("optimizer", "lr", "epochs", "rounds")),
        ("surroundings", ("clients", "cohort", "attackers", "attack", "seed")),
    )
    tries = (
        Try(
            "try_unlike",
            (Recipe("fedavg", **_UNLIKE), Recipe("fedadagrad", **_UNLIKE)),
            lambda: seen.strategies("fedadagrad", "fedavg", partition="dirichlet 0.1"),
        ),
        Try(
            "try_liars",
            (Recipe("fedavg", **_LIARS), Recipe("median", **_LIARS)),
            lambda: seen.attacked("median", "fedavg", hostile=0.2, attack="sign"),
        ),
        Try(
            "try_words",
            tuple(
                Recipe(s, partition="by_domain", lr=0.02, **SHORT) for s in ("fedavg", "rowwise")
            ),
            lambda: seen.strategies("rowwise", "fedavg", partition="by_domain"),
        ),
        Try(
            "try_epochs",
            tuple(Recipe(partition="iid", epochs=epochs, **SHORT) for epochs in (1, 5)),
            lambda: seen.epochs(5, 1),
        ),
    )

    def __init__(self, task: Task, comparison: runs.Comparison | None = None):
        self._levels = runs.anchors(task)
        self.target = _target(task)
        super().__init__(task, comparison)
        self.target.observe(lambda _: self._show(), "value")

    def _controls(self) -> dict[str, ipywidgets.Widget]:
        start = Recipe(rounds=SHORT["rounds"])
        return {
            "strategy": choice("strategy", STRATEGIES, start.strategy),
            "parameters": named("parameters", ipywidgets.VBox()),
            "server_rate": powers("server_rate", 1.0, 1e-3, 10),
            "optimizer": choice("optimizer", LOCAL, start.optimizer),
            "lr": powers("lr", start.lr, 1e-4, 10),
            "epochs": slider("epochs", start.epochs, 1, 10),
            "rounds": slider("rounds", start.rounds, 1, 100),
            "seed": slider("seed", start.seed, 0, 99),
            "partition": choice("partition", DEALS, start.partition),
            "alpha": powers("alpha", start.alpha, 1e-2, 1e2),
            "clients": slider("clients", start.clients, 1, 200),
            "cohort": slider("cohort", start.cohort, 1, 50),
            "attackers": slider("attackers", start.attackers, 0, 0.5, ".0%"),
            "attack": choice("attack", STRENGTHS, "sign"),
        }

    def _beside(self) -> list[ipywidgets.Widget]:
        return [self.target]

    @property
    def parameters(self) -> dict[str, ipywidgets.Widget]:
        """The sliders of the strategy's own numbers, by name."""
        own = [place.children[0] for place in self.form.parameters.children]
        return {control.parameter: control for control in own}

    @property
    def recipe(self) -> Recipe:
        own = {name: _short(control.value) for name, control in self.parameters.items()}
        rest = {name: _short(value) for name, value in self.form.values.items()}
        return Recipe(parameters=own, **rest)

    def _set(self, recipe: Recipe) -> None:
        settings = recipe.settings() | {"parameters": None}
        for name in ("strategy", "optimizer", *self.form.controls):  # these two bring others along
            if settings.get(name) is not None:
                self.form.controls[name].value = settings[name]
        for name, value in recipe.parameters:
            self.parameters[name].value = value

    _at: tuple[str, str] = "", ""  # strategy and optimiser whose numbers the sliders show

    def _adapt(self) -> None:
        form, entry = self.form, STRATEGIES[self.form.strategy.value]
        before, self._at = self._at, (entry.name, form.optimizer.value)
        if before[0] != entry.name:
            own = [(_own_slider(each), _about(entry, each)) for each in entry.parameters]
            for control, _ in own:
                control.observe(lambda _: self._follow(), "value")
            form.parameters.children = [explained(control, about) for control, about in own]
            form.server_rate.value = entry.server_rate or 1.0
        if before[1] and before[1] != form.optimizer.value:
            form.lr.value = LOCAL[form.optimizer.value].lr  # theirs are of different sizes
        called = say(entry.name)
        form.explain("strategy", about=entry.sentence)
        form.explain("parameters", about=say("own_parameters" if entry.parameters else "no_own"))
        rated = entry.server_rate is not None
        form.explain("server_rate", off="" if rated else say("no_server_rate", strategy=called))
        deal = say(form.partition.value)
        uses = DEALS[form.partition.value].uses_alpha
        form.explain("alpha", off="" if uses else say("no_alpha", partition=deal))
        form.explain("attack", off="" if form.attackers.value else say("no_attackers"))
        form.explain("seed", about=say("seed_attackers"))

    def _advice(self) -> str | None:
        return runs.advice(self.recipe)

    def _state(self, run: runs.Run) -> str:
        rounds = run.recipe.rounds
        return say(
            "racer", name=self._called(run), round=min(len(run.results), rounds), rounds=rounds
        )

    def _panes(self) -> list[dict[str, Any]]:
        measure = measure_of(self.comparison.runs)
        form = "share" if measure == "accuracy" else ""
        levels = [{"name": name, "value": value} for name, value in self._levels.items()]
        return [
            {"y": measure, "label": validation(measure), "form": form, "levels": levels},
            {"y": "loss", "label": validation("loss"), "log": True, "highest": HIGHEST_LOSS},
        ]

    def _cells(self, each: runs.Together) -> dict[str, Any]:
        measure, target = self.comparison.objective.measure, self.target.value
        there = [self.comparison.reached(run, target) for run in each.runs]
        scores = [[result.score for result in run.results] for run in each.runs if run.results]
        best = max if self.comparison.objective.higher_is_better else min
        return {
            "state": say(each.state),
            "rounds": each.of(lambda run: run.last and run.last.round),
            f"final_{measure}": [own[-1] for own in scores],
            f"best_{measure}": [best(own) for own in scores],
            "rounds_to_target": [at.round for at in there if at] if all(there) else None,
            "megabytes_to_target": [t.total_bytes / 1e6 for t in there] if all(there) else None,
            "seconds": each.of(lambda run: run.last and run.last.seconds),
        }

    def _still(self) -> plots.Picture:
        if self.comparison.runs:
            return plots.race(self.comparison.runs, self._levels)
        picture = plots.curves(seen.curves("fedavg", "fedadagrad", partition="dirichlet 0.1"))
        picture.axes[0].set_title(say("study_curves", study="aggregation"), fontsize=10)
        return picture


def _target(task: Task) -> ipywidgets.Widget:
    look: dict[str, Any] = {"style": {"description_width": "initial"}}
    if task.validation.objective.measure == "accuracy":
        share: Callable = ipywidgets.FloatSlider
        look |= {"min": 0.5, "max": 0.95, "step": 0.01, "readout_format": ".0%"}
        return named("target", share(0.75, description=say("target"), **look))
    return named("target", ipywidgets.FloatText(1.0, description=say("target"), **look))


def _own_slider(parameter: Parameter) -> ipywidgets.Widget:
    kind = powers if parameter.log else slider
    made = kind(f"parameter_{parameter.name}", parameter.default, parameter.low, parameter.high)
    made.description = say("parameter", name=parameter.name.replace("_", " "))
    made.parameter = parameter.name
    return made


def _about(entry: Entry, parameter: Parameter) -> str:
    """Return what a strategy's number does; nothing for a strategy that a reader entered."""
    return ENGLISH.get(f"{entry.name}_{parameter.name}_help", "")


def _short(value: float | str) -> float | str:
    """Return what a slider shows: 0.15 rather than 0.15000000000000002; a count as it is."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
