"""README is short, its links lead to files, and the examples there and on its pages run."""

import ast
import re

from notebook_checks import ROOT, local_links
from test_house import ROOMS

from fedlab_helpers.strategies import STRATEGIES

README = (ROOT / "README.md").read_text("utf-8")
YOUR_DATA = (ROOT / "book" / "your_data.md").read_text("utf-8")
PACKAGE = (ROOT / "book" / "package.md").read_text("utf-8")


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page, re.DOTALL)


def test_the_examples_run(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    (reviews, private), (series, long), (own,) = map(blocks, (README, YOUR_DATA, PACKAGE))
    known = {}
    for block, names in ((reviews, known), (private, known), (series, {})):
        assert sum(bool(line.strip()) for line in block.splitlines()) <= 15
        exec(block, names)
        assert capsys.readouterr().out.count("\n") == 7  # two header lines and five rounds
    exec(long, {})
    assert max(ast.literal_eval(capsys.readouterr().out)) < 0.15  # as now: 0.18
    exec(own, {"__name__": "somebodys_own"})
    assert "Momentum(lr=1.0, beta=0.5)" in capsys.readouterr().out
    del STRATEGIES["heavy"]


def test_links_point_at_files():
    """JupyterLab's preview opens no folder."""
    assert [link for link in local_links(README) if not (ROOT / link).is_file()] == []


def test_readme_is_read_in_three_minutes():
    prose = re.sub(r"(?s:```.*?```)|^\|.*$", "", README, flags=re.MULTILINE)
    assert "Teaching" in prose
    assert "Aggregation strategies" not in prose
    assert len(prose.split()) <= 700


def test_the_picture_is_small():
    (name,) = re.findall(r"\]\((\S+\.png)\)", README)
    assert (ROOT / name).stat().st_size < 150_000


def test_the_page_of_the_package_names_the_rooms():
    rooms = re.findall(r"^\| `(\w+)` \|", PACKAGE, re.MULTILINE)
    assert rooms == list(ROOMS)
    assert "ten rooms and one small module" in " ".join(README.split())
    assert len(ROOMS) == 11
