"""The compression lab of notebook 09, driven in JupyterLab as a reader drives it."""

import os
from pathlib import Path

import pytest
from conftest import choose, pixels, says, wait_for

pytestmark = pytest.mark.browser
NOTEBOOK = "09_sending_less.ipynb"


def test_two_points_on_the_frontier(open_and_run, page):
    open_and_run(NOTEBOOK)
    errors = page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.error']")
    assert errors.count() == 0
    run, stop = (page.locator(f".fl-{name}").first for name in ("run", "stop"))
    run.scroll_into_view_if_needed()
    before = pixels(page)
    run.click()
    says(page, r"every value, 32 bits, Zstandard: round [1-9]\d* of 10", 60)
    wait_for(lambda: pixels(page) != before, 30, "the picture to change")
    assert run.is_disabled()
    stop.click()
    says(page, r"^Done: every value, 32 bits, Zstandard, stopped")
    stopped = pixels(page)

    choose(page, "fl-keep", "low-rank factors")
    page.locator(".fl-amount:not([disabled]) .noUi-handle").first.wait_for()  # ranks have come
    choose(page, "fl-write", "4 bits")
    page.locator(".fl-feedback input").check()
    rounds = page.locator(".fl-rounds .noUi-handle").first
    rounds.focus()
    rounds.press("Home")
    run.click()
    says(page, r"^Done: low-rank factors \(rank 1\), 4 bits, Zstandard, EF: .* times fewer", 60)
    assert pixels(page) != stopped
    rows = page.locator(".fl-table tbody tr").all_inner_texts()
    assert len(rows) == 2
    assert "low-rank factors (rank 1), 4 bits" in rows[1]
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "compression_lab.png")
