"""Controls over a figure and a sentence: whatever moves is drawn anew."""

from collections.abc import Callable, Mapping
from html import escape

import ipywidgets

from fedlab_helpers.lessons.panels.board import Board
from fedlab_helpers.lessons.panels.panel import Panel
from fedlab_helpers.lessons.panels.parts import Form, named
from fedlab_helpers.lessons.plots.runs import Picture
from fedlab_helpers.lessons.words import say


class Explorer(Panel):
    """Controls, a figure, and a sentence, `readout`, on it.

    A subclass says in `_look` what picture and what sentence its controls lead to, or raises
    ValueError: then the sentence says why, and the picture is shown pale, for it is not of these
    controls.
    """

    _look: Callable[[], tuple[Picture, str]]

    def __init__(self, name: str, controls: Mapping[str, ipywidgets.Widget]):
        self.form = Form({name: controls}, controls)
        self.image = named("image", ipywidgets.Image(format="png"))
        self.image.layout = ipywidgets.Layout(max_width="100%", align_self="flex-start")
        self.image.add_class("fl-picture")
        self.board = named("readout", Board())
        self.form.layout.flex, self.form.layout.min_width = "1 1 19em", "19em"
        shown = ipywidgets.VBox([self.board, self.image])
        shown.layout = ipywidgets.Layout(flex="3 1 30em", min_width="0", overflow="visible")
        hint = ipywidgets.HTML(escape(say("re_run"))).add_class("fl-help")
        super().__init__([ipywidgets.Box([self.form, shown]).add_class("fl-sides"), hint])
        self.form.on_change(self._draw)

    @property
    def readout(self) -> str:
        """The sentence."""
        return self.board.status["text"]

    def _still(self) -> Picture:
        return self._look()[0]

    def _draw(self) -> None:
        self.image.add_class("fl-pale")  # until the picture is of these controls
        try:
            picture, sentence = self._look()
        except ValueError as error:
            self.board.status = {"text": str(error), "state": "error"}
            return
        self.image.remove_class("fl-pale")
        self.image.value = picture._repr_png_()
        self.board.status = {"text": sentence, "state": "idle"}
