"""Every saved notebook: run once from top to bottom, clean, small, and well linked.

Made-up notebooks show that each check finds what it is for; then it is put to the whole series.
"""

import copy
import json
import tempfile

import pytest
from notebook_checks import (
    CHECKS,
    IMAGE_LIMIT,
    ROOT,
    broken_links,
    id_errors,
    large_images,
    long_lines,
    machine_paths,
    prose,
    run_errors,
    schema_errors,
    trouble,
    unpaired,
    widget_state,
)  # fmt: skip

FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted([*FOLDER.glob("*.ipynb"), *FOLDER.glob("solutions/*.ipynb")])
READMES = sorted({ROOT / "README.md", *ROOT.glob("*/README.md")})


def code(id_: str, source: str, count: int | None, *cell_outputs: dict) -> dict:
    return {
        "cell_type": "code", "id": id_, "metadata": {}, "source": source,
        "execution_count": count, "outputs": list(cell_outputs),
    }  # fmt: skip


def stream(name: str, text: str) -> dict:
    return {"output_type": "stream", "name": name, "text": text}


GOOD = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {},
    "cells": [
        {"cell_type": "markdown", "id": "title", "metadata": {}, "source": ["# A\n", "title"]},
        code("one", "1 + 1  # 二", 1, stream("stdout", ["2\n", "see data/README.md"])),
        code("empty", "", None),
        code("two", "2", 2),
    ],
}


def change(*path: str | int, value: object = None) -> dict:
    """Return GOOD with one place changed, or taken out where there is no value."""
    notebook = copy.deepcopy(GOOD)
    place = notebook
    for step in path[:-1]:
        place = place[step]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return notebook


def showing(output: dict) -> dict:
    return change("cells", 1, "outputs", value=[output])


def picture(kind: str, size: int) -> dict:
    return {"output_type": "display_data", "metadata": {}, "data": {kind: "x" * size}}


ERROR = {"output_type": "error", "ename": "E", "evalue": "", "traceback": []}
TABLE = {"output_type": "display_data", "metadata": {}, "data": {"text/html": ["<b>/home/ann/x"]}}
FAULTS = {
    "nbformat 4.4": (schema_errors, change("nbformat_minor", value=4)),
    "not a notebook": (schema_errors, change("cells", 1, "outputs")),
    "no id": (id_errors, change("cells", 0, "id")),
    "an id twice": (id_errors, change("cells", 1, "id", value="two")),
    "run twice": (run_errors, change("cells", 1, "execution_count", value=7)),
    "never run": (run_errors, change("cells", 3, "execution_count", value=0)),
    "an error": (trouble, showing(ERROR)),
    "stderr": (trouble, showing(stream("stderr", "Warning!"))),
    "Linux": (machine_paths, showing(stream("stdout", "in /home/ann/course"))),
    "macOS": (machine_paths, change("cells", 1, "source", value="open('/Users/ann/x')")),
    "Windows": (machine_paths, showing(stream("stdout", r"C:\Users\ann\x"))),
    "Windows, escaped": (machine_paths, change("cells", 1, "source", value=r"'C:\\Users\\ann'")),
    "this checkout": (machine_paths, showing(stream("stdout", f"in {ROOT}/data"))),
    "a temporary file": (machine_paths, showing(stream("stdout", tempfile.gettempdir()))),
    "a path in prose": (machine_paths, change("cells", 0, "source", value="see /home/ann")),
    "a path in a table": (machine_paths, showing(TABLE)),
    "a large PNG": (large_images, showing(picture("image/png", IMAGE_LIMIT + 1))),
    "a large SVG": (large_images, showing(picture("image/svg+xml", IMAGE_LIMIT + 1))),
    "widget state": (widget_state, change("metadata", "widgets", value={"state": {}})),
    "a long line": (long_lines, change("cells", 3, "source", value="2\n" + "x" * 80)),
}


@pytest.mark.parametrize("check", CHECKS)
def test_nothing_is_found_in_a_good_notebook(check):
    assert check(GOOD) == []
    assert check(showing(picture("image/png", IMAGE_LIMIT))) == []


@pytest.mark.parametrize(("check", "notebook"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_found(check, notebook):
    assert check(notebook)


def test_links_are_followed_and_code_is_not(tmp_path):
    (tmp_path / "a b.md").touch()
    good = "[x](a%20b.md#part) [y](https://x.org) [z](#here) `[c](d)` ![i](<a%20b.md>)"
    assert broken_links(good, tmp_path, tmp_path) == []
    for bad in ("[x](none.md)", "![x](none.svg 'title')", '<img src="no.png">', "[x]: no.md"):
        assert broken_links(bad, tmp_path, tmp_path)
    assert broken_links("[x](../)", tmp_path, tmp_path)


def test_a_notebook_and_its_solution_belong_together():
    assert unpaired(["00_a"], ["00_a_solutions"]) == []
    assert unpaired(["00_a", "01_b"], ["00_a_solutions"]) == ["01_b_solutions"]
    assert unpaired([], ["00_a_solutions"]) == ["00_a_solutions"]


# The notebooks of the series.


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    found = {check.__name__: check(notebook) for check in CHECKS}
    found["links"] = broken_links(prose(notebook), path.parent)
    assert not {name: faults for name, faults in found.items() if faults}


@pytest.mark.parametrize("path", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_a_readme(path):
    assert broken_links(path.read_text(encoding="utf-8"), path.parent) == []


def test_every_notebook_has_its_solution():
    series = [path.stem for path in NOTEBOOKS if path.parent == FOLDER]
    solutions = [path.stem for path in NOTEBOOKS if path.parent != FOLDER]
    assert series
    assert unpaired(series, solutions) == []
