"""What the three labs share: settings in, a race of runs, a picture and a table of what came.

One thread runs, another draws, and the kernel stays free for the Stop button.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from html import escape

import ipywidgets
import pandas as pd

from fedlab_helpers.lessons.panels.parts import button, named, table_html
from fedlab_helpers.lessons.plots.runs import SIZE, Picture
from fedlab_helpers.lessons.runs import Comparison, Run, problem, race, title
from fedlab_helpers.lessons.words import say
from fedlab_helpers.personal.federation import Federation
from fedlab_helpers.recipe import Recipe
from fedlab_helpers.tasks.reviews.task import Task

REDRAW = 0.3  # seconds between two drawings, at least


class Lab(ipywidgets.VBox):
    """A panel in which runs are made and compared; `comparison` holds them.

    One race goes on at a time: begun in one panel, it ends that of another. A lab says in `recipe`
    what its controls say together, in `_picture` and `_frame` what is shown of the runs as they
    stand now, in `_state` where a run stands that goes on, in `_came_to` what it came to. Clients
    train on the task's training part; its validation part is what they are judged by.
    """

    recipe: Recipe
    _picture: Callable[[], Picture]
    _frame: Callable[[], pd.DataFrame]
    _state: Callable[[Run], str]

    _stop = threading.Event()  # of a panel that could not be made, which python closes, too
    _latest: "tuple[threading.Thread, threading.Event] | None" = None  # of all panels

    def _prepare(self, task: Task, comparison: Comparison | None = None) -> None:
        """Make what every lab has. Raises ValueError: the runs were made on another task."""
        self.task, self.comparison = task, comparison or Comparison(task)
        self.comparison.require(task)
        self.lined_up: list[Recipe] = []  # what Run is to run; nothing: the settings as they are
        self._racers: Sequence[Recipe] = ()
        self._trained: dict[Recipe, list[int]] = {}
        self._federations: dict[Recipe, Federation] = {}
        self._news, self._stop = threading.Event(), threading.Event()
        self._busy = False  # the thread goes on for a moment after its work is over
        self._thread: threading.Thread | None = None
        self.run = button("run", self._begin, tooltip=say("run_help"), button_style="primary")
        self.stop = button("stop", lambda _: self._stop.set(), disabled=True)
        self.status = named("status", ipywidgets.HTML(say("ready")))
        width, height = (round(100 * inches) for inches in SIZE)
        self.image = named("image", ipywidgets.Image(format="png", width=width, height=height))
        self.table = named("table", ipywidgets.HTML())
        self.hint = ipywidgets.Label(say("re_run"))

    def _called(self, run: Run) -> str:
        """Return the name by which the panel speaks of a run."""
        return title(run.recipe)

    def _came_to(self, run: Run) -> str:
        """Return what a run came to."""
        key = "outcome_why" if run.why else "outcome"
        return say(key, name=self._called(run), state=say(run.state), why=run.why)

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the race is over, or for so long."""
        if self._thread:
            self._thread.join(seconds)

    def close(self) -> None:
        """End the race, and take the panel away."""
        self._stop.set()
        super().close()

    def _begin(self, button: ipywidgets.Button) -> None:
        """Race what is chosen, in a thread of its own; what has been run is shown at once."""
        if self._busy:
            return self._say("busy")
        chosen = self.lined_up or [self.recipe]
        # Dealing people with their own test reviews takes a while: the run itself says what fails.
        wrong = [problem(recipe, self.task) for recipe in chosen if not recipe.method]
        if any(wrong):
            return self._say("not_run", why=next(filter(None, wrong)))
        self._racers, self.lined_up = chosen, []
        self._trained = {recipe: [] for recipe in self.comparison.begin(chosen)}
        names = "; ".join(self._called(run) for run in self._racing())
        if not self._trained:
            self._draw()
            return self._say("from_cache", names=names)
        self._say("starting", names=names)
        self._busy = self.run.disabled = True
        self.stop.disabled = False
        before, self._stop = Lab._latest, threading.Event()
        self._thread = threading.Thread(target=self._work, args=(before,), daemon=True)
        Lab._latest = self._thread, self._stop
        self._thread.start()

    def _racing(self) -> list[Run]:
        return [run for run in self.comparison.runs if run.recipe in self._racers]

    def _work(self, before: tuple[threading.Thread, threading.Event] | None) -> None:
        """Let the race go on in one thread, once that of another panel has ended, and draw it."""
        try:
            if before:
                before[1].set()
                before[0].join()
            with ThreadPoolExecutor(1) as pool:
                try:
                    self._watch(pool.submit(self._race))
                finally:
                    self._stop.set()  # the race must not go on where nobody watches it
            self._say("ended", outcomes="; ".join(map(self._came_to, self._racing())))
        except Exception as error:
            self._say("error", why=f"{type(error).__name__}: {error}")
        finally:
            self._busy, self.run.disabled, self.stop.disabled = False, False, True
            self.comparison.abandon()
            self._tabulate()

    def _race(self) -> None:
        told = self._stop, self._tick, self._federations
        for recipe, news in race(list(self._trained), self.task, *told):
            self._trained[recipe] = []
            self.comparison.take(recipe, news)
            self._news.set()

    def _tick(self, recipe: Recipe, client: int) -> None:
        self._trained[recipe].append(client)
        self._news.set()

    def _watch(self, working: Future) -> None:
        """Draw whatever is new, until the race is over; raise what it raised."""
        over = False
        while not over:
            self._news.wait(REDRAW)
            over = working.done()
            if self._news.is_set() or over:
                self._news.clear()
                self._draw()
                going = (run for run in self._racing() if run.state == "running")
                self._say("racing", progress="; ".join(map(self._state, going)))
            wait([working], REDRAW)
        working.result()

    def _draw(self) -> None:
        self.image.value = self._picture()._repr_png_()
        self._tabulate()

    def _tabulate(self, change: object = None) -> None:
        frame = self._frame()
        self.table.value = "" if frame.empty else table_html(frame)

    def _say(self, key: str, **values: object) -> None:
        self.status.value = escape(say(key, **values))
