"""Checks of notebook 02: from Chinese text to tensors."""

import re
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from fedlab_helpers.lessons.checks.verdict import (
    Verdict,
    exercise,
    right,
    slip,
    tensor,
    whole,
    wrong,
)
from fedlab_helpers.tasks.reviews.words import Vocabulary

_SENTENCE = [6, 1, 1, 3, 0, 0]  # 房间 不 干净 。 and two columns of padding
# Whether test data leaks in each of the five stories, and what to think about.
_LEAKS = (
    (False, "each text is there once when the split is drawn, so it is on one side only."),
    (True, "which words are frequent enough to be known: whose texts were counted?"),
    (False, "validation reviews are there to choose by; has anything looked at the test set?"),
    (True, "the best of five test scores was chosen by the test set: it is no longer a test."),
    (False, "which texts were counted: those of training clients, or test texts, too?"),
)


@exercise("put six ids into my_ids.")
def padded_ids(answer: Sequence[int]) -> Verdict:
    """Mark the ids of 房间 / 不 / 干净 / 。 in the toy vocabulary, padded to length 6."""
    ids = [whole(id_) for id_ in answer]
    if None in ids:
        return wrong(f"{list(answer)[ids.index(None)]!r} is no id; write six whole numbers.")
    if ids == _SENTENCE:
        return right(
            "“The room is not clean” lost two of its four words, and with them its meaning. The "
            "network reads: room, something, something, full stop."
        )
    hints = (
        (len(ids) < 6, f"{len(ids)} ids; pad to 6."),
        (len(ids) > 6, f"{len(ids)} ids; there are 4 words and 2 columns of padding."),
        (ids == [0, 0, 6, 1, 1, 3], "this is padded on the left; here zeros stand on the right."),
        (ids[4:] != [0, 0], "the last two columns hold no word at all: which id says so?"),
        (0 in ids[:4], "0 says that there is no word. 不 and 干净 are words, if unknown ones."),
        (ids[1] != 1, "不 is not among the five known words."),
        (ids[2] != 1, "干净 occurs once in the toy reviews, too rarely to be known."),
    )
    general = "look up 房间 and 。 among the five ids; the other two words are not there."
    return wrong(next((hint for seen, hint in hints if seen), general))


@exercise("write masked_mean, which so far returns nothing.")
def masked_mean(function: Callable[[Tensor, Tensor], Tensor]) -> Verdict:
    """Mark a function of (B, T, H) outputs and (B,) lengths that returns (B, H) means of words."""
    four = [[2.0, 1.0], [4.0, 3.0], [6.0, -9.0], [8.0, 8.0]]
    two = [[1.0, -1.0], [3.0, 5.0], [100.0, 50.0], [-70.0, 20.0]]
    one = [[5.0, 0.0], [100.0, 40.0], [30.0, 70.0], [10.0, 90.0]]
    outputs = torch.tensor([four, two, one])
    lengths = torch.tensor([4, 2, 1])
    expected = torch.tensor([[5.0, 0.75], [2.0, 2.0], [5.0, 0.0]], dtype=torch.float64)
    came = function(outputs.clone(), lengths.clone())
    if came is None or came is ...:
        raise NotImplementedError
    got = tensor(came, "numbers of shape (3, 2)")
    if got.shape != expected.shape:
        return wrong(f"expected numbers of shape (3, 2), got {tuple(got.shape)}.")
    if not torch.allclose(got, expected, rtol=1e-4):  # half precision rounds, too
        return wrong(_mean_hint(got, expected, outputs.double(), lengths))
    outputs[1, 2:] = torch.nan  # what stands in the padding must not matter, even this
    if tensor(function(outputs, lengths)).isnan().any():
        return right(
            "the mean is right. One thought: NaN in the padding would reach your result, because "
            "0 times NaN is NaN. `torch.where` or `masked_fill` would leave it out."
        )
    return right("zeros, nonsense, even NaN in the padding: nothing of it reaches the mean.")


def _mean_hint(got: Tensor, expected: Tensor, outputs: Tensor, lengths: Tensor) -> str:
    inside = torch.arange(outputs.shape[1]) < lengths[:, None]
    total = (outputs * inside.unsqueeze(-1)).sum(1)
    last = outputs[torch.arange(len(lengths)), lengths - 1]
    slips = {
        "the padding is in this mean. Multiply by a mask before you sum.": outputs.mean(1),
        "this is the sum over the words; divide by how many there are.": total,
        "you divided by the number of columns, not of words.": total / outputs.shape[1],
        "this is the output at the last word; the mean takes all words in.": last,
        "you divide by the words, but the padding is still in the sum.": outputs.sum(1)
        / lengths[:, None],
    }
    if hint := slip(got, slips):
        return hint
    unlike = int((got - expected).abs().nan_to_num(1.0).sum(1).argmax())
    return (
        f"the review of length {int(lengths[unlike])} gives {got[unlike].tolist()}. Its outputs "
        f"are {outputs[unlike].tolist()}: which of them are words?"
    )


@exercise("build the vocabulary of what cautious clients send, and put it into careful.")
def withheld(vocab: Vocabulary, counts: Sequence[Counter[str]]) -> Verdict:
    """Mark the vocabulary from counts of which each client withheld the words it used once;
    `counts` is what each counted, nothing withheld."""
    if not isinstance(vocab, Vocabulary):
        return wrong(f"expected a Vocabulary, got a {type(vocab).__name__}.")
    sent = [_at_least(client, 2) for client in counts]
    expected = Vocabulary.from_counts(sent)
    if vocab.words == expected.words:
        before, after = _alone(counts), _alone(sent)
        return right(
            f"{len(vocab):,} words instead of {len(Vocabulary.from_counts(counts)):,}, and the "
            f"server sees {after:,} words that one client alone names, not {before:,}. A word "
            "that a client used twice is still sent, and still names its owner."
        )
    hints = {
        Vocabulary.from_counts(counts).words: "this is the full vocabulary: nothing was withheld "
        "at the clients. Dropping rare words from the sum comes too late: the server saw them.",
        Vocabulary.from_counts([_at_least(c, 3) for c in counts]).words: "clients kept back words "
        "that they used twice, too; only those used once stay at home.",
        Vocabulary.from_counts([Counter(s.keys()) for s in sent]).words: "the right words were "
        "sent, but each with a count of 1; send the counts as they are.",
        Vocabulary.from_counts([c - Counter(c.keys()) for c in counts]).words: "every count is one "
        "too low; words used once are withheld, the other counts stay as they are.",
        Vocabulary.from_counts(sent, min_count=1).words: "the right counts, but another min_count "
        "than the notebook's.",
    }
    general = f"{len(vocab):,} words, expected {len(expected):,}: filter each client's Counter."
    return wrong(hints.get(vocab.words, general))


def _at_least(counts: Counter[str], least: int) -> Counter[str]:
    return Counter({word: count for word, count in counts.items() if count >= least})


def _alone(counts: Sequence[Counter[str]]) -> int:
    """Return how many words are at one client only."""
    holders = Counter(word for client in counts for word in client)
    return sum(number == 1 for number in holders.values())


@exercise("decide on each of the five: True for a leak, False for none.")
def leaks(verdicts: Sequence[bool]) -> Verdict:
    """Mark the reader's verdicts on the five stories, in the notebook's order."""
    if len(verdicts) != len(_LEAKS):
        return wrong(f"{len(verdicts)} verdicts came, expected {len(_LEAKS)}.")
    if any(verdict is None for verdict in verdicts):
        raise NotImplementedError
    for number, verdict in enumerate(verdicts, start=1):
        leak, thought = _LEAKS[number - 1]
        if not isinstance(verdict, bool | np.bool_):
            return wrong(f"number {number}: {verdict!r}; write True or False.")
        if verdict != leak:
            return wrong(f"number {number}: {thought}")
    return right(
        "the second and the fourth. The fourth is the one that careful people commit: no text was "
        "copied, and yet the score was chosen, not measured."
    )


_ALIKE = {
    "a blank": ("早餐一般", "早餐 一般"),
    "the full stop at the end": ("早餐一般。", "早餐一般."),
    "full-width letters": ("很ＯＫ，", "很OK，"),
    "a full-width sign": ("很好！", "很好!"),
}
_UNLIKE = {
    "不 is a word that turns the sentence round": ("很满意", "很不满意"),
    "a smiley is an opinion": ("早餐:)", "早餐:("),
    "short numbers say something": ("给3星", "给5星"),
    "letters are words, too": ("系统是XP", "系统是Vista"),
    "a point inside a number is no full stop at the end": ("价格4.5元", "价格45元"),
    "five digits are no long number": ("价格12345元", "价格54321元"),
    "a question is no statement": ("可以退吗?", "可以退吗。"),
}
_PHONES = (
    "电话13800000000。",
    "电话１３８００００００００",
    "电话138 0000 0000",
    "房号20081234567",
)
_LONG = re.compile(r"\d{7,}")
_HANZI = re.compile(r"[\u4e00-\u9fff]")


@exercise("write normalise, which so far returns nothing.")
def normaliser(function: Callable[[str], str]) -> Verdict:
    """Mark a function of a text that returns it in a form in which near copies are equal."""
    twins, others = (sum(pairs.values(), ()) for pairs in (_ALIKE, _UNLIKE))
    got = {text: function(text) for text in (*twins, *others, *_PHONES)}
    if any(answer is None or answer is ... for answer in got.values()):
        raise NotImplementedError
    for text, answer in got.items():
        if not isinstance(answer, str):
            return wrong(f"{text!r} gave a {type(answer).__name__}; return a text.")
        if _LONG.search(answer):
            return wrong(f"{text!r} became {answer!r}: a long run of digits is still there.")
        rest = iter(_HANZI.findall(answer))
        if not all(character in rest for character in _HANZI.findall(text)):  # in this order
            return wrong(f"{text!r} became {answer!r}: a Chinese character was lost.")
        if function(answer) != answer:
            return wrong(f"twice changes more than once: {text!r}, {answer!r}, ….")
    for what, (one, other) in _ALIKE.items():
        if got[one] != got[other]:
            return wrong(f"{what}: {one!r} and {other!r} are still two texts.")
    for why, (one, other) in _UNLIKE.items():
        if got[one] == got[other]:
            return wrong(f"{one!r} and {other!r} became the same text; {why}.")
    return right(
        "all five properties hold on our samples. They are samples: on real reviews, read some of "
        "the near copies that you find, and see whether they say the same."
    )
