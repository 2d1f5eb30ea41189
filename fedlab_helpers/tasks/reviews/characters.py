"""What of a text can be seen: characters that show nothing, and texts that look alike."""

import re
import unicodedata

# Unicode's Default_Ignorable_Code_Point (of width zero, soft hyphens, marks of direction, joiners,
# variation selectors, fillers), the blank of Braille, controls that are no white space, and halves
# of a surrogate pair.
_UNSEEN = re.compile(
    "[\0-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def visible(text: str) -> str:
    """Return a text without characters that show nothing, in NFC, and no blanks around it.

    It is for comparing, cutting and naming: emoji that joiners hold together come apart.
    """
    return unicodedata.normalize("NFC", _UNSEEN.sub("", text)).strip()


def appearance(text: str) -> str:
    """Return what two texts share where one is a copy of the other: all that can be seen of them,
    any kind of blank or line end counting as a space. Width, case and signs make a difference."""
    return re.sub(r"\r\n|\s", " ", visible(text))


def plain(label: str) -> str:
    """Return a label without regard to case, width, kind of minus, and blanks, hyphens and
    underscores inside, except between digits: 1-4 is not 14."""
    folded = unicodedata.normalize("NFKC", visible(label)).casefold().replace("\u2212", "-")
    return re.sub(r"(?<=\w)[\s_-]+(?=[^\W\d_])|(?<=[^\W\d_])[\s_-]+(?=\w)", "", folded)
