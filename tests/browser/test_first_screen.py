"""What a reader sees first: JupyterLab with the project's settings, and no question about news."""

import sys
from pathlib import Path

import pytest
from conftest import ROOT, TOKEN

pytestmark = pytest.mark.browser
SETTINGS = Path("share/jupyter/lab/settings/overrides.d/fedlab_helpers.json")


def test_the_install_brought_the_settings():
    shipped = (ROOT / "share" / "fedlab_helpers.json").read_text("utf-8")
    place = Path(sys.prefix) / SETTINGS
    assert place.exists(), "install the package anew: pip install -e ."
    assert place.read_text("utf-8") == shipped


def test_nothing_pops_up_and_nothing_leaves_the_machine(lab, page):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    notebook = "lab/tree/notebooks/00_start_here.ipynb"
    page.goto(f"http://127.0.0.1:{lab.port}/{notebook}?reset&token={TOKEN}")
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    page.wait_for_timeout(8000)  # the question came within two seconds when it came
    assert page.locator(".Toastify__toast").all_inner_texts() == []
    here = f"://127.0.0.1:{lab.port}/"
    assert [url for url in asked if here not in url and url.startswith("http")] == []
    assert [url for url in asked if "/lab/api/news" in url or "/lab/api/update" in url] == []
