"""What the three labs share: settings in, a race of runs, a picture and a table of what came."""

import threading
from collections.abc import Sequence

import ipywidgets
import pandas as pd

from fedlab_helpers.lessons.panels.live import Live
from fedlab_helpers.lessons.panels.parts import named, table_html
from fedlab_helpers.lessons.plots.runs import SIZE
from fedlab_helpers.lessons.runs import Comparison, Run, problem, race
from fedlab_helpers.lessons.words import say
from fedlab_helpers.personal.federation import Course
from fedlab_helpers.recipe import Recipe
from fedlab_helpers.tasks.reviews.task import Task


class Lab(Live):
    """A panel in which runs are made and compared; `comparison` holds them.

    A lab says in `recipe` what its controls say together, in `_picture` and `_frame` what is drawn,
    in `_state` and `_came_to` what is said of a run.
    """

    def _prepare_lab(self, task: Task, comparison: Comparison | None = None) -> None:
        """Make what every lab has. Raises ValueError: the runs were made on another task."""
        self.task, self.comparison = task, comparison or Comparison(task)
        self.comparison.require(task)
        self.lined_up: list[Recipe] = []  # what Run is to run; nothing: the settings as they are
        self._racers: Sequence[Recipe] = ()
        self._trained: dict[Recipe, list[int]] = {}
        self._federations: dict[Recipe, Course] = {}
        self._prepare(*SIZE)
        self.table = named("table", ipywidgets.HTML())
        self.hint = ipywidgets.Label(say("re_run"))

    @property
    def recipe(self) -> Recipe:
        """The settings as the controls have them now."""
        raise NotImplementedError

    def _picture(self):
        """Return the figure of the runs as they stand now."""
        raise NotImplementedError

    def _frame(self) -> pd.DataFrame:
        """Return the table of the runs as they stand now."""
        raise NotImplementedError

    def _state(self, run: Run) -> str:
        """Return where a run stands that goes on."""
        raise NotImplementedError

    def _came_to(self, run: Run) -> str:
        """Return what a run came to."""
        key = "outcome_why" if run.why else "outcome"
        return say(key, name=self._called(run), state=say(run.state), why=run.why)

    def _called(self, run: Run) -> str:
        """Return the name by which the panel speaks of a run."""
        return run.name

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
        self._start(self._race)

    def _racing(self) -> list[Run]:
        return [run for run in self.comparison.runs if run.recipe in self._racers]

    def _race(self, stop: threading.Event) -> None:
        racing = list(self._trained), self.task, stop, self._tick, self._federations
        for recipe, news in race(*racing):
            self._trained[recipe] = []
            self.comparison.take(recipe, news)
            self._news.set()

    def _tick(self, recipe: Recipe, client: int) -> None:
        self._trained[recipe].append(client)
        self._news.set()

    def _progress(self) -> str:
        return "; ".join(self._state(run) for run in self._racing() if run.state == "running")

    def _outcome(self) -> str:
        return "; ".join(map(self._came_to, self._racing()))

    def _over(self) -> None:
        self.comparison.abandon()
        self._tabulate()

    def _draw(self) -> None:
        self.image.value = self._picture()._repr_png_()
        self._tabulate()

    def _tabulate(self, change: object = None) -> None:
        frame = self._frame()
        self.table.value = "" if frame.empty else table_html(frame)
