"""What a panel does whose work goes on while it is watched: one thread works, another draws."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from html import escape

import ipywidgets

from fedlab_helpers.lessons.panels.parts import button, named
from fedlab_helpers.lessons.words import say

REDRAW = 0.3  # seconds between two drawings, at least
Work = Callable[[threading.Event], None]


class Live(ipywidgets.VBox):
    """A panel with Run, Stop, a picture and a line of text.

    One piece of work goes on at a time: begun in one panel, it ends that of another. What it is,
    and how it looks, a panel says in `_begin`, `_draw`, `_progress`, `_outcome` and `_over`.
    """

    _stop = threading.Event()  # of a panel that could not be made, which python closes, too
    _latest: "tuple[threading.Thread, threading.Event] | None" = None  # of all panels

    def _prepare(self, width: float, height: float) -> None:
        """Make what every such panel has; the picture is of this size in inches."""
        self._news = threading.Event()
        self._busy = False  # the thread goes on for a moment after its work is over
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self.run = button("run", self._begin, tooltip=say("run_help"), button_style="primary")
        self.stop = button("stop", self._halt, disabled=True)
        self.status = named("status", ipywidgets.HTML(say("ready")))
        size = {"width": round(100 * width), "height": round(100 * height)}
        self.image = named("image", ipywidgets.Image(format="png", **size))

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the work is over, or for so long."""
        if self._thread:
            self._thread.join(seconds)

    def close(self) -> None:
        """End the work, and take the panel away."""
        self._stop.set()
        super().close()

    def _begin(self, button: ipywidgets.Button) -> None:
        raise NotImplementedError

    def _draw(self) -> None:
        raise NotImplementedError

    def _progress(self) -> str:
        raise NotImplementedError

    def _outcome(self) -> str:
        raise NotImplementedError

    def _over(self) -> None:
        raise NotImplementedError

    def _start(self, work: Work) -> None:
        """Let work begin in a thread of its own, once that of another panel has ended."""
        self._busy = self.run.disabled = True
        self.stop.disabled = False
        before, self._stop = Live._latest, threading.Event()
        self._thread = threading.Thread(target=self._work, args=(work, before), daemon=True)
        Live._latest = self._thread, self._stop
        self._thread.start()

    def _halt(self, button: ipywidgets.Button) -> None:
        self._stop.set()

    def _work(self, work: Work, before: tuple[threading.Thread, threading.Event] | None) -> None:
        """Let the work go on in one thread, and draw it from this one."""
        try:
            if before:
                before[1].set()
                before[0].join()
            with ThreadPoolExecutor(1) as pool:
                try:
                    self._watch(pool.submit(work, self._stop))
                finally:
                    self._stop.set()  # the work must not go on where nobody watches it
            self._say("ended", outcomes=self._outcome())
        except Exception as error:
            self._say("error", why=f"{type(error).__name__}: {error}")
        finally:
            self._busy, self.run.disabled, self.stop.disabled = False, False, True
            self._over()

    def _watch(self, working: Future) -> None:
        """Draw whatever is new, until the work is over; raise what it raised."""
        over = False
        while not over:
            self._news.wait(REDRAW)
            over = working.done()
            if self._news.is_set() or over:
                self._news.clear()
                self._draw()
                self._say("racing", progress=self._progress())
            wait([working], REDRAW)
        working.result()

    def _say(self, key: str, **values: object) -> None:
        self.status.value = escape(say(key, **values))
