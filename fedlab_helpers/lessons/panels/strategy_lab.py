"""Federated runs at the press of a button: choose settings, let them race, compare."""

from html import escape
from pathlib import Path

import ipywidgets
import pandas as pd

from fedlab_helpers.lessons import plots, runs
from fedlab_helpers.lessons.panels.lab import Lab
from fedlab_helpers.lessons.panels.parts import button, named
from fedlab_helpers.lessons.panels.settings_form import SettingsForm
from fedlab_helpers.lessons.words import say
from fedlab_helpers.recipe import Recipe
from fedlab_helpers.tasks.reviews.task import Task


class StrategyLab(Lab):
    """Choose a strategy and its surroundings, press Run, and watch; every run stays to compare.

    The controls of the settings are in `form`; `comparison` holds the runs, and may bring some that
    were made on this task. Raises ValueError if they were made on another.
    """

    def __init__(self, task: Task, comparison: runs.Comparison | None = None):
        self._prepare(task, comparison)
        self._levels = runs.anchors(task)
        self._make_controls()
        self.form = SettingsForm()
        start = ipywidgets.HBox([self.line_up, self.run, self.stop])
        keep = ipywidgets.HBox([self.target, self.runs, self.drop])
        save = ipywidgets.HBox([self.file, self.save])
        above = [self.form, self.note, start, self.status, self.image]
        super().__init__([*above, keep, self.table, save, self.hint])
        self.form.on_change(self._explain)
        self._draw()

    def _make_controls(self) -> None:
        style = {"style": {"description_width": "8em"}, "description": say("target")}
        self.line_up = button("line_up", self._toggle, tooltip=say("line_up_help"))
        self.drop = button("drop", self._drop, disabled=True)
        self.save = button("save", self._save)
        if self.comparison.objective.measure == "accuracy":
            share = {"min": 0.5, "max": 0.95, "step": 0.01, "readout_format": ".0%"}
            self.target = ipywidgets.FloatSlider(0.75, **share, **style)
        else:
            self.target = ipywidgets.FloatText(1.0, **style)
        self.target.observe(self._tabulate, "value")
        self.runs = ipywidgets.Dropdown(**style | {"description": say("runs")})
        self.file = ipywidgets.Text("strategy_lab.csv", **style | {"description": say("file")})
        self.note = ipywidgets.HTML()
        for name in ("target", "runs", "file", "note"):
            named(name, getattr(self, name))

    @property
    def recipe(self) -> Recipe:
        return self.form.recipe

    def _explain(self) -> None:
        """Say what is wrong with the settings as they are now, or good to know."""
        wrong = runs.problem(self.recipe, self.task)
        self.note.value = escape(wrong or runs.advice(self.recipe) or "")
        self.line_up.disabled = bool(wrong)

    def _toggle(self, button: ipywidgets.Button) -> None:
        """Let the present settings race next time; or not, if they were to."""
        recipe = self.recipe
        if recipe in self.lined_up:
            self.lined_up.remove(recipe)
        elif not runs.problem(recipe, self.task):
            self.lined_up.append(recipe)
        told = zip(self.lined_up, runs.differences(self.lined_up), strict=True)
        names = [runs.title(each) + (f" ({differs})" if differs else "") for each, differs in told]
        self._say("lined_up" if names else "ready", names="; ".join(names))

    def _called(self, run: runs.Run) -> str:
        return run.name

    def _ticks(self, run: runs.Run) -> int:
        """Return how many clients have trained since the last result."""
        return len(self._trained.get(run.recipe, ()))

    def _state(self, run: runs.Run) -> str:
        recipe, told = run.recipe, {"name": run.name, "trained": self._ticks(run)}
        told |= {"round": min(len(run.results), recipe.rounds), "rounds": recipe.rounds}
        return say("racer", cohort=recipe.cohort, **told)

    def _picture(self):
        shown = self.comparison.runs
        return plots.race(shown, self._levels, {run.number: self._ticks(run) for run in shown})

    def _frame(self) -> pd.DataFrame:
        return self.comparison.table(self.target.value)

    def _tabulate(self, change: object = None) -> None:
        """Show the table for the target, and the runs that can be dropped."""
        super()._tabulate()
        options = [(run.name, run.number) for run in self.comparison.runs]
        if tuple(options) != tuple(self.runs.options):
            kept = self.runs.value
            self.runs.options = options
            numbers = [number for _, number in options]
            self.runs.value = kept if kept in numbers else next(iter(numbers), None)
        self.drop.disabled = self._busy or not options

    def _drop(self, button: ipywidgets.Button) -> None:
        if self._busy:
            return self._say("busy")
        self.comparison.drop(self.runs.value)
        self._draw()

    def _save(self, button: ipywidgets.Button) -> None:
        """Write the file; one that was there before stays, and another name is taken."""
        if not self.comparison.runs:
            return self._say("nothing_to_save")
        try:
            written = self.comparison.to_csv(self.file.value)
        except OSError as error:
            return self._say("error", why=error)
        asked = Path(self.file.value)
        told = {"count": len(self.comparison.runs), "file": asked.with_name(written.name)}
        self._say("saved" if written.name == asked.name else "saved_beside", asked=asked, **told)
