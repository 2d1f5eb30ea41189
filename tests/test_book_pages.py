"""The book's pages: the glossary has every term of the notebooks, times are README's."""

import json
import re
from pathlib import Path

import pytest
from notebook_checks import ROOT, broken_links, joined, local_links

BOOK = ROOT / "book"
README = (ROOT / "README.md").read_text("utf-8")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = sorted(BOOK.glob("*.md"))
TABLE = re.compile(r"^\|[^|\n]+\| 中文 \|.*\n\|[-| :]+\n((?:\|.*\n?)+)", re.MULTILINE)


def notebook_cells(path: Path) -> list[dict]:
    return json.loads(path.read_text("utf-8"))["cells"]


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip().strip("|").split("|")]


def terms(text: str) -> list[tuple[str, str]]:
    """Return English and Chinese of each row of the tables whose second column is 中文."""
    rows = [cells(row) for table in TABLE.findall(text) for row in table.splitlines()]
    return [(row[0], row[1]) for row in rows]


def parts(term: str) -> list[str]:
    """Return the names that share a cell: "client, server process; node" holds three."""
    plain = re.sub(r"\s*\([^)]*\)", "", term)
    return [part.strip().lower() for part in re.split(r"[,;，；、]", plain)]


def missing(term: tuple[str, str], glossary: list[tuple[str, str]]) -> list[str]:
    """Return the names of a term that stand in no row of the glossary, in either language."""
    columns = [" | ".join(column).lower() for column in zip(*glossary, strict=True)]
    named = zip(map(parts, term), columns, strict=True)
    return [part for names, column in named for part in names if part not in column]


GLOSSARY = terms((BOOK / "glossary.md").read_text("utf-8"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name[:2])
def test_every_term_of_a_notebook_is_in_the_glossary(path):
    told = [term for cell in notebook_cells(path) for term in terms(joined(cell["source"]))]
    assert told
    assert [part for term in told for part in missing(term, GLOSSARY)] == []


def test_the_glossary_is_in_order_and_has_no_term_twice():
    names = [english.lower() for english, _ in GLOSSARY]
    assert names == sorted(set(names))


def test_terms_are_found_and_missed():
    text = "| New term | 中文 | |\n| --- | --- | --- |\n| bias, variance | 偏差, 方差 | x |\n\nend"
    assert terms(text) == [("bias, variance", "偏差, 方差")]
    assert missing(("Bias (here), variance", "偏差,方差"), [("bias", "偏差")]) == [
        "variance",
        "方差",
    ]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_links_of_a_page_lead_to_files(path):
    text = path.read_text("utf-8")
    assert broken_links(text, BOOK) == []
    assert [link for link in local_links(text) if not (BOOK / link).is_file()] == []


def test_the_index_names_every_page():
    index = (BOOK / "index.md").read_text("utf-8")
    for page in PAGES:
        assert page.stem == "index" or f"\n{page.stem}\n" in index


def test_times_to_read_are_those_of_readme():
    row = re.compile(r"^\| (\w+) \| .*\| (\d+) min \|", re.MULTILINE)
    table = (BOOK / "teaching.md").read_text("utf-8").partition("## A semester")[0]
    told = re.findall(r"^\| (\w+) \| (\d+) \|", table, re.MULTILINE)
    assert told == row.findall(README)


def test_sections_that_the_teaching_page_names_exist():
    sources = [cell["source"] for path in NOTEBOOKS for cell in notebook_cells(path)]
    headings = re.findall(r"^##+ (.*)$", "\n".join(map(joined, sources)), re.MULTILINE)
    words = " ".join((BOOK / "teaching.md").read_text("utf-8").split())
    told = re.findall(r'"([A-Z][^"]+)"', words)
    assert told
    assert [name for name in told if not any(line.startswith(name) for line in headings)] == []


def test_every_advice_names_the_tables_behind_it():
    page = (BOOK / "what_to_do.md").read_text("utf-8")
    rows = [cells(line) for line in page.splitlines() if line.startswith("| ")]
    advice = [row for row in rows if row[0] not in ("do", "---")]
    results = (ROOT / "data" / "results" / "README.md").read_text("utf-8")
    titles = re.findall(r"^## (.+)$", results, re.MULTILINE)
    anchors = {title.lower().replace(",", "").replace(" ", "-"): title for title in titles}
    assert len(advice) >= 20
    for text, behind in advice:
        links = re.findall(r"\[([^\]]+)\]\(\.\./data/results/README\.md#([a-z-]+)\)", behind)
        assert links, text
        assert [anchors.get(anchor) for _, anchor in links] == [title for title, _ in links], text
