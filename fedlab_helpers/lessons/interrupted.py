"""■ in a notebook: one line in the place of a traceback, and an end to what runs in a panel."""

import asyncio
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from fedlab_helpers.lessons.words import say


def tell_shortly() -> None:
    """Let the IPython that this runs in, if any, answer an interrupt with one line. The cell has
    failed all the same, so that Run All goes no further. Who has a handler keeps it."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None and not shell.custom_exceptions:
        shell.set_custom_exc((KeyboardInterrupt,), _tell)


def _tell(shell: Any, *_: Any, **__: Any) -> None:
    print(say("interrupted"))
    shell._last_traceback = [say("interrupted")]  # what the kernel answers, beside "failed"


def on_interrupt(act: Callable[[], object]) -> None:
    """Let ■ call `act` while no cell runs: a panel trains in a thread, to which no interrupt comes.

    A kernel sets its handler of the signal before each message that it deals with and puts the one
    before back afterwards; so ours is put in place once it has dealt with the present one. Outside
    of a kernel nothing is done.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    if threading.current_thread() is threading.main_thread():
        loop.call_later(0.05, signal.signal, signal.SIGINT, lambda *_: act())
