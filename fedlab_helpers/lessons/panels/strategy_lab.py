"""Federated runs at the press of a button: choose settings, let them race, compare."""

import threading
from collections.abc import Sequence
from html import escape

import ipywidgets

from fedlab_helpers.lessons.panels.comparison import Comparison, anchors, differences
from fedlab_helpers.lessons.panels.lab import Setup, advice, problem
from fedlab_helpers.lessons.panels.live import Live
from fedlab_helpers.lessons.panels.parts import button, named, table_html
from fedlab_helpers.lessons.panels.race import race
from fedlab_helpers.lessons.panels.settings_form import SettingsForm
from fedlab_helpers.lessons.plots.race import HEIGHT, WIDTH, race_plot
from fedlab_helpers.lessons.words import text
from fedlab_helpers.tasks.reviews.task import Task


class StrategyLab(Live):
    """Choose a strategy and its surroundings, press Run, and watch; every run stays to compare.

    The controls of the settings are in `form`; `comparison` holds the runs. One race goes on at a
    time: a race begun in one panel stops that of another.

    Args:
        task: the reviews; accuracies are of its validation part.
        comparison: runs on this task that are to be shown from the beginning.
    """

    def __init__(self, task: Task, comparison: Comparison | None = None):
        self.task, self.comparison = task, comparison or Comparison()
        self.lined_up: list[Setup] = []
        self._levels = anchors()
        self._trained: dict[Setup, list[int]] = {}
        self._racers: Sequence[Setup] = ()
        self._prepare(WIDTH, HEIGHT)
        self._make_controls()
        self.form = SettingsForm()
        start = ipywidgets.HBox([self.line_up, self.run, self.stop])
        keep = ipywidgets.HBox([self.target, self.runs, self.drop])
        save = ipywidgets.HBox([self.file, self.save])
        hint = ipywidgets.Label(text("re_run"))
        rows = [self.form, self.note, start, self.status, self.image, keep, self.table, save, hint]
        super().__init__(rows)
        self.form.on_change(self._explain)
        self._draw()

    def _make_controls(self) -> None:
        """Make the buttons and what is below them."""
        look = {"style": {"description_width": "8em"}}
        self.line_up = button("line_up", self._toggle, tooltip=text("line_up_help"))
        self.drop = button("drop", self._drop, disabled=True)
        self.save = button("save", self._save)
        self.target = ipywidgets.FloatSlider(
            0.75, min=0.5, max=0.95, step=0.01, readout_format=".0%", description=text("target"),
            **look,
        )  # fmt: skip
        self.target.observe(self._tabulate, "value")
        self.runs = ipywidgets.Dropdown(description=text("runs"), **look)
        self.file = ipywidgets.Text("strategy_lab.csv", description=text("file"), **look)
        self.note, self.table = ipywidgets.HTML(), ipywidgets.HTML()
        for name in ("target", "runs", "file", "note", "table"):
            named(name, getattr(self, name))

    def _explain(self) -> None:
        """Say what is wrong with the settings as they are now, or good to know."""
        setup = self.form.setup
        wrong = problem(setup, self.task)
        self.note.value = escape(wrong or advice(setup) or "")
        self.line_up.disabled = bool(wrong)

    def _toggle(self, button: ipywidgets.Button) -> None:
        """Let the present settings race next time; or not, if they were to."""
        setup = self.form.setup
        if setup in self.lined_up:
            self.lined_up.remove(setup)
        elif not problem(setup, self.task):
            self.lined_up.append(setup)
        names = [
            f"{setup.name} ({differs})" if differs else setup.name
            for setup, differs in zip(self.lined_up, differences(self.lined_up), strict=True)
        ]
        self._say("lined_up" if names else "ready", names="; ".join(names))

    def _begin(self, button: ipywidgets.Button) -> None:
        """Race what is lined up, or else the present settings, in a thread of its own."""
        setups = self.lined_up or [self.form.setup]
        if self._busy:
            return self._say("busy")
        if wrong := problem(setups[0], self.task):
            return self._say("not_run", why=wrong)
        self.lined_up = []
        missing = self.comparison.begin(setups)
        if not missing:
            self._draw()
            names = [run.name for run in self.comparison.runs if run.setup in setups]
            return self._say("from_cache", names="; ".join(names))
        self._trained = {setup: [] for setup in missing}
        self._racers, self.drop.disabled = missing, True
        self._start(self._race)

    def _race(self, stop: threading.Event) -> None:
        for setup, news in race(self._racers, self.task, stop, self._tick):
            self._trained[setup] = []
            self.comparison.take(setup, news)
            self._news.set()

    def _tick(self, setup: Setup, client: int) -> None:
        self._trained[setup].append(client)
        self._news.set()

    def _progress(self) -> str:
        return "; ".join(
            text(
                "racer",
                name=run.name,
                round=min(len(run.points), run.setup.rounds),
                rounds=run.setup.rounds,
                trained=len(self._trained.get(run.setup, ())),
                cohort=run.setup.cohort,
            )
            for run in self.comparison.runs
            if run.state == "running"
        )

    def _over(self) -> None:
        self.comparison.abandon()
        self._tabulate()

    def _outcome(self) -> str:
        return "; ".join(
            text(
                "outcome_why" if run.why else "outcome",
                name=run.name,
                state=text(run.state),
                why=run.why,
            )
            for run in self.comparison.runs
            if run.setup in self._racers
        )

    def _draw(self) -> None:
        """Draw the curves and the table as the runs stand now."""
        runs = self.comparison.runs
        ticks = {run.number: len(self._trained.get(run.setup, ())) for run in runs}
        self.image.value = race_plot(runs, self._levels, ticks)._repr_png_()
        self._tabulate()

    def _tabulate(self, change: object = None) -> None:
        """Show the table for the target, and the runs that can be dropped."""
        self.table.value = table_html(self.comparison.table(self.target.value))
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
        if not self.comparison.runs:
            return self._say("nothing_to_save")
        try:
            self.comparison.to_csv(self.file.value)
        except OSError as error:
            return self._say("error", why=error)
        self._say("saved", count=len(self.comparison.runs), file=self.file.value)
