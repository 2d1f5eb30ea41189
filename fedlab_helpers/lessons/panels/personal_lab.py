"""A model for each client, live: choose a method, and watch who gains and who loses."""

from dataclasses import replace
from statistics import mean

import ipywidgets
import pandas as pd

from fedlab_helpers.lessons import plots, runs
from fedlab_helpers.lessons.panels.lab import Lab
from fedlab_helpers.lessons.panels.parts import choice, slider, steps
from fedlab_helpers.lessons.words import say
from fedlab_helpers.personal.members import PARTITIONS
from fedlab_helpers.personal.methods import METHODS
from fedlab_helpers.recipe import Recipe, Result
from fedlab_helpers.tasks.reviews.task import Task

# The numbers by which methods are tuned, with values that a slider offers, the ends among them.
NUMBERS = {
    "epochs": (0, 1, 2, 3, 5, 8, 10, 20),
    "lr": (5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 4e-2, 5e-2, 0.1, 0.2, 0.4),
    "lam": (0.0, 0.1, 1.0, 10.0, 100.0, 1000.0, float("inf")),
    "alpha": (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0),
    "trial_rate": (0.01, 0.03, 0.1, 0.3, 1.0),
    "meta_rate": (0.25, 0.5, 1.0, 1.5),
    "models": (1, 2, 3, 4, 6, 8),
}


class PersonalLab(Lab):
    """Choose a method, its number and a deal, press Run, and watch each client's bar.

    `comparison` holds the runs; one that was made before is shown at once. The federation of a
    deal is trained once, whatever method follows. What is not chosen here is as in `usual`.
    """

    usual = Recipe(method="tune", partition="strictness", rounds=12)

    def __init__(self, task: Task):
        self._prepare(task)
        self._make_controls()
        left = ipywidgets.VBox([self.method, self._own])
        form = ipywidgets.HBox([left, ipywidgets.VBox([self.partition, self.rounds, self.seed])])
        start = ipywidgets.HBox([self.run, self.stop])
        super().__init__([form, start, self.status, self.image, self.table, self.hint])
        self._say("personal_ready")
        self._draw()

    def _make_controls(self) -> None:
        usual = self.usual
        self.method = choice("method", METHODS, usual.method)
        self._own = ipywidgets.VBox()  # the slider of the method's number
        self.partition = choice("partition", PARTITIONS, usual.partition)
        self.rounds = slider("rounds", usual.rounds, 4, 40)
        self.seed = slider("seed", usual.seed, 0, 99)
        self.method.observe(self._swap_numbers, "value")
        self._swap_numbers()

    @property
    def recipe(self) -> Recipe:
        names = ("method", "number", "partition", "rounds", "seed")
        return replace(self.usual, **{name: getattr(self, name).value for name in names})

    def _swap_numbers(self, change: object = None) -> None:
        """Offer the values of the chosen method's number, beginning where it is worth trying."""
        called, tries = runs.NUMBER_OF.get(self.method.value), METHODS[self.method.value].tries
        options = [(f"{v:g}", v) for v in NUMBERS[called]] if called else [("–", 0.0)]
        start, said = tries[len(tries) // 2] if called else 0.0, say(called or "no_number")
        self.number = steps("number", options, start, said, disabled=not called)
        self._own.children = (self.number,)

    def _picture(self):
        run = next(iter(self._racing()), None)  # that was asked for last
        if not run or not run.last:
            return plots.client_bars()
        last, told = run.last, self._came_to if run.state == "finished" else self._state
        return plots.client_bars(last.shared, last.own, last.groups, told(run))

    def _called(self, run: runs.Run) -> str:
        return f"{super()._called(run)}, {say(run.recipe.partition)}"

    def _state(self, run: runs.Run) -> str:
        name, last = self._called(run), run.last
        if last is None:
            return say("personal_waits")
        if not last.own:
            return say("personal_round", name=name, round=last.round)
        told = {"client": len(last.own), "clients": len(last.shared)}
        return say("personal_client", name=name, round=last.round, **told)

    def _came_to(self, run: runs.Run) -> str:
        if run.state != "finished":
            return super()._came_to(run)
        told = _figures(run.last) | {"clients": len(run.last.own)}
        return say("personal_done", name=self._called(run), **told)

    def _frame(self) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "name": runs.title(run.recipe),
                "partition": say(run.recipe.partition),
                "rounds": run.recipe.rounds,
                "seed": run.recipe.seed,
                **_figures(run.last),
            }
            for run in self.comparison.runs
            if run.state == "finished"
        )


def _figures(result: Result) -> dict[str, float]:
    """Return what a run comes to."""
    gains = [own - shared for own, shared in zip(result.own, result.shared, strict=True)]
    return {
        "mean_shared": mean(result.shared),
        "mean_own": mean(result.own),
        "gain": 100 * mean(gains),
        "worst_own": min(result.own),
        "below": sum(gain < 0 for gain in gains),
    }
