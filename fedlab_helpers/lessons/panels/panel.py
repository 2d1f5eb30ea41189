"""A panel, alive while its kernel runs; a picture stands in for it elsewhere."""

from typing import Any

import ipywidgets

from fedlab_helpers.lessons.plots.runs import Picture
from fedlab_helpers.lessons.words import say


class Panel(ipywidgets.VBox):
    """Two outputs of one cell: a picture with a line on what to do, and the panel. The panel's
    script hides the picture. It stays where there is no kernel: in a saved notebook, on a page of
    the web, or in JupyterLab the next day, which finds no panel and would show an error alone."""

    def _still(self) -> Picture:
        raise NotImplementedError

    def _ipython_display_(self, **options: Any) -> None:
        from IPython.display import display

        picture = self._still()
        picture.text(0.5, -0.02, say("still"), ha="center", va="top", fontsize=9)
        page = picture.page(bbox_inches="tight")  # with the line below it
        told = {"image/png": page, "text/plain": say("still")}
        display(told, raw=True)
        living = ipywidgets.VBox._repr_mimebundle_(self, **options)
        display(living | {"text/plain": say("living")}, raw=True)
