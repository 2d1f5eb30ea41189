"""The personal lab of notebook 08, driven in JupyterLab as a reader drives it."""

import os
from pathlib import Path

import pytest
from conftest import choose, pixels, says, wait_for

pytestmark = pytest.mark.browser
NOTEBOOK = "08_personalization.ipynb"


def test_two_runs_of_the_personal_lab(open_and_run, page):
    open_and_run(NOTEBOOK)
    errors = page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.error']")
    assert errors.count() == 0
    run, stop = (page.locator(f".fl-{name}").first for name in ("run", "stop"))
    run.scroll_into_view_if_needed()

    choose(page, "fl-method", "Ditto")
    page.locator(".fl-number:not([disabled]) .noUi-handle").first.wait_for()  # its pull has come
    choose(page, "fl-partition", "one domain a client")
    before = pixels(page)
    run.click()
    says(page, r"Ditto \(pull 10\), one domain a client: the shared model after round \d+")
    wait_for(lambda: pixels(page) != before, 30, "the picture to change")
    assert run.is_disabled()
    stop.click()
    says(page, r"^Done: Ditto .*stopped")
    stopped = pixels(page)

    choose(page, "fl-method", "FedPer, own head")
    rounds = page.locator(".fl-rounds .noUi-handle").first
    rounds.focus()
    rounds.press("Home")
    run.click()
    says(page, r"round \d+, client \d+ of 20")
    says(page, r"^Done: FedPer, own head.* points on average; \d+ of 20 clients lose", 120)
    assert pixels(page) != stopped
    (row,) = page.locator(".fl-table tbody tr").all_inner_texts()
    assert "FedPer, own head" in row
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "personal_lab.png")
