"""A model for each client, live: choose a method, and watch who gains and who loses."""

import threading
from statistics import mean

import ipywidgets
import pandas as pd

from fedlab_helpers.lessons.panels.live import Live
from fedlab_helpers.lessons.panels.parts import named, table_html
from fedlab_helpers.lessons.panels.personal_run import (
    NUMBER_OF,
    NUMBERS,
    Bars,
    Courses,
    PersonalSetup,
    play,
)
from fedlab_helpers.lessons.plots.personal import HEIGHT, WIDTH, bars_plot
from fedlab_helpers.lessons.words import text
from fedlab_helpers.personal.members import PARTITIONS
from fedlab_helpers.personal.methods import METHODS
from fedlab_helpers.tasks.reviews.task import Task

_LOOK = {
    "style": {"description_width": "10em"},
    "layout": ipywidgets.Layout(width="30em"),
}


class PersonalLab(Live):
    """Choose a method, its number and a deal, press Run, and watch each client's bar.

    `runs` holds how each run ended; one that was made before is shown at once. The federation of a
    deal is trained once, whatever method follows.

    Args:
        task: the reviews; clients train on its training part, bars are of its validation part.
    """

    def __init__(self, task: Task):
        self.courses = Courses(task)
        self.runs: dict[PersonalSetup, Bars] = {}
        self._setup, self._bars = PersonalSetup(), None
        self._prepare(WIDTH, HEIGHT)
        self._make_controls()
        form = ipywidgets.HBox(
            [
                ipywidgets.VBox([self.method, self._own]),
                ipywidgets.VBox([self.partition, self.rounds, self.seed]),
            ]
        )
        start = ipywidgets.HBox([self.run, self.stop])
        hint = ipywidgets.Label(text("re_run"))
        super().__init__([form, start, self.status, self.image, self.table, hint])
        self._say("personal_ready")
        self._draw()

    def _make_controls(self) -> None:
        """Make the controls of the settings."""
        usual = PersonalSetup()
        self.method = ipywidgets.Dropdown(
            options=[(text(name), name) for name in METHODS], value=usual.method,
            description=text("method"), **_LOOK,
        )  # fmt: skip
        self._own = ipywidgets.VBox()  # the slider of the method's number
        self.partition = ipywidgets.Dropdown(
            options=[(text(name), name) for name in PARTITIONS], value=usual.partition,
            description=text("partition"), **_LOOK,
        )  # fmt: skip
        whole = ipywidgets.IntSlider
        self.rounds = whole(usual.rounds, min=4, max=40, description=text("rounds"), **_LOOK)
        self.seed = whole(usual.seed, min=0, max=99, description=text("seed"), **_LOOK)
        self.table = ipywidgets.HTML()
        for name in ("method", "partition", "rounds", "seed", "table"):
            named(name, getattr(self, name))
        self.method.observe(self._swap_numbers, "value")
        self._swap_numbers()

    @property
    def setup(self) -> PersonalSetup:
        """The settings as the controls have them now."""
        return PersonalSetup(
            self.method.value,
            self.number.value,
            self.partition.value,
            self.rounds.value,
            self.seed.value,
        )

    def _swap_numbers(self, change: object = None) -> None:
        """Offer the values of the chosen method's number, beginning where it is worth trying."""
        called = NUMBER_OF.get(self.method.value)
        self.number = named(
            "number",
            ipywidgets.SelectionSlider(
                options=[(f"{v:g}", v) for v in NUMBERS[called]] if called else [("–", 0.0)],
                value=PersonalSetup(self.method.value).number if called else 0.0,
                description=text(called or "no_number"),
                disabled=not called,
                **_LOOK,
            ),
        )
        self._own.children = (self.number,)

    def _begin(self, button: ipywidgets.Button) -> None:
        """Show these settings' run if it has been made, or else make it."""
        if self._busy:
            return self._say("busy")
        self._setup, self._bars = self.setup, self.runs.get(self.setup)
        if self._bars:
            self._draw()
            return self._say("from_cache", names=self._setup.name)
        self._start(self._play)

    def _play(self, stop: threading.Event) -> None:
        setup = self._setup
        for bars in play(setup, self.courses, stop):
            self._bars = bars
            if bars.settled:
                self.runs[setup] = bars
            self._news.set()

    def _draw(self) -> None:
        self.image.value = bars_plot(self._bars, self._bars and self._progress())._repr_png_()

    def _progress(self) -> str:
        bars, name = self._bars, f"{self._setup.name}, {text(self._setup.partition)}"
        if bars is None:
            return text("personal_waits")
        if not bars.own:
            return text("personal_round", name=name, round=bars.round)
        if not bars.settled:
            told = {"client": len(bars.own), "clients": len(bars.shared)}
            return text("personal_client", name=name, round=bars.round, **told)
        return self._outcome()

    def _outcome(self) -> str:
        name = f"{self._setup.name}, {text(self._setup.partition)}"
        if self._bars is None or not self._bars.settled:
            return text("personal_stopped", name=name)
        row = _figures(self._bars)
        told = {"gain": row["gain"], "below": row["below"], "clients": len(self._bars.own)}
        return text("personal_done", name=name, **told)

    def _over(self) -> None:
        """Show the runs that came to their end."""
        rows = [
            {
                "name": setup.name,
                "partition": text(setup.partition),
                "rounds": setup.rounds,
                "seed": setup.seed,
                **_figures(bars),
            }
            for setup, bars in self.runs.items()
        ]
        self.table.value = table_html(pd.DataFrame(rows)) if rows else ""


def _figures(bars: Bars) -> dict[str, float]:
    """Return what a run comes to."""
    gains = [own - shared for own, shared in zip(bars.own, bars.shared, strict=True)]
    return {
        "mean_shared": mean(bars.shared),
        "mean_own": mean(bars.own),
        "gain": 100 * mean(gains),
        "worst_own": min(bars.own),
        "below": sum(gain < 0 for gain in gains),
    }
