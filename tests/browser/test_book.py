"""The book is built without a warning, has all that the notebooks show, and needs no network."""

import functools
import json
import subprocess
import sys
import threading
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from conftest import ROOT

pytestmark = pytest.mark.browser
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("[0-9A-Z]*.ipynb"))
DOT = (  # a picture of one pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)
SHOWN = {
    "application/vnd.jupyter.widget-view+json": {"model_id": "a"},
    "text/plain": "a line of text",
    "image/png": DOT,
}
PANEL = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {"language_info": {"name": "python"}},
    "cells": [
        {"cell_type": "markdown", "id": "title", "metadata": {}, "source": "# A panel"},
        {
            "cell_type": "code", "id": "panel", "metadata": {}, "source": "1", "execution_count": 1,
            "outputs": [{"output_type": "display_data", "metadata": {}, "data": SHOWN}],
        },
        {"cell_type": "markdown", "id": "end", "metadata": {}, "source": "[up](panel.ipynb#panel)"},
    ],
}  # fmt: skip


class Page(HTMLParser):
    """The links and the ids of one page, and what it loads by itself."""

    def __init__(self, path: Path):
        super().__init__()
        self.links, self.loads, self.ids, self.pictures = [], [], {""}, 0
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        has = dict(attributes)
        self.ids |= {has["id"]} if has.get("id") else set()
        self.links += [has["href"]] if tag == "a" and has.get("href") else []
        address = has.get("href") if tag == "link" else has.get("src")
        self.loads += [address] if address and not address.startswith("data:") else []
        self.pictures += tag == "img"


def build(source: Path, site: Path) -> Path:
    """Run README's command on a folder; fail with what Sphinx says."""
    for module in ("sphinx", "myst_nb", "furo"):
        pytest.importorskip(module, reason="the book needs: pip install -r book/requirements.txt")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", ROOT / "book"]
    run = subprocess.run([*command, source, site], capture_output=True, text=True, encoding="utf-8")
    assert run.returncode == 0, run.stderr
    return site


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    return build(ROOT, tmp_path_factory.mktemp("book") / "html")


@pytest.fixture(scope="module")
def address(book):
    """Serve the book on this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *said):
            pass

    handler = functools.partial(Quiet, directory=book)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def html_of(notebook: Path) -> Path:
    return notebook.relative_to(ROOT).with_suffix(".html")


def test_no_link_is_dead_and_nothing_is_loaded_from_elsewhere(book):
    pages = {path.resolve(): Page(path) for path in book.rglob("*.html")}
    assert len(pages) > len(NOTEBOOKS)
    dead = []
    for path, page in pages.items():
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                dead += [f"{path.name} loads {link}"] if link in page.loads else []
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages[target].ids if target in pages else {parts.fragment}
            if not target.is_file() or unquote(parts.fragment) not in known:
                dead.append(f"{path.name} to {link}")
    assert dead == []


def test_every_saved_picture_is_shown(book):
    for notebook in NOTEBOOKS:
        cells = json.loads(notebook.read_text("utf-8"))["cells"]
        saved = [out for cell in cells for out in cell.get("outputs", [])]
        saved = [out for out in saved if "image/png" in out.get("data", {})]
        assert Page(book / html_of(notebook)).pictures >= len(saved), notebook.name


def test_of_a_panel_the_picture_is_shown_and_a_link_to_its_cell_works(tmp_path):
    source = tmp_path / "source"
    (source / "notebooks").mkdir(parents=True)
    (source / "notebooks" / "panel.ipynb").write_text(json.dumps(PANEL), "utf-8")
    (source / "book").mkdir()
    (source / "book" / "index.md").write_text("# Book\n\n```{toctree}\n../notebooks/panel\n```\n")
    path = build(source, tmp_path / "site") / "notebooks" / "panel.html"
    page = Page(path)
    assert page.pictures == 1
    assert "a line of text" not in path.read_text("utf-8")
    assert "#cell-panel" in page.links
    assert "cell-panel" in page.ids


@pytest.mark.parametrize("name", ["01_rnn_and_bptt", "00_start_here"])
def test_a_page_shows_formulas_figures_and_chinese(address, page, name):
    asked, failed = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
    page.goto(f"{address}/notebooks/{name}.html")
    if name.startswith("01"):
        page.locator("mjx-container").first.wait_for(timeout=60_000)
        assert page.locator("mjx-container").first.bounding_box()["width"] > 5
        assert page.locator("mjx-merror").count() == 0
        assert "$" not in page.locator("#back-to-the-reviews").inner_text()
    page.wait_for_load_state("networkidle")
    widths = page.evaluate("[...document.images].map(i => (i.loading = 'eager', i.naturalWidth))")
    assert widths
    assert all(widths)
    assert "循环神经网络" in page.locator("article").inner_text()
    fonts = page.evaluate("[...document.fonts].filter(f => f.status == 'error').length")
    assert fonts == 0
    assert failed == []
    assert [url for url in asked if not url.startswith((address, "data:"))] == []


def test_the_first_page_leads_to_the_notebooks(address, page):
    page.goto(address)
    page.wait_for_url("**/book/index.html")
    page.get_by_role("link", name="04 · Federated averaging").first.click()
    page.wait_for_url("**/notebooks/04_federated_averaging.html")
    assert page.locator("article h1").inner_text().startswith("04 · Federated averaging")
