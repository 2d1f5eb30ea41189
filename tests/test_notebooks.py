"""Every saved notebook: run once from top to bottom, clean, small, and well linked.

Made-up notebooks show that each check finds what it is for; then it is put to the whole series.
"""

import copy
import json
import re
import tempfile

import pytest
from notebook_checks import (
    CELL_LIMIT,
    CHECKS,
    IMAGE_LIMIT,
    READS,
    ROOT,
    broken_links,
    crowded,
    id_errors,
    joined,
    large_images,
    long_lines,
    lost,
    machine_paths,
    navigation,
    other_styles,
    prose,
    run_errors,
    schema_errors,
    title,
    too_long,
    trouble,
    unpaired,
    unshown_figures,
    widget_state,
)  # fmt: skip

FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted([*FOLDER.glob("*.ipynb"), *FOLDER.glob("solutions/*.ipynb")])
NOT_YET: set[str] = set()  # notebooks whose text is still to be worked over
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


def text(source: str) -> dict:
    return {"cell_type": "markdown", "id": "text", "metadata": {}, "source": source}


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


@pytest.mark.parametrize("check", [*CHECKS, *READS])
def test_nothing_is_found_in_a_good_notebook(check):
    assert check(GOOD) == []
    assert check(showing(picture("image/png", IMAGE_LIMIT))) == []


@pytest.mark.parametrize(("check", "notebook"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_found(check, notebook):
    assert check(notebook)


def reading(check, *cells: dict) -> list[str]:
    """Return what a check says of a notebook of these cells."""
    return check({**GOOD, "cells": list(cells)})


def test_a_wall_of_numbers_is_found_and_a_table_is_none():
    assert reading(crowded, text("1, 2, 3 and 4 of `5` or $6$ in notebook 07 (2017)")) == []
    assert reading(crowded, text("1, 2 and 3\n\n4 and 5\n- 6\n- 7")) == []
    assert reading(crowded, text("| 1 | 2 | 3 | 4 | 5 |")) == []
    assert reading(crowded, text("first 1, 2, 3,\nthen 4% and 5.5"))


def test_a_figure_in_prose_must_have_been_shown():
    table = code("table", "t", 1, stream("stdout", "lstm 0.8352 ± 0.4 1,204 rows"))
    for told in ("83.5% and 84%", "0.835", "−0.4 points", "1,204 rows", "12 of 40", "`0.77`",
                 "$0.77$", "0.77 (McMahan and others 2017)", "77% [there](https://arxiv.org/1)",
                 "a 95% interval", "**Predict.** 77%?", "see [x](a_0.77.ipynb)"):  # fmt: skip
        assert reading(unshown_figures, table, text(told)) == [], told
    for told in ("83.6%", "85%", "0.45", "up by 0.77", "| a | 77% |"):
        assert reading(unshown_figures, table, text(told)), told
    assert reading(unshown_figures, text("83.5%"), table), "told before it is shown"


def test_long_notebooks_and_cells_are_found():
    assert reading(too_long, code("c", "1\n\n" * 25, 1)) == []
    assert reading(too_long, code("c", "1\n" * 26, 1))
    assert reading(too_long, *[text("a")] * (CELL_LIMIT + 1))


def test_one_style_for_predictions_and_exercises():
    assert reading(other_styles, text("A.\n\n**Predict.** How many?")) == []
    assert reading(other_styles, text("### Exercise 2 · Own\n\n*Code, 10 minutes.* Do")) == []
    for other in ("> **Predict.** How many?", "**Predict** how many", "### Exercise 2 · Own\n\nDo",
                  "**Exercise 2.** Do", "## Exercise 2: own", "Well, **Predict.** a"):  # fmt: skip
        assert reading(other_styles, text(other)), other


def test_the_line_of_links_names_the_neighbours():
    heading = text("# 04 · Federated averaging 联邦平均\n\nWhy")
    assert title({"cells": [heading]}) == "04 · Federated averaging"
    links = navigation({"00_a": "00 A", "02_b": "02 B", "A_c": "A C"})
    assert links["00_a"] == "[02 B →](02_b.ipynb) · [Solutions](solutions/00_a_solutions.ipynb)"
    assert links["02_b"].startswith("[← 00 A](00_a.ipynb) · [Solutions]")
    assert links["A_c"].startswith("[← 00 A](00_a.ipynb) · [Solutions]")
    assert links["02_b_solutions"] == "[← 02 B](../02_b.ipynb)"
    assert reading(lambda nb: lost(nb, "[x](y)"), text("# A\n\n[x](y)\n\nB")) == []
    assert len(reading(lambda nb: lost(nb, "[x](y)"), text("see [x](y)"))) == 2


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


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_reads_well(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    found = {check.__name__: check(notebook) for check in READS}
    titles = {
        p.stem: title(json.loads(p.read_text("utf-8"))) for p in NOTEBOOKS if p.parent == FOLDER
    }
    found["links"] = lost(notebook, navigation(titles)[path.stem])
    faults = {name: faults for name, faults in found.items() if faults}
    assert bool(faults) == (path.stem.removesuffix("_solutions") in NOT_YET), faults


def test_every_page_names_the_same_minutes():
    """A notebook, README and the map in notebook 00 say alike how long it takes to read."""
    start = json.loads((FOLDER / "00_start_here.ipynb").read_text(encoding="utf-8"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in NOTEBOOKS:
        if path.parent == FOLDER:
            notebook = json.loads(path.read_text(encoding="utf-8"))
            own = re.search(r"(\d+)\s+minutes", joined(notebook["cells"][0]["source"]))[1]
            number = path.stem.partition("_")[0]
            for page in (readme, prose(start)):
                row = re.search(rf"^\| {number} \|.*\| (\d+) min \|$", page, re.MULTILINE)
                assert row, (number, "is on no list")
                assert row[1] == own, (number, row[1], own)
                assert int(own) <= 60


@pytest.mark.parametrize("path", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_a_readme(path):
    assert broken_links(path.read_text(encoding="utf-8"), path.parent) == []


def test_every_notebook_has_its_solution():
    series = [path.stem for path in NOTEBOOKS if path.parent == FOLDER]
    solutions = [path.stem for path in NOTEBOOKS if path.parent != FOLDER]
    assert series
    assert unpaired(series, solutions) == []
