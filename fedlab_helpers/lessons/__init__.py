"""What notebooks show: checks, panels, plots, words; each is loaded when it is first used."""

import lazy_loader

from fedlab_helpers.lessons.interrupted import tell_shortly

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submodules={"checks", "numpy_rnn", "panels", "plots", "runs", "words"}
)

tell_shortly()
