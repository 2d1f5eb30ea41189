"""Every word that a plot or a panel shows, in one place, so that another edition can follow."""

from fedlab_helpers.lessons.words.compression import COMPRESSION
from fedlab_helpers.lessons.words.figures import FIGURES
from fedlab_helpers.lessons.words.personalization import PERSONALIZATION
from fedlab_helpers.lessons.words.strategy_lab import STRATEGY_LAB

ENGLISH = FIGURES | STRATEGY_LAB | PERSONALIZATION | COMPRESSION


def say(key: str, **values: object) -> str:
    """Return what a figure shows for `key`; a key that is not in the table is shown as it is."""
    return ENGLISH[key].format(**values) if key in ENGLISH else key
