"""Fewer bytes, live: choose what is sent, and watch bytes and accuracy find their place."""

from dataclasses import replace
from typing import Any

import ipywidgets

from fedlab_helpers.compression.registry import KEEPS, WRITES, feeds_back
from fedlab_helpers.lessons import plots, runs
from fedlab_helpers.lessons.panels import seen
from fedlab_helpers.lessons.panels.lab import Lab, Try
from fedlab_helpers.lessons.panels.parts import box, choice, slider, steps
from fedlab_helpers.lessons.plots.runs import measure_of, validation
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
_BAND = 0.06  # of accuracy below the lossless run, in which codecs are told apart
USUAL = Recipe("rowwise", partition="iid", rounds=10, keep="everything", squeeze=_SQUEEZE)
# What the controls begin with: Zstandard at this level takes longer than the training, where every
# value is sent in 32 bits.
PLAIN = replace(USUAL, squeeze=None)


class CompressionLab(Lab):
    """Choose what of a change is sent and how, press Run, and watch a point move to its place.

    What is not chosen here is as in `usual`.
    """

    name = "compression_lab"
    groups = (
        ("keep", ("keep", "amount", "write")),
        ("more_bytes", ("squeeze", "feedback", "momentum")),
        ("rest", ("partition", "rounds", "seed")),
    )
    folded = ("rest",)
    xs = ("factor", "round", "total_megabytes")
    usual = USUAL
    tries = (
        Try(
            "try_ternary",
            (PLAIN, replace(USUAL, write="ternary")),
            lambda: seen.codec("ternary, zstd"),
        ),
        Try(
            "try_feedback",
            tuple(replace(USUAL, keep="topk", amount=0.01, feedback=on) for on in (False, True)),
            lambda: seen.codec("top 1%", "top 1%, EF"),
        ),
        Try(
            "try_signs",
            (PLAIN, replace(USUAL, keep="topk", amount=0.1, write="signs", feedback=True)),
            lambda: seen.codec("top 10% sign, EF"),
        ),
        Try(
            "try_rank",
            (PLAIN, replace(USUAL, keep="lowrank", amount=2, write="bits4", feedback=True)),
            lambda: seen.codec("rank 2 in 4 bits, EF"),
        ),
    )

    def __init__(self, task: Task, comparison: runs.Comparison | None = None):
        self._goals = seen.frontier() if runs.anchors(task) else []
        super().__init__(task, comparison)

    def _controls(self) -> dict[str, ipywidgets.Widget]:
        usual = self.usual
        return {
            "keep": choice("keep", KEEPS, usual.keep),
            "amount": self._amounts(usual.keep),
            "write": choice("write", WRITES, usual.write),
            "squeeze": box("squeeze", False),
            "feedback": box("feedback", False),
            "momentum": box("momentum", False),
            "partition": choice("partition", PARTITIONS, usual.partition),
            "rounds": slider("rounds", usual.rounds, 1, 40),
            "seed": slider("seed", usual.seed, 0, 99),
        }

    _at: str = USUAL.keep  # whose amounts are offered

    def _amounts(self, kind: str) -> ipywidgets.Widget:
        """Return what there may be of a kind."""
        offered = [(runs.amount(kind, value), value) for value in AMOUNTS.get(kind, ())]
        return steps("amount", offered or [(say("amount_all"), 1.0)], KEEPS[kind].usual or 1.0)

    @property
    def recipe(self) -> Recipe:
        told = self.form.values
        own = {
            "amount": told["amount"] if told["keep"] in AMOUNTS else None,
            "squeeze": _SQUEEZE if told["squeeze"] else None,
            "momentum": _MOMENTUM if told["momentum"] and self._may_gather() else 0.0,
            "feedback": told["feedback"] and feeds_back(told["keep"], told["write"]),
        }
        return replace(self.usual, **told | own)

    def _may_gather(self) -> bool:
        told = self.form.values
        fed_back = told["feedback"] and feeds_back(told["keep"], told["write"])
        return fed_back and told["keep"] == "topk"

    def _set(self, recipe: Recipe) -> None:
        self.form.keep.value = recipe.keep
        for name in ("write", "partition", "rounds", "seed", "feedback"):
            self.form.controls[name].value = getattr(recipe, name)
        for name in ("squeeze", "momentum"):
            self.form.controls[name].value = bool(getattr(recipe, name))
        if recipe.amount is not None:
            self.form.amount.value = recipe.amount

    def _adapt(self) -> None:
        form, kind = self.form, self.form.keep.value
        if self._at != kind:
            self._at = kind
            form.swap("amount", self._amounts(kind))
        form.explain("keep", about=say(f"{kind}_help"))
        form.explain("amount", off="" if kind in AMOUNTS else say("no_amount"))
        feeds = feeds_back(kind, form.write.value)
        form.explain("feedback", off="" if feeds else say("no_feedback"))
        form.explain("momentum", off="" if self._may_gather() else say("no_momentum"))

    def _state(self, run: runs.Run) -> str:
        name, last = self._called(run), run.last
        if not last or not last.round:
            return say("begins", name=name)
        told = {"round": last.round, "rounds": run.recipe.rounds, "factor": last.factor}
        return say("compression_round", name=name, **told)

    def _came_to(self, run: runs.Run) -> str:
        if run.state != "finished":
            return super()._came_to(run)
        last, measure = run.last, self.comparison.objective.measure
        score = f"{last.score:.1%}" if measure == "accuracy" else f"{measure} {last.score:.3g}"
        told = {"score": score, "kilobytes": last.kilobytes, "factor": last.factor}
        return say("compression_done", name=self._called(run), **told)

    def _panes(self) -> list[dict[str, Any]]:
        measure = measure_of(self.comparison.runs)
        whole = [mark["value"] for mark in self._goals if mark["lossless"]]
        told: dict[str, Any] = {"y": measure, "label": validation(measure), "marks": self._goals}
        told["form"] = "share" if measure == "accuracy" else ""
        if whole:
            levels = {"whole_level": whole[0], "allowed": whole[0] - 0.01}
            told["levels"] = [{"name": say(name), "value": v} for name, v in levels.items()]
            told |= {"lowest": whole[0] - _BAND, "about": say("goals", round=self.usual.rounds)}
        return [told]

    def _curves(self, each: runs.Together):
        return tuple(frame[frame["round"] > 0] for frame in each.curves())

    def _cells(self, each: runs.Together) -> dict[str, Any]:
        trained = [run.last for run in each.runs if run.last and run.last.round]
        return {
            "state": say(each.state),
            "rounds": [last.round for last in trained],
            f"final_{self.comparison.objective.measure}": [last.score for last in trained],
            "kilobytes_up": [last.kilobytes for last in trained],
            "factor": [last.factor for last in trained],
        }

    def _still(self) -> plots.Picture:
        return plots.codecs(self.comparison.runs, self._goals)
