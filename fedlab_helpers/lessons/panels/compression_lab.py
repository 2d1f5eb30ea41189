"""Fewer bytes, live: choose what is sent, and watch bytes and accuracy find their place."""

from dataclasses import replace

import ipywidgets
import pandas as pd

from fedlab_helpers.compression.registry import KEEPS, WRITES, feeds_back
from fedlab_helpers.lessons import plots, runs
from fedlab_helpers.lessons.panels.lab import Lab
from fedlab_helpers.lessons.panels.parts import box, choice, slider, steps
from fedlab_helpers.lessons.words import say
from fedlab_helpers.recipe import Recipe
from fedlab_helpers.tasks.reviews.task import Task

_SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
AMOUNTS = {  # what is kept -> how much of it a slider offers
    "topk": _SHARES,
    "randomk": _SHARES,
    "lowrank": (1, 2, 4, 8),
    "sketch": (0.05, 0.1, 0.2, 0.5),
}
PARTITIONS = ("iid", "by_domain", "dirichlet")
_SQUEEZE, _MOMENTUM = 19, 0.9


class CompressionLab(Lab):
    """Choose what of a change is sent and how, press Run, and watch a point move to its place.

    `comparison` holds the runs; one that was made before is shown at once. What is not chosen here
    is as in `usual`.
    """

    usual = Recipe("rowwise", partition="iid", rounds=10, keep="everything", squeeze=_SQUEEZE)

    def __init__(self, task: Task):
        self._prepare(task)
        self._make_controls()
        left = [self.keep, self._own, self.write, self.squeeze, self.feedback, self.momentum]
        right = [self.partition, self.rounds, self.seed]
        form = ipywidgets.HBox([ipywidgets.VBox(left), ipywidgets.VBox(right)])
        start = ipywidgets.HBox([self.run, self.stop])
        super().__init__([form, start, self.status, self.image, self.table, self.hint])
        self._say("compression_ready")
        self._draw()

    def _make_controls(self) -> None:
        usual = self.usual
        self.keep = choice("keep", KEEPS, usual.keep)
        self.write = choice("write", WRITES, usual.write)
        self.partition = choice("partition", PARTITIONS, usual.partition)
        self._own = ipywidgets.VBox()  # the slider of how much
        self.squeeze = box("squeeze", bool(usual.squeeze))
        self.feedback, self.momentum = box("feedback", False), box("momentum", False)
        self.rounds = slider("rounds", usual.rounds, 1, 40)
        self.seed = slider("seed", usual.seed, 0, 99)
        self.keep.observe(self._swap_amounts, "value")
        for control in (self.write, self.feedback):
            control.observe(self._follow, "value")
        self._swap_amounts()

    @property
    def recipe(self) -> Recipe:
        names = ("keep", "write", "feedback", "partition", "rounds", "seed")
        return replace(
            self.usual,
            amount=self.amount.value if self.keep.value in AMOUNTS else None,
            squeeze=_SQUEEZE if self.squeeze.value else None,
            momentum=_MOMENTUM if self.momentum.value else 0.0,
            **{name: getattr(self, name).value for name in names},
        )

    def _swap_amounts(self, change: object = None) -> None:
        """Offer what there may be of the chosen kind."""
        kind = self.keep.value
        offered = [(runs.amount(kind, value), value) for value in AMOUNTS.get(kind, ())]
        options = offered or [(say("amount_all"), 1.0)]
        self.amount = steps("amount", options, KEEPS[kind].usual or 1.0, disabled=not offered)
        self._own.children = (self.amount,)
        self._follow()

    def _follow(self, change: object = None) -> None:
        """Switch off what does not apply."""
        self.feedback.disabled = not feeds_back(self.keep.value, self.write.value)
        self.momentum.disabled = not (self.feedback.value and self.keep.value == "topk")

    def _picture(self):
        return plots.codecs(self.comparison.runs)

    def _state(self, run: runs.Run) -> str:
        told = {"round": run.last.round, "factor": run.last.factor} if run.last else {}
        told = {"round": 0, "factor": 1, **told, "rounds": run.recipe.rounds}
        return say("compression_round", name=self._called(run), **told)

    def _came_to(self, run: runs.Run) -> str:
        if run.state != "finished":
            return super()._came_to(run)
        last, measure = run.last, self.comparison.objective.measure
        score = f"{last.score:.1%}" if measure == "accuracy" else f"{measure} {last.score:.3g}"
        told = {"score": score, "kilobytes": last.kilobytes, "factor": last.factor}
        return say("compression_done", name=self._called(run), **told)

    def _frame(self) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "name": self._called(run),
                "partition": say(run.recipe.partition),
                "rounds": run.last.round,
                "seed": run.recipe.seed,
                f"final_{self.comparison.objective.measure}": run.last.score,
                "kilobytes_up": run.last.kilobytes,
                "factor": run.last.factor,
            }
            for run in self.comparison.runs
            if run.last and run.last.round
        )
