"""Federated runs at the press of a button: choose settings, let them race, compare."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from html import escape

import ipywidgets

from fedlab_helpers.comparison import Comparison, anchors, differences
from fedlab_helpers.lab import Setup, advice, problem
from fedlab_helpers.race import race
from fedlab_helpers.race_plot import HEIGHT, WIDTH, race_plot
from fedlab_helpers.strings import text
from fedlab_helpers.task import Task
from fedlab_helpers.widgets.parts import button, named, table_html
from fedlab_helpers.widgets.settings_form import SettingsForm

REDRAW = 0.3  # seconds between two drawings, at least


class StrategyLab(ipywidgets.VBox):
    """Choose a strategy and its surroundings, press Run, and watch; every run stays to compare.

    The controls of the settings are in `form`; `comparison` holds the runs. One race goes on at a
    time: a race begun in one panel stops that of another.

    Args:
        task: the reviews; accuracies are of its validation part.
        comparison: runs on this task that are to be shown from the beginning.
    """

    _latest: "tuple[threading.Thread, threading.Event] | None" = None  # of all panels

    def __init__(self, task: Task, comparison: Comparison | None = None):
        self.task, self.comparison = task, comparison or Comparison()
        self.lined_up: list[Setup] = []
        self._levels = anchors()
        self._trained: dict[Setup, list[int]] = {}
        self._news = threading.Event()
        self._busy = False  # the thread goes on for a moment after its race is over
        self._racing: threading.Thread | None = None
        self._stop = threading.Event()
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
        self.run = button("run", self._begin, tooltip=text("run_help"), button_style="primary")
        self.stop = button("stop", self._halt, disabled=True)
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
        self.status = ipywidgets.HTML(text("ready"))
        size = {"width": round(100 * WIDTH), "height": round(100 * HEIGHT)}
        self.image = ipywidgets.Image(format="png", **size)
        for name in ("target", "runs", "file", "note", "table", "status", "image"):
            named(name, getattr(self, name))

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the race is over, or for so long."""
        if self._racing:
            self._racing.join(seconds)

    def close(self) -> None:
        """End the race, and take the panel away."""
        self._stop.set()
        super().close()

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
        self._busy = self.run.disabled = self.drop.disabled = True
        self.stop.disabled = False
        before, self._stop = StrategyLab._latest, threading.Event()
        self._racing = threading.Thread(target=self._work, args=(missing, before), daemon=True)
        StrategyLab._latest = self._racing, self._stop
        self._racing.start()

    def _halt(self, button: ipywidgets.Button) -> None:
        self._stop.set()

    def _work(
        self,
        setups: Sequence[Setup],
        before: tuple[threading.Thread, threading.Event] | None,
    ) -> None:
        """Let the race go on in one thread, and draw it from this one."""
        try:
            if before:
                before[1].set()
                before[0].join()
            with ThreadPoolExecutor(1) as pool:
                try:
                    self._watch(pool.submit(self._race, setups, self._stop))
                finally:
                    self._stop.set()  # the race must not go on where nobody watches it
            self._say("ended", outcomes=self._outcomes(setups))
        except Exception as error:
            self._say("error", why=f"{type(error).__name__}: {error}")
        finally:
            self.comparison.abandon()
            self._busy, self.run.disabled, self.stop.disabled = False, False, True
            self._tabulate()

    def _race(self, setups: Sequence[Setup], stop: threading.Event) -> None:
        for setup, news in race(setups, self.task, stop, self._tick):
            self._trained[setup] = []
            self.comparison.take(setup, news)
            self._news.set()

    def _tick(self, setup: Setup, client: int) -> None:
        self._trained[setup].append(client)
        self._news.set()

    def _watch(self, racing: Future) -> None:
        """Draw whatever is new, until the race is over; raise what it raised."""
        over = False
        while not over:
            self._news.wait(REDRAW)
            over = racing.done()
            if self._news.is_set() or over:
                self._draw()
                self._say("racing", progress=self._progress())
            wait([racing], REDRAW)
        racing.result()

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

    def _outcomes(self, setups: Sequence[Setup]) -> str:
        return "; ".join(
            text(
                "outcome_why" if run.why else "outcome",
                name=run.name,
                state=text(run.state),
                why=run.why,
            )
            for run in self.comparison.runs
            if run.setup in setups
        )

    def _draw(self) -> None:
        """Draw the curves and the table as the runs stand now."""
        self._news.clear()
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

    def _say(self, key: str, **values: object) -> None:
        self.status.value = escape(text(key, **values))
