"""Glosses: the words that keyboards propose most have one, and it is short."""

from fedlab_helpers.lessons.glosses import GLOSSES, gloss
from fedlab_helpers.lessons.panels.keyboard_panel import BEGINNINGS, TEXTS
from fedlab_helpers.studies.study import task
from fedlab_helpers.tasks.next_word import WORDS
from fedlab_helpers.tasks.reviews.words import is_word, tokenize

KNOWN = task().vocab.first(WORDS)


def is_chinese(word):
    return any("一" <= sign <= "鿿" for sign in word)


def test_each_of_the_most_frequent_words_has_one():
    assert [word for word in KNOWN.words[:300] if is_chinese(word) and not gloss(word)] == []
    assert gloss("房间") == "room"
    assert gloss("value for money") == gloss("") == ""


def test_each_is_short_and_of_a_word_that_the_reviews_have():
    for word, meant in GLOSSES.items():
        assert 0 < len(meant.split()) <= 3, word
        assert not is_chinese(meant)
        assert word in task().vocab, word


def test_keys_and_texts_are_of_words_that_a_keyboard_knows():
    for words in (BEGINNINGS, *TEXTS.values()):
        assert [word for word in words if word not in KNOWN] == []
        assert [word for word in words if is_word(word) and not gloss(word)] == []
    for words in TEXTS.values():
        assert tokenize("".join(words)) == words
