"""What a notebook says where ■ stopped a cell: one line in the place of a traceback."""

import sys
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
