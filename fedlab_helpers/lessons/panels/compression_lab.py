"""Fewer bytes, live: choose what is sent, and watch bytes and accuracy find their place."""

import threading

import ipywidgets
import pandas as pd

from fedlab_helpers.lessons.panels.compression_run import (
    AMOUNTS,
    PARTITIONS,
    WRITES,
    CompressionSetup,
    Spot,
    feeds_back,
    play,
)
from fedlab_helpers.lessons.panels.live import Live
from fedlab_helpers.lessons.panels.parts import named, table_html
from fedlab_helpers.lessons.plots.compression import HEIGHT, WIDTH, runs_plot
from fedlab_helpers.lessons.words import text
from fedlab_helpers.tasks.reviews.task import Task

_LOOK = {
    "style": {"description_width": "10em"},
    "layout": ipywidgets.Layout(width="30em"),
}


class CompressionLab(Live):
    """Choose what of a change is sent and how, press Run, and watch a point move to its place.

    `runs` holds each run's spots; one that was made before is shown at once.

    Args:
        task: the reviews; clients train on its training part, the model is evaluated on its
            validation part.
    """

    def __init__(self, task: Task):
        self.task = task
        self.runs: dict[CompressionSetup, tuple[Spot, ...]] = {}
        self._setup = CompressionSetup()
        self._prepare(WIDTH, HEIGHT)
        self._make_controls()
        left = [self.keep, self._own, self.write, self.squeeze, self.feedback, self.momentum]
        right = [self.partition, self.rounds, self.seed]
        form = ipywidgets.HBox([ipywidgets.VBox(left), ipywidgets.VBox(right)])
        start = ipywidgets.HBox([self.run, self.stop])
        hint = ipywidgets.Label(text("re_run"))
        super().__init__([form, start, self.status, self.image, self.table, hint])
        self._say("compression_ready")
        self._draw()

    def _make_controls(self) -> None:
        """Make the controls of the settings."""
        usual = CompressionSetup()

        def choice(name, values):
            return ipywidgets.Dropdown(
                options=[(text(value), value) for value in values], value=getattr(usual, name),
                description=text(name), **_LOOK,
            )  # fmt: skip

        def box(name):
            return ipywidgets.Checkbox(getattr(usual, name), description=text(name), **_LOOK)

        self.keep, self.write = choice("keep", AMOUNTS), choice("write", WRITES)
        self.partition = choice("partition", PARTITIONS)
        self._own = ipywidgets.VBox()  # the slider of how much
        self.squeeze, self.feedback, self.momentum = map(box, ("squeeze", "feedback", "momentum"))
        whole = ipywidgets.IntSlider
        self.rounds = whole(usual.rounds, min=1, max=40, description=text("rounds"), **_LOOK)
        self.seed = whole(usual.seed, min=0, max=99, description=text("seed"), **_LOOK)
        self.table = ipywidgets.HTML()
        for name in ("keep", "write", "squeeze", "feedback", "momentum", "partition", "rounds"):
            named(name, getattr(self, name))
        named("seed", self.seed)
        named("table", self.table)
        self.keep.observe(self._swap_amounts, "value")
        for control in (self.write, self.feedback):
            control.observe(self._follow, "value")
        self._swap_amounts()

    @property
    def setup(self) -> CompressionSetup:
        """The settings as the controls have them now."""
        names = ("write", "squeeze", "feedback", "momentum", "partition", "rounds", "seed")
        amount = self.amount.value if AMOUNTS[self.keep.value] else None
        return CompressionSetup(
            self.keep.value, amount, **{name: getattr(self, name).value for name in names}
        )

    def _swap_amounts(self, change: object = None) -> None:
        """Offer what there may be of the chosen kind."""
        kind = self.keep.value
        rank = kind == "lowrank"
        offered = [
            (
                text("amount_rank", amount=amount)
                if rank
                else text("amount_share", amount=100 * amount),
                amount,
            )
            for amount in AMOUNTS[kind]
        ]
        self.amount = named(
            "amount",
            ipywidgets.SelectionSlider(
                options=offered or [(text("amount_all"), 1.0)],
                value=CompressionSetup(kind).amount or 1.0,
                description=text("amount"),
                disabled=not offered,
                **_LOOK,
            ),
        )
        self._own.children = (self.amount,)
        self._follow()

    def _follow(self, change: object = None) -> None:
        """Switch off what does not apply."""
        self.feedback.disabled = not feeds_back(self.keep.value, self.write.value)
        self.momentum.disabled = not (self.feedback.value and self.keep.value == "topk")

    def _begin(self, button: ipywidgets.Button) -> None:
        """Show these settings' run if it has been made, or else make it."""
        if self._busy:
            return self._say("busy")
        self._setup = self.setup
        if self._finished(self._setup):
            self._draw()
            return self._say("from_cache", names=self._setup.name)
        self.runs[self._setup] = ()
        self._start(self._play)

    def _finished(self, setup: CompressionSetup) -> bool:
        spots = self.runs.get(setup, ())
        return bool(spots) and spots[-1].round == setup.rounds

    def _play(self, stop: threading.Event) -> None:
        setup = self._setup
        for spot in play(setup, self.task, stop):
            self.runs[setup] = (*self.runs[setup], spot)
            self._news.set()

    def _draw(self) -> None:
        # A copy: the thread that trains may add a run's spots meanwhile.
        self.image.value = runs_plot(dict(self.runs))._repr_png_()

    def _progress(self) -> str:
        spots = self.runs.get(self._setup)
        return text(
            "compression_round",
            name=self._setup.name,
            round=spots[-1].round if spots else 0,
            rounds=self._setup.rounds,
            factor=spots[-1].factor if spots else 1,
        )

    def _outcome(self) -> str:
        if not self._finished(self._setup):
            return text("compression_stopped", name=self._setup.name)
        last = self.runs[self._setup][-1]
        told = {"accuracy": last.accuracy, "kilobytes": last.kilobytes, "factor": last.factor}
        return text("compression_done", name=self._setup.name, **told)

    def _over(self) -> None:
        """Show what each run has come to."""
        rows = [
            {
                "name": setup.name,
                "partition": text(setup.partition),
                "rounds": spots[-1].round,
                "seed": setup.seed,
                "final_accuracy": spots[-1].accuracy,
                "kilobytes_up": spots[-1].kilobytes,
                "factor": spots[-1].factor,
            }
            for setup, spots in self.runs.items()
            if spots
        ]
        self.table.value = table_html(pd.DataFrame(rows)) if rows else ""
