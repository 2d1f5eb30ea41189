"""What labels mean: which of two is the positive one, and which class each is."""

import re
from collections.abc import KeysView, Mapping, Sequence, Set

from fedlab_helpers.tasks.reviews.characters import plain, visible

BUILT_IN = ("negative", "positive")
NUMBERS = ("0", "1")  # class 1 is the positive one
NEGATIVE = frozenset(
    """
    差评 负评 负面 负向 负性 负 消极 否定 贬 贬义 踩 点踩 坏 差 糟 糟糕 烂 劣 恶评 讨厌 反感 厌恶
    失望 反对 批评 抱怨 投诉 吐槽 难过 伤心 生气 没用 没意思 弊 否 错 假 低分 negative neg n bad
    poor awful terrible worst hate sad angry no false down thumbsdown con against fail - 👎 😞 😡 😠
    😢 😭 ☹ 🙁 💔 ❌
    """.split()
)
POSITIVE = frozenset(
    """
    好评 正评 正面 正向 正性 正 积极 肯定 褒 褒义 赞 点赞 顶 好 良 优 棒 佳 满意 推荐 喜欢 爱 支持
    赞成 赞同 表扬 开心 高兴 值得 有用 有意思 利 是 对 真 高分 positive pos p good great
    excellent best love like happy satisfied recommend recommended yes y true up thumbsup pro
    favor helpful pass + 👍 😊 😀 😃 😄 🙂 😍 ❤ ✅
    """.split()
)
_DEGREES = re.compile("^(非常|十分|比较|很|太|较|最|very|label|class|标签)")
_NEGATIONS = re.compile("^(不|没|非|未|无|不是|not|non|un|dis|dont|donot)")
_KINDS = re.compile("(评价|评论|反馈|情感|情绪|类|的|reviews?|sentiments?|feedback|comments?)$")
_COUNT = re.compile(
    r"([-+]?\d+(?:\.\d+)?|[零一二两三四五六七八九十])"
    r"(?:[-_~–—至到][\d.一二两三四五六七八九十]+)?"  # a range goes by where it begins
    r"(颗?星级?|分|stars?|)"
)
_SIMPLIFIED = str.maketrans(
    "評價論饋緒類標籤較負極貶義點壞爛惡討厭對訴難過傷氣沒無錯積讚贊頂優滿薦歡愛揚開興級顆兩",
    "评价论馈绪类标签较负极贬义点坏烂恶讨厌对诉难过伤气没无错积赞赞顶优满荐欢爱扬开兴级颗两",
)
_DIGITS = {"两": 2} | {digit: value for value, digit in enumerate("零一二三四五六七八九十")}


def polarity(label: str) -> int:
    """Return 1 for a word of praise, -1 for one of blame, 0 for any other."""
    word = plain(label).translate(_SIMPLIFIED).strip(".!?。！？()（）[]【】\"'🏻🏼🏽🏾🏿")
    for shorter in (word, _KINDS.sub("", word), _DEGREES.sub("", word)):
        if found := (shorter in POSITIVE) - (shorter in NEGATIVE):
            return found
    for prefix in (_NEGATIONS, _DEGREES, _KINDS):
        if (rest := prefix.sub("", word)) not in ("", word) and (found := polarity(rest)):
            return -found if prefix is _NEGATIONS else found
    return 0


def _amount(label: str) -> tuple[str, float] | None:
    """Return unit and number of a label such as 5星, 五星, 3.0, ★★★ or 1-4星; None for others."""
    word = plain(label).translate(_SIMPLIFIED)
    if word and not word.strip("★⭐☆*"):
        return "星", len(word) - word.count("☆")
    if not (found := _COUNT.fullmatch(word)):
        return None
    number, unit = found.groups()
    return unit.rstrip("s"), float(_DIGITS.get(number, number))


def in_order(first: str, second: str) -> tuple[tuple[str, str], bool]:
    """Return two labels, the positive one last, and whether their meaning told which that is.

    Words that are known go by their meaning, stars and numbers by size; all others are sorted by
    code point, which is a guess.
    """
    pair, (low, high) = sorted((first, second)), map(_amount, sorted((first, second)))
    by_size = low and high and low[0] == high[0] and low[1] != high[1]
    meant = [(mark and mark[1]) if by_size else polarity(label)
             for mark, label in zip((low, high), pair, strict=True)]  # fmt: skip
    if meant[0] > meant[1]:
        pair.reverse()
    return (pair[0], pair[1]), meant[0] != meant[1]


def require_names(labels: Sequence[str], argument: str = "labels") -> tuple[str, ...]:
    """Return the names of classes, class 0 first.

    Raises:
        ValueError: there are fewer than two, one is empty, or two are spellings of one; or they
            come as a mapping or a set, which says nothing of their order.
    """
    unordered = isinstance(labels, str | Mapping | Set) and not isinstance(labels, KeysView)
    told = () if unordered else labels
    names = tuple(visible(str(name)) for name in told)
    if len(names) < 2 or not all(names) or len({plain(name) for name in names}) < len(names):
        raise ValueError(
            f"{argument}: got {labels!r}, expected the names of at least two classes, class 0 "
            "(the negative one) first, in a list, which differ in more than case or width"
        )
    return names
