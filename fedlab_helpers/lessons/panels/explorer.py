"""Controls over a picture and a sentence: whatever moves is drawn anew, while it moves."""

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

import ipywidgets

from fedlab_helpers.lessons.panels.board import Board
from fedlab_helpers.lessons.panels.maps import Maps
from fedlab_helpers.lessons.panels.panel import Panel
from fedlab_helpers.lessons.panels.parts import Form, button, named, row
from fedlab_helpers.lessons.words import say


@dataclass(frozen=True)
class View:
    """What controls lead to."""

    shown: dict[str, Any]  # as `Maps` has it
    told: dict[str, Any]  # numbers that the sentences are made of
    mark: tuple[int, int] | tuple[()] = ()  # column and row


class Explorer(Panel):
    """Controls, a picture, and a sentence on it, `readout`.

    A subclass is a page: class attributes `name`, `tries` (an experiment at the press of a button:
    its name -> values of the controls; `words` has as "…_look" what to look for, which stays until
    another experiment is tried, and as "…_answer" what came of it, told once a control has moved),
    and `_look`, which says what the controls lead to, or raises ValueError: then the sentence says
    why, and the picture is shown pale, for it is not of these controls. `words` has the sentence as
    "…_readout".

    A control that is dragged sends its values one at a time, and the browser drops those that a
    newer one has overtaken while the kernel was drawing: no value is waited for in vain.
    """

    canvas: type[ipywidgets.DOMWidget] = Maps  # or another with its traits
    name: str
    tries: Mapping[str, Mapping[str, object]]
    _look: Callable[[], View]

    def __init__(self, controls: Mapping[str, ipywidgets.Widget]):
        self._tried, self._answer, self._moved, self._held = "", "", False, False
        self.form = Form({self.name: controls}, controls)
        self.map, self.board = named("map", self.canvas()), named("readout", Board())
        for control in controls.values():
            control.style.description_width = "7.5em"  # room for a slider to be dragged
        self.form.layout.flex, self.form.layout.min_width = "1 1 22em", "19em"
        shown = ipywidgets.VBox([self.board, self.map])
        shown.layout = ipywidgets.Layout(flex="3 1 30em", min_width="0", overflow="visible")
        heading = ipywidgets.HTML(say("tries")).add_class("fl-heading")
        attempts = [button(name, lambda _, name=name: self._try(name)) for name in self.tries]
        hint = ipywidgets.HTML(escape(say("re_run"))).add_class("fl-help")
        sides = ipywidgets.Box([self.form, shown]).add_class("fl-sides")
        super().__init__([row("tries", [heading, *attempts]), sides, hint])
        self.add_class("fl-explorer")
        self.form.on_change(self._follow)

    @property
    def readout(self) -> str:
        """The sentence, and a line each for what to look for and what came."""
        return self.board.text

    @contextmanager
    def _at_once(self):
        """Draw once, after several controls have moved."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            self._draw()

    def _try(self, name: str) -> None:
        """Set the controls to an experiment, and say what to look for."""
        with self._at_once():
            self._tried, self._answer, self._moved = name, "", False
            for control, value in self.tries[name].items():
                self.form.controls[control].value = value

    def _follow(self) -> None:
        if not self._held:
            self._moved = True
            self._draw()

    def _draw(self) -> None:
        try:
            view = self._look()
        except ValueError as error:
            self.map.pale = True
            self.board.tell(str(error), "error")
            return
        with self.map.hold_sync():
            self.map.shown, self.map.mark, self.map.pale = view.shown, list(view.mark), False
        below = {}
        if self._tried:
            self._answer = self._answer or say(f"{self._tried}_answer", **view.told)
            below["look_for"] = say(f"{self._tried}_look")
        if self._tried and self._moved:
            below["answer"] = self._answer
        self.board.tell(say(f"{self.name}_readout", **view.told), below=below)
