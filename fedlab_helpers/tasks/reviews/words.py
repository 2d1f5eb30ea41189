"""From text to ids: tokens as jieba cuts them, and the vocabulary."""

import logging
import threading
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from hashlib import blake2b
from marshal import dumps
from typing import Self

from fedlab_helpers.core.require import require, require_count
from fedlab_helpers.tasks.reviews.characters import visible
from fedlab_helpers.tasks.reviews.labels import require_names
from fedlab_helpers.tasks.reviews.token_cache import TokenCache

PADDING, UNKNOWN = 0, 1
_jieba_lock = threading.Lock()


@cache
def _jieba():
    """Import jieba once, without its log on stderr and its warnings on newer Pythons."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=SyntaxWarning)
        warnings.filterwarnings("ignore", message="invalid escape sequence")  # Python 3.11
        warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
        import jieba
    jieba.setLogLevel(logging.WARNING)
    jieba.initialize()
    return jieba


def _cache() -> TokenCache:
    """Return the cache of what jieba, with the words that a reader gave it, makes of texts."""
    with _jieba_lock:
        jieba = _jieba()
        own = jieba.dt
        own.check_initialized()  # another dictionary is read when it is first needed
        # Cheap, and another after add_word, del_word, suggest_freq, load_userdict, set_dictionary.
        state = id(own.FREQ), len(own.FREQ), sum(own.FREQ.values()), own.total
        forced = tuple(sorted(jieba.finalseg.Force_Split_Words))
        return _cache_of(*state, forced, jieba.re_han_default.pattern)


@lru_cache(maxsize=2)
def _cache_of(*state: object) -> TokenCache:
    jieba = _jieba()
    # Version 0 of marshal writes equal dictionaries alike, whoever else holds their words.
    known = blake2b(dumps(jieba.dt.FREQ, 0), digest_size=16)
    known.update(repr((jieba.__version__, *state[2:])).encode("utf-8", "backslashreplace"))
    return TokenCache(f"jieba-{known.hexdigest()}")


def dictionary() -> str:
    """Return a name of all that decides how texts are cut: another after `jieba.add_word`, …"""
    return _cache().version


def tokenize(text: str) -> list[str]:
    """Return the words of a text as jieba cuts it, without white space and what shows nothing."""
    with _jieba_lock:  # `dt` stays what it is where jieba is told to cut in parallel
        return [token for token in _jieba().dt.cut(visible(text)) if not token.isspace()]


def tokenize_all(texts: Sequence[str]) -> list[list[str]]:
    """Return `tokenize` of each text, through the cache in `data/cache/`."""
    require(not isinstance(texts, str), "texts", texts, "a list of texts")
    return _cache().tokenize(texts, tokenize)


def is_word(token: str) -> bool:
    """Return whether a token has a letter, a sign or a digit, and so is more than punctuation."""
    return any(map(str.isalnum, token))


def count_words(token_lists: Iterable[Sequence[str]]) -> Counter[str]:
    """Return how often each word occurs: all that a client sends for a federated vocabulary."""
    return Counter(word for tokens in token_lists for word in tokens)


class Vocabulary:
    """Words and their ids; id 0 is padding, id 1 stands for every unknown word.

    Args:
        words: the known words; the first gets id 2.
        classes: what the classes are called that a model of these words tells apart, by number;
            None: that is not known.
        max_len: words of a text that such a model reads; None: that is not known.
    """

    def __init__(
        self,
        words: Iterable[str],
        *,
        classes: Sequence[str] | None = None,
        max_len: int | None = None,
    ):
        self.words = ("<padding>", "<unknown>", *words)
        self.classes = None if classes is None else require_names(classes, "classes")
        self.max_len = max_len
        self._ids = {word: id_ for id_, word in enumerate(self.words) if id_ > UNKNOWN}

    @classmethod
    def build(cls, token_lists: Iterable[Sequence[str]], min_count: int = 3) -> Self:
        """Return the vocabulary of tokenised texts that lie in one place.

        Args:
            token_lists: tokens of the training texts, never of validation or test texts.
            min_count: a word seen less often is unknown.
        """
        return cls.from_counts([count_words(token_lists)], min_count)

    @classmethod
    def from_counts(cls, counts: Iterable[Counter[str]], min_count: int = 3) -> Self:
        """Return the same vocabulary from each client's word counts, without their texts.

        Words come most frequent first, equal counts in the order of their characters, so that
        neither the order of the clients nor how texts are spread over them changes an id.

        Raises:
            ValueError: `min_count` is below 1.
        """
        require_count(min_count=min_count)
        total: Counter[str] = Counter()
        for count in counts:
            total.update(count)
        ranked = sorted(total.items(), key=lambda item: (-item[1], item[0]))
        return cls(word for word, count in ranked if count >= min_count)

    def first(self, size: int) -> "Vocabulary":
        """Return the vocabulary of the first `size` ids, with the same classes and length."""
        return Vocabulary(self.words[2:size], classes=self.classes, max_len=self.max_len)

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return word in self._ids

    def encode(self, tokens: Iterable[str]) -> list[int]:
        """Return the id of each token; 1 for a word that is not in the vocabulary."""
        return [self._ids.get(token, UNKNOWN) for token in tokens]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Return the word of each id."""
        return [self.words[id_] for id_ in ids]
