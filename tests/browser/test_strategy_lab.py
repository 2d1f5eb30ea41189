"""The strategy lab of notebook 07, driven in JupyterLab as a reader drives it."""

import os
import re
from pathlib import Path

import pytest
from conftest import choose, pixels, says, wait_for

pytestmark = pytest.mark.browser
NOTEBOOK = "07_aggregation_strategies.ipynb"


def table(page) -> list[str]:
    """Return the rows of the table as text, without its head."""
    return page.locator(".fl-table tbody tr").all_inner_texts()


def test_two_runs_of_the_strategy_lab(open_and_run, page):
    open_and_run(NOTEBOOK)
    errors = page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.error']")
    assert errors.count() == 0
    run, stop = (page.locator(f".fl-{name}").first for name in ("run", "stop"))
    run.scroll_into_view_if_needed()
    already = len(table(page))

    choose(page, "fl-strategy", "worst group first")
    page.locator(".fl-parameter-rate").first.wait_for()  # its own slider has come
    before = pixels(page)
    run.click()
    says(page, r"worst group first \(rate=0\.1\), round [1-9]\d* of")
    wait_for(lambda: pixels(page) != before, 30, "the picture to change")
    says(page, r"round ([2-9]|1\d) of")
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "strategy_lab.png")
    assert run.is_disabled()
    stop.click()
    says(page, r"^Done: .*worst group first \(rate=0\.1\), stopped")
    stopped = pixels(page)

    choose(page, "fl-strategy", "FedAvg, row by row")
    rounds = page.locator(".fl-rounds .noUi-handle").first
    rounds.focus()
    rounds.press("Home")
    rounds.press("ArrowRight")
    run.click()
    says(page, r"^Done: .*FedAvg, row by row, finished")
    assert pixels(page) != stopped

    first, second = table(page)[already:]
    assert re.search(r"worst group first \(rate=0\.1\).*stopped", first)
    assert re.search(r"FedAvg, row by row.*finished\s+[1-9]", second)
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "strategy_lab_two.png")
