"""What all labs share: settings in, a race of runs, a chart and a table of what came.

One thread runs, another draws, and the kernel stays free for the Stop button.
"""

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets
import pandas as pd

from fedlab_helpers.lessons.interrupted import on_interrupt
from fedlab_helpers.lessons.panels.board import Board
from fedlab_helpers.lessons.panels.panel import Panel
from fedlab_helpers.lessons.panels.parts import Form, button, named, row
from fedlab_helpers.lessons.panels.seen import Seen
from fedlab_helpers.lessons.plots.runs import look
from fedlab_helpers.lessons.runs import (
    Comparison,
    Run,
    Together,
    differences,
    problem,
    race,
    refusal,
    title,
)
from fedlab_helpers.lessons.words import ENGLISH, say
from fedlab_helpers.personal.federation import Federation
from fedlab_helpers.recipe import Recipe
from fedlab_helpers.tasks.reviews.task import Task

REDRAW = 0.3  # seconds between two drawings, at least
SEEDS = 3
_TEXTS = ("differs", "partition", "state")  # columns of the table that are no numbers
_FORMS = {  # of columns; other numbers have three digits
    **dict.fromkeys(("final_accuracy", "best_accuracy", "mean_shared", "mean_own"), "{:.1%}"),
    **dict.fromkeys(("rounds", "rounds_to_target", "megabytes_to_target", "factor"), "{:.0f}"),
    "worst_own": "{:.1%}",
    "seconds": "{:.1f}",
    "kilobytes_up": "{:,.1f}",
    "gain": "{:+.1f}",
}


@dataclass(frozen=True)
class Try:
    """An experiment at the press of a button."""

    name: str  # `words` has what to press, and as "…_look" what to look for
    recipes: tuple[Recipe, ...]  # that race; the controls end at the last
    seen: Callable[[], Seen] | None = None  # what was measured, from a study's table


class Lab(Panel):
    """A panel in which runs are made and compared; `comparison` holds them.

    One race goes on at a time: begun in one panel, it ends that of another; a new panel ends what
    goes on. Clients train on the task's training part; its validation part is what they are judged
    by. A subclass is a page: class attributes `name`, `groups`, `folded`, `xs` and `tries`,
    `_controls` (made once), `recipe` (what they say together) and `_set` (the reverse), `_panes`
    and `_cells` (chart and row of what has run), `_state` where a run stands, `_came_to` what it
    came to.

    Args:
        task: what is trained on.
        comparison: runs made before on this task, which are shown; it stays as it is.

    Raises:
        ValueError: the runs were made on another task.
    """

    name: str
    groups: Sequence[tuple[str, Iterable[str]]]
    folded: Sequence[str] = ("surroundings",)
    xs: Sequence[str] = ("round", "total_megabytes", "seconds")
    tries: Sequence[Try] = ()

    recipe: Recipe
    _controls: Callable[[], dict[str, ipywidgets.Widget]]
    _set: Callable[[Recipe], None]
    _panes: Callable[[], list[dict[str, Any]]]
    _cells: Callable[[Together], dict[str, Any]]
    _state: Callable[[Run], str]

    _stop = threading.Event()  # of a panel that could not be made, which python closes, too
    _latest: "tuple[threading.Thread, threading.Event] | None" = None  # of all panels

    def __init__(self, task: Task, comparison: Comparison | None = None):
        self.task = task
        (comparison or Comparison(task)).require(task)
        self.comparison = comparison.copy() if comparison else Comparison(task)
        Lab._end_latest()
        on_interrupt(Lab._end_latest)
        self.lined_up: list[Recipe] = []  # what Run is to run; nothing: the settings as they are
        self._racers: Sequence[Recipe] = ()
        self._trained: dict[Recipe, list[int]] = {}
        self._federations: dict[Recipe, Federation] = {}
        self._tried: Try | None = None
        self._news, self._stop = threading.Event(), threading.Event()
        self._busy = False  # the thread goes on for a moment after its work is over
        self._thread: threading.Thread | None = None
        self.board = named("board", Board(xs=[_axis(x) for x in self.xs], x=self.xs[0]))
        self.board.observe(lambda _: self._draw(), "hidden")
        self.board.on_msg(lambda _, message, __: self._obey(message))
        self.form = Form(dict(self.groups), self._controls(), self.folded)
        self._make_buttons()
        self._lay_out()
        self._say("ready")
        self._draw()
        self.form.on_change(self._follow)

    @staticmethod
    def _end_latest() -> None:
        if Lab._latest:
            Lab._latest[1].set()

    def _make_buttons(self) -> None:
        primary = {"button_style": "primary", "icon": "play"}
        self.run = button("run", lambda _: self._begin(), tooltip=say("run_help"), **primary)
        many = {"description": say("run_seeds", count=SEEDS), "tooltip": say("seeds_help")}
        self.seeds = button("run_seeds", lambda _: self._begin(SEEDS), **many)
        self.stop = button("stop", lambda _: self._stop.set(), disabled=True, icon="stop")
        self.line_up = button("line_up", self._toggle, tooltip=say("line_up_help"), icon="plus")
        self.chips = row("chips", [])
        self.note = named("note", ipywidgets.HTML())
        self.file = named("file", ipywidgets.Text(f"{self.name}.csv", description=say("file")))
        self.save = button("save", self._save, icon="download")
        self.kept = named("kept", ipywidgets.HTML())

    def _lay_out(self) -> None:
        attempts = [button(t.name, lambda _, t=t: self._try(t)) for t in self.tries]
        heading = ipywidgets.HTML(say("tries")).add_class("fl-heading")
        self.form.layout.flex, self.form.layout.min_width = "1 1 21em", "19em"
        keep = row("keep", [self.file, self.save, self.kept, *self._beside()])
        shown = ipywidgets.VBox([*self._above(), self.board, keep]).add_class("fl-shown")
        shown.layout = ipywidgets.Layout(flex="6 1 28em", min_width="0")
        sides = ipywidgets.Box([self.form, shown]).add_class("fl-sides")
        hint = ipywidgets.HTML(escape(say("re_run"))).add_class("fl-help")
        parts = [
            row("tries", [heading, *attempts]) if attempts else None,
            row("buttons", [self.run, self.seeds, self.line_up, self.stop]),
            self.chips,
            self.note,
            sides,
            hint,
        ]
        super().__init__([part for part in parts if part])
        self.add_class("fl-lab")

    def _above(self) -> list[ipywidgets.Widget]:
        """Return what stands above the chart."""
        return []

    def _beside(self) -> list[ipywidgets.Widget]:
        """Return what more stands below the table."""
        return []

    # What the settings are, and what is wrong with them

    def _follow(self) -> None:
        """Let buttons and notes follow the controls."""
        self._adapt()
        refused = refusal(self.recipe, self.task) if not self.recipe.method else None
        wrong = refused and refused.why
        self.note.value = escape(wrong or self._advice() or "")
        self.form.warn(refused.settings if refused else (), wrong or "")
        self.line_up.disabled = bool(wrong)
        taken = self.recipe in self.lined_up
        self.line_up.description = say("take_out" if taken else "line_up")
        self.line_up.icon = "minus" if taken else "plus"
        count = len(self.lined_up)
        what = {"count": count, "name": title(self.recipe)}
        self.run.description = say("run_many" if count > 1 else "run_one", **what)
        if count == 1:
            self.run.description = say("run_one", name=title(self.lined_up[0]))
        self.run.disabled = self.seeds.disabled = bool(wrong and not count)

    def _adapt(self) -> None:
        """Switch off what does not apply, and say why."""

    def _advice(self) -> str | None:
        """Return what is good to know of settings that run."""

    def _toggle(self, _: object = None) -> None:
        """Let the present settings race next time; or not, if they were to."""
        recipe = self.recipe
        if recipe in self.lined_up:
            self.lined_up.remove(recipe)
        elif not self.line_up.disabled:
            self.lined_up.append(recipe)
        self._show_lined_up()

    def _show_lined_up(self) -> None:
        chips = []
        for recipe, differs in zip(self.lined_up, differences(self.lined_up), strict=True):
            said = title(recipe) + (f" ({differs})" if differs else "")
            take_out = {"description": f"{said} ×", "tooltip": say("chip_help")}
            chips.append(button("chip", lambda _, r=recipe: self._take_out(r), **take_out))
        lined = ipywidgets.HTML(say("lined_up")).add_class("fl-heading")
        self.chips.children = [lined, *chips] if chips else []
        self._follow()

    def _take_out(self, recipe: Recipe) -> None:
        self.lined_up.remove(recipe)
        self._show_lined_up()

    def _try(self, attempt: Try) -> None:
        """Set the controls to an experiment, say what to look for, and run it."""
        if self._busy:
            return self._refuse("busy")
        self._set(attempt.recipes[-1])
        self.lined_up = list(attempt.recipes)
        self._show_lined_up()
        self._begin(attempt=attempt)

    # Runs

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the race is over, or for so long."""
        if self._thread:
            self._thread.join(seconds)

    def close(self) -> None:
        """End the race, and take the panel away."""
        self._stop.set()
        super().close()

    def _chosen(self) -> list[Recipe]:
        """Return what Run is to run."""
        return self.lined_up or [self.recipe]

    def _begin(self, seeds: int = 1, attempt: Try | None = None) -> None:
        """Race what is chosen, in a thread of its own; what has been run is shown at once."""
        if self._busy:
            return self._refuse("busy")
        chosen, self._tried = self._chosen(), attempt
        self._say("starting", names="\n".join(dict.fromkeys(map(title, chosen))))
        # Dealing people with their own test reviews takes a while: the run itself says what fails.
        wrong = [problem(recipe, self.task) for recipe in chosen if not recipe.method]
        if any(wrong):
            return self._say("not_run", why=next(filter(None, wrong)))
        chosen = [replace(each, seed=each.seed + more) for each in chosen for more in range(seeds)]
        self._racers, self.lined_up = chosen, []
        self._trained = {recipe: [] for recipe in self.comparison.begin(chosen)}
        shown = {self._key(run) for run in self._racing()}
        self.board.hidden = [key for key in self.board.hidden if key not in shown]
        if not self._trained:
            self._draw()
            names = "\n".join(dict.fromkeys(self._called(run) for run in self._racing()))
            self._say("from_cache", names=names)
            return self._show_lined_up()
        self._busy, self.stop.disabled = True, False
        before, self._stop = Lab._latest, threading.Event()
        self._thread = threading.Thread(target=self._work, args=(before,), daemon=True)
        Lab._latest = self._thread, self._stop
        self._show_lined_up()
        self._thread.start()

    def _racing(self) -> list[Run]:
        return [run for run in self.comparison.runs if run.recipe in self._racers]

    def _work(self, before: tuple[threading.Thread, threading.Event] | None) -> None:
        """Let the race go on in one thread, once that of another panel has ended, and draw it."""
        try:
            if before:
                before[1].set()
                before[0].join()
            self._began = time.monotonic()
            with ThreadPoolExecutor(1) as pool:
                try:
                    self._watch(pool.submit(self._race))
                finally:
                    self._stop.set()  # the race must not go on where nobody watches it
            whole = all(run.state == "finished" for run in self._racing())
            self._say("ended" if whole else "not_ended", outcomes="\n".join(self._outcomes()))
        except Exception as error:
            self._say("error", why=f"{type(error).__name__}: {error}")
        finally:
            self._busy, self.stop.disabled = False, True
            self.comparison.abandon()
            self._follow()
            with contextlib.suppress(Exception):  # what cannot be drawn has been said above
                self._show()

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
        over, shown = False, None
        while not over:
            self._news.wait(REDRAW)
            over = working.done()
            if self._news.is_set() or over:
                self._news.clear()
                racing = self._racing()
                if shown != (shown := [(run.state, len(run.results)) for run in racing]):
                    self._draw()
                going = [run for run in racing if run.state == "running"]
                if going:
                    self._say("racing", progress="\n".join(map(self._state, going)))
            wait([working], REDRAW)
        working.result()

    def _share(self, run: Run) -> float:
        """Return which share of a run is done."""
        if run.state != "running":
            return 1.0
        rounds = max(0, len(run.results) - 1) + self._ticks(run) / run.recipe.cohort
        return min(1.0, rounds / run.recipe.rounds)

    def _ticks(self, run: Run) -> int:
        """Return how many clients have trained since the last result."""
        return len(self._trained.get(run.recipe, ()))

    # What is shown

    def _say(self, key: str, **values: object) -> None:
        state = {"racing": "running", "starting": "starting", "error": "error", "not_run": "error"}
        told: dict[str, Any] = {}
        if key == "racing":
            shares = [self._share(run) for run in self._racing() if run.recipe in self._trained]
            told["done"] = done = sum(shares) / len(shares)
            spent = time.monotonic() - self._began
            if done > 0.02:
                told["left"] = say("seconds_left", seconds=spent / done * (1 - done))
        below = {}
        if self._tried and key != "not_ended":
            below["look_for"] = say(f"{self._tried.name}_look")
        if self._tried and key in ("ended", "from_cache"):
            below |= self._answers(self._tried)
        self.board.tell(say(key, **values), state.get(key, "idle"), below, **told)

    def _refuse(self, key: str) -> None:
        """Say beside the buttons why a press does nothing; what goes on is still told."""
        self.note.value = escape(say(key))

    def _answers(self, tried: Try) -> dict[str, str]:
        """Return what came of an experiment, by headings, which `words` has: here what was measured
        over seeds, and whether this race has fewer rounds."""
        seen, rounds = tried.seen(), max(recipe.rounds for recipe in tried.recipes)
        fewer = say("fewer_rounds", count=rounds) if rounds < seen.rounds else ""
        return {"measured": f"{seen.text} {fewer}".strip()}

    def _called(self, run: Run) -> str:
        """Return the name by which the panel speaks of a run; its seed, where several race."""
        alike = [other for other in self._racing() if other.number == run.number]
        return run.name if len(alike) < 2 else say("one_seed", name=run.name, seed=run.recipe.seed)

    def _came_to(self, run: Run) -> str:
        """Return what a run came to."""
        key = "outcome_why" if run.why else "outcome"
        return say(key, name=self._called(run), state=say(run.state), why=run.why)

    def _outcomes(self) -> list[str]:
        """Return what came of each, those of several seeds as one."""
        racing = [run.number for run in self._racing()]
        return [
            say("outcome", name=each.name, state=say(each.state))
            if len(each.runs) > 1
            else self._came_to(each.runs[0])
            for each in self.comparison.together
            if each.number in racing
        ]

    def _key(self, run: Run | Together) -> str:
        return str(run.number)

    def _draw(self) -> None:
        with self.board.hold_sync():
            self.board.panes = self._panes()
            self._show()

    def _show(self) -> None:
        shown = self.comparison.together
        told = differences((replace(each.recipe, seed=0) for each in shown), titled=False)
        rows = [
            (each, {"differs": differs} | self._cells(each) if any(told) else self._cells(each))
            for each, differs in zip(shown, told, strict=True)
        ]
        latest = {self._key(run) for run in self._racing()}
        columns = list(dict.fromkeys(key for _, cells in rows for key in cells))
        with self.board.hold_sync():
            text = {key: key in _TEXTS for key in columns}
            self.board.columns = [
                {"key": key, "label": _head(key), "text": text[key]} for key in columns
            ]
            self.board.runs = [self._row(each, cells, latest) for each, cells in rows]

    def _row(self, each: Together, cells: dict[str, Any], latest: set[str]) -> dict[str, Any]:
        mean, low, high = ({k: list(v) for k, v in f.items()} for f in self._curves(each))
        style, many = look(each.number - 1), len(each.runs) > 1
        band = {"low": _plain(low), "high": _plain(high)} if many else {}
        return {
            "key": self._key(each),
            "name": each.name,
            "colour": "currentColor" if style["color"] == "#000000" else style["color"],
            "line": style["linestyle"],
            "newest": self._key(each) in latest,
            "running": each.state == "running",
            "points": _plain(mean),
            "cells": {key: _cell(key, value) for key, value in cells.items()},
            **band,
        }

    def _curves(self, each: Together) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Return mean, least and largest values over seeds, a column for each axis."""
        return each.curves()

    # What a reader does with runs

    def _obey(self, message: dict[str, str]) -> None:
        number = int(message["key"])
        if message["do"] == "rename":
            label = re.sub(rf"^{number}\s+", "", message["name"].strip())
            self.comparison.rename(number, label)
        elif any(run.number == number and run.state == "running" for run in self.comparison.runs):
            return self._refuse("busy")
        else:
            self.comparison.drop(number)
        self._draw()

    def _save(self, _: object = None) -> None:
        """Write the file; one that was there before stays, and another name is taken."""
        self.kept.value = escape(self._saved())

    def _saved(self) -> str:
        asked = Path(self.file.value.strip())
        if not self.comparison.runs:
            return say("nothing_to_save")
        if not asked.name:
            return say("no_file")
        if not asked.parent.is_dir():
            return say("no_folder", folder=asked.parent)
        try:
            written = self.comparison.to_csv(asked)
        except (OSError, ValueError) as error:  # ValueError: a name that no file can have
            return say("error", why=error)
        runs, rows = len(self.comparison.runs), len(self.comparison.together)
        count = say("runs_one" if runs == 1 else "runs_many", count=runs)
        count += say("runs_rows") if rows < runs else ""
        told = {"count": count, "file": asked.with_name(written.name)}
        return say("saved" if written.name == asked.name else "saved_beside", asked=asked, **told)


def _head(key: str) -> str:
    return say(f"column_{key}") if f"column_{key}" in ENGLISH else say(key)


def _axis(name: str) -> dict[str, Any]:
    return {
        "key": name,
        "label": say(f"axis_{name}"),
        "heading": say(f"heading_{name}", at="{at}"),
        "log": name == "factor",
        "whole": name in ("round", "client"),
    }


def _plain(columns: dict[str, list]) -> dict[str, list]:
    """Return numbers that JSON has: none for what is none."""
    return {
        str(name): [None if pd.isna(value) else round(float(value), 6) for value in values]
        for name, values in columns.items()
    }


def _cell(key: str, value: Any) -> list[Any]:
    """Return what a cell is sorted by, and its text; a list: of several seeds."""
    if isinstance(value, str):
        return [value, value]
    values = [each for each in (value if isinstance(value, list) else [value]) if each is not None]
    if not values:
        return [None, "–"]
    form = _FORMS.get(key, "{:.3g}")
    mean = float(pd.Series(values, dtype=float).mean())
    low, high = form.format(min(values)), form.format(max(values))
    return [mean, form.format(mean) + ("" if low == high else f" ({low}–{high})")]
