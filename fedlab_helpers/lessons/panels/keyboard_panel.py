"""A keyboard that is pressed, and the words that several models propose, side by side."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from html import escape

import ipywidgets
import numpy as np

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.core.require import require
from fedlab_helpers.lessons import plots
from fedlab_helpers.lessons.glosses import gloss
from fedlab_helpers.lessons.panels.board import Board
from fedlab_helpers.lessons.panels.panel import Panel
from fedlab_helpers.lessons.panels.parts import button, choice, named, row
from fedlab_helpers.lessons.plots.keyboard import percent
from fedlab_helpers.lessons.words import called, say
from fedlab_helpers.shrinking import Suggestions
from fedlab_helpers.tasks.reviews.words import is_word

Proposals = list[tuple[str, float]]  # words and how likely each is, the likeliest first
BEGINNINGS = (
    "酒店", "房间", "早餐", "服务", "这", "本书", "内容", "孩子", "电脑", "屏幕", "价格", "我",
    "不", "很", "的", "，",
)  # fmt: skip
TEXTS = {
    "try_guest": "酒店 位置 不错 ， 房间 很 干净 ， 服务态度 也 很 好 ， 下次 还会 住".split(),
    "try_reader": "这 本书 很 好看 ， 孩子 非常 喜欢 ， 内容 也 不错 ， 值得 买".split(),
}
FIRST, _WRITTEN = "try_first", 15  # the experiment that always takes the first word; its words
_KEYS, _NO_GLOSS = 3, "\N{NO-BREAK SPACE}"  # of a keyboard; as high as a gloss


class KeyboardPanel(Panel):
    """Type a review by pressing words; each keyboard proposes the three that are to follow.

    Words that only one keyboard proposes are framed. Each word that is typed counts for the
    keyboards that had it among their three. Nothing can be proposed before there is a word:
    `beginnings` are keys that are always there, and the first of them is typed when it opens.

    Args:
        keyboards: what each is called -> a `Suggestions`, or a function like its `next`.
        beginnings: words that can be typed whatever is proposed.
        seed: of the words that are drawn by chance.

    Raises:
        ValueError: there is no keyboard, or no beginning, or one of them is not a word.
    """

    tries = (*TEXTS, FIRST)

    def __init__(
        self,
        keyboards: Mapping[str, Suggestions | Callable[[Sequence[str], int], Proposals]],
        beginnings: Sequence[str] = BEGINNINGS,
        seed: int = 0,
    ):
        require(len(keyboards) > 0, "keyboards", keyboards, "at least one")
        fine = not isinstance(beginnings, str) and len(beginnings) > 0 and all(beginnings)
        require(fine, "beginnings", beginnings, "a list of at least one word")
        self._ask = {name: getattr(each, "next", each) for name, each in keyboards.items()}
        self._begin, self._rng = list(beginnings), numpy_rng(seed, "keyboard")
        self._asked: dict[tuple[str, ...], dict[str, Proposals]] = {(): {n: [] for n in self._ask}}
        self._about: dict[str, str] = {}  # of an experiment: what to look for, and what came
        self.typed: tuple[str, ...] = ()
        self.text, self.board = named("typed", ipywidgets.HTML()), named("readout", Board())
        self.proposed = {name: [self._key(name, i) for i in range(_KEYS)] for name in self._ask}
        self.counts = {name: ipywidgets.HTML().add_class("fl-keyboard-name") for name in self._ask}
        self.beginnings = [self._beginning(word) for word in self._begin]
        tries = [button(name, lambda _, name=name: self._try(name)) for name in self.tries]
        above = [row("tries", [_line("tries"), *tries]), self.text, self._editing(), self.board]
        rows = [row("keyboard", [self.counts[name], *keys]) for name, keys in self.proposed.items()]
        below = row("beginnings", [_line("beginnings"), *self.beginnings])
        legend = _line("alone_help" if len(rows) > 1 else "chance_help", "help")
        super().__init__([*above, *rows, legend, below, _line("re_run", "help")])
        self.add_class("fl-lab").add_class("fl-typewriter")
        self._put(lambda: self._begin[:1], tried="")

    def _editing(self) -> ipywidgets.Box:
        self.hand = choice("hand", self._ask, next(iter(self._ask)))
        self.hand.style.description_width, self.hand.layout.width = "auto", "auto"
        self.by_chance = button("by_chance", lambda _: self._put(self._and_one_drawn))
        self.take_back = button("take_back", lambda _: self._put(lambda: self.typed[:-1]))
        self.clear = button("clear", lambda _: self._put(tuple))
        return row("editing", [self.take_back, self.clear, self.by_chance, self.hand])

    def _key(self, name: str, place: int) -> ipywidgets.Button:
        def write() -> list[str]:  # the same words, where a second press comes too late
            return [*self.typed, *(word for word, _ in self._after()[name][place : place + 1])]

        return button("proposed", lambda _: self._put(write), description="")

    def _beginning(self, word: str) -> ipywidgets.Button:
        def press(_: ipywidgets.Button) -> None:
            self._put(lambda: [*self.typed, word])

        return button("typing", press, description=_said(word))

    @property
    def readout(self) -> str:
        """How many words there are, and a line each for what to look for and what came."""
        return self.board.text

    def _after(self, words: Sequence[str] | None = None) -> dict[str, Proposals]:
        """Return what each keyboard proposes after these words, or after those that are typed."""
        words = self.typed if words is None else tuple(words)
        if words not in self._asked:
            asked = self._ask.items()
            self._asked[words] = {name: ask(list(words), _KEYS)[:_KEYS] for name, ask in asked}
        return self._asked[words]

    def _foreseen(self, words: Sequence[str]) -> tuple[int, Counter[str]]:
        """Return how many words follow another, and how many of them each keyboard proposed."""
        asked, found = 0, Counter(dict.fromkeys(self._ask, 0))
        for place, word in enumerate(words):
            if place and is_word(word):
                asked += 1
                before = self._after(words[:place]).items()
                found.update(name for name, proposed in before if word in dict(proposed))
        return asked, found

    def _and_one_drawn(self) -> list[str]:
        """Return the words and one of the chosen keyboard's, or of the beginnings, by chance."""
        proposed = self._after()[self.hand.value] or [(word, 1.0) for word in self._begin]
        shares = np.array([share for _, share in proposed]) + 1e-9
        return [*self.typed, proposed[self._rng.choice(len(proposed), p=shares / shares.sum())][0]]

    def _always_first(self) -> list[str]:
        words = self._begin[:1]
        while len(words) < _WRITTEN and (proposed := self._after(words)[self.hand.value]):
            words.append(proposed[0][0])
        return words

    def _try(self, name: str) -> None:
        """Type what an experiment types, and say what to look for."""
        self._put(self._always_first if name == FIRST else lambda: TEXTS[name], tried=name)

    def _put(self, write: Callable[[], Sequence[str]], tried: str | None = None) -> None:
        """Have the words typed that `write` returns, and show what may follow.

        A keyboard that fails is told of, and nothing is typed.

        Args:
            tried: the experiment that this is; None: it is a reader's own move.
        """
        try:
            words = tuple(write())
            proposed, (asked, found) = self._after(words), self._foreseen(words)
        except Exception as error:  # of a keyboard that a reader has written
            self.board.tell(say("error", why=error), "error")
            return
        self.typed, self.text.value = words, _written(words)
        self._show(proposed)
        for name, shown in self.counts.items():
            told = say("foreseen", found=found[name], asked=asked)
            shown.value = f"<b>{escape(called(name))}</b><br>{told}"
        if tried is not None:
            self._about = self._told(tried, asked, found) if tried else {}
        below = {key: text for key, text in self._about.items() if key != "answer" or tried is None}
        said = say("keyboard_readout" if words else "no_word", words=len(words))
        self.board.tell(said, below=below)

    def _show(self, proposed: Mapping[str, Proposals]) -> None:
        offered = Counter(word for each in proposed.values() for word, _ in each)
        for name, keys in self.proposed.items():
            for key, (word, share) in zip(keys, proposed[name], strict=False):
                alone = len(self.proposed) > 1 and offered[word] == 1
                key.description = f"{_said(word)}\n{percent(share)}"
                key.tooltip = say("alone_tip" if alone else "key_tip", name=called(name))
                (key.add_class if alone else key.remove_class)("fl-alone")
            for place, key in enumerate(keys):
                key.layout.visibility = "visible" if place < len(proposed[name]) else "hidden"

    def _told(self, name: str, asked: int, found: Mapping[str, int]) -> dict[str, str]:
        """Return what to look for in an experiment, and what comes of it."""
        told = {"asked": asked, "words": len(self.typed), "different": len(set(self.typed))}
        told["found"] = ", ".join(f"{called(each)} {count}" for each, count in found.items())
        told["hand"] = called(self.hand.value)
        ends = {"look_for": "look", "answer": "answer"}
        return {key: say(f"{name}_{end}", **told) for key, end in ends.items()}

    def _still(self) -> plots.Picture:
        words = self.typed or self._begin[:1]
        return plots.suggestions(words, self._after(words), gloss)


def _said(word: str) -> str:
    """Return a word, and on a line below what it means."""
    return f"{word}\n{gloss(word) or _NO_GLOSS}"


def _written(words: Sequence[str]) -> str:
    lines = (map(escape, _said(word).split("\n")) for word in words)
    pairs = (f'<span><b lang="zh">{word}</b><small>{below}</small></span>' for word, below in lines)
    return f'<div aria-live="polite" aria-label="{say("typed")}">{"".join(pairs)}<i></i></div>'


def _line(key: str, look: str = "heading") -> ipywidgets.HTML:
    return ipywidgets.HTML(say(key)).add_class(f"fl-{look}")
