"""Characters that show nothing: what is a blank text, and which texts are copies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlab_helpers.tasks.reviews.characters import appearance, plain, visible
from fedlab_helpers.tasks.reviews.corpus import load_reviews, load_reviews_with_report
from fedlab_helpers.tasks.reviews.words import tokenize

UNSEEN = [
    "\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\xad", "\u200e", "\u200f", "\u202a",
    "\u202e", "\u2066", "\u2069", "\ufe0f", "\u180e", "\u3164", "\u2800", "\x07",
    "\U000e0041", "\ud83d",
]  # fmt: skip
each_unseen = pytest.mark.parametrize("sign", UNSEEN, ids=ascii)


@each_unseen
def test_a_sign_that_shows_nothing_makes_no_difference(sign):
    assert visible(sign * 3) == ""
    assert appearance(f"房{sign}间 好{sign}") == "房间 好"
    assert tokenize(f"{sign}房{sign}间很干净") == tokenize("房间很干净")
    assert tokenize(sign) == []


def test_kinds_of_blanks_and_composed_letters_are_one_appearance():
    assert appearance("好 好\r\ncafe\u0301") == appearance("好\u3000好\ncaf\xe9")
    different = ["好 好", "好  好", "好好", "好,好", "好，好", "OK", "ＯＫ", "ok"]
    assert len({appearance(text) for text in different}) == len(different)


@given(text=st.text())
def test_both_are_settled_after_once(text):
    assert visible(visible(text)) == visible(text)
    assert appearance(appearance(text)) == appearance(text)
    assert visible(text).isspace() is False


def test_spellings_of_one_label():
    assert plain("ＰＯＳ") == plain("Pos\u200b") == "pos"
    assert plain("do_not like") == plain("Do-Not-Like")
    assert plain("-") == plain("\u2212") == "-"
    assert (plain("1-4 星"), plain("1__2"), plain("label_1")) == ("1-4星", "1__2", "label1")


@pytest.fixture
def write(tmp_path):
    def write(*rows: str):
        path = tmp_path / "mine.csv"
        path.write_text("\n".join(rows) + "\n", "utf-8")
        return path

    return write


def test_blank_texts_and_copies_in_a_file(write):
    path = write("text,label", "房间很干净,1", "房间很干净\u200b,1", "\ufeff房间很干净,1",
                 "\u200b,0", "\xad\u2060,0", "太差,0")  # fmt: skip
    kept, report = load_reviews_with_report(path)
    assert [review.text for review in kept] == ["房间很干净", "太差"]
    assert (report.empty, report.duplicates, report.contradictions) == (2, 2, 0)


def test_texts_that_look_alike_contradict_each_other(write):
    path = write("text,label", "房间,1", "房\u200b间,0", "好,1", "差,0")
    report = load_reviews_with_report(path)[1]
    assert (report.contradictions, report.contradicting_rows, report.kept) == (1, 2, 2)


def test_joined_emoji_stay_whole_in_the_text_that_is_kept(write):
    family = "👨\u200d👩\u200d👧 ❤\ufe0f"
    assert load_reviews(write("text,label", f"{family},1", "差,0"))[0].text == family


def test_names_of_columns_labels_and_domains(write):
    path = write("te\u200bxt,label\u200b,where", "好,正\u200b面,a\u200b", "差,负面\ufeff,\u200b",
                 "很好,正面,a")  # fmt: skip
    reviews, report = load_reviews_with_report(path, label="label\u200b", domain="where")
    assert report.labels == ("负面", "正面")
    assert [(r.label, r.domain) for r in reviews] == [(1, "a"), (0, "unknown"), (1, "a")]
    with pytest.raises(ValueError, match="every label is '正面'"):
        load_reviews(write("text,label", "好,正面", "不错,正面\u200b"))
