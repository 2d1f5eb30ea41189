"""Each panel of the series, driven in JupyterLab as a reader drives it."""

import os
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser
READOUT = re.compile(r"(\d+) steps back, at radius ([\d.]+) .* is (\S+) times as long")


def told(page) -> tuple[int, float, float]:
    """Return steps, radius and length as the line below the figure says them."""
    said = page.text_content(".fl-readout")
    found = READOUT.search(said)
    assert found, f"the line below the figure says {said!r}"
    steps, radius, length = found.groups()
    return int(steps), float(radius), float(length)


def pixels(page) -> bytes:
    """Return the figure's pixels; its address differs each time anyway."""
    return page.locator(".jp-OutputArea-output img.widget-image").first.screenshot()


def changes(page, before) -> None:
    page.wait_for_function(
        "old => document.querySelector('.fl-readout').textContent !== old", arg=before
    )


def press(page, control: str, key: str, times: int = 1) -> None:
    handle = page.locator(f".{control} .noUi-handle").first
    handle.focus()
    for _ in range(times):
        before = page.text_content(".fl-readout")
        handle.press(key)
        changes(page, before)


def test_the_gradient_panel_follows_its_controls(open_and_run, page):
    open_and_run("01_rnn_and_bptt.ipynb")
    errors = page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.error']")
    assert errors.count() == 0
    panel = page.locator(".fl-readout").first
    panel.scroll_into_view_if_needed()
    press(page, "fl-radius", "Home")  # wherever the notebook's own cells have moved it
    press(page, "fl-radius", "ArrowRight", 15)
    steps, radius, length = told(page)
    assert radius == 1.0
    drawn = pixels(page)

    press(page, "fl-steps", "ArrowLeft", 2)
    assert told(page)[0] == steps - 2
    assert told(page)[2] > length  # nearer to the start, the gradient is longer
    assert pixels(page) != drawn

    length = told(page)[2]
    press(page, "fl-radius", "ArrowRight", 3)
    assert told(page)[1] == pytest.approx(radius + 0.15)
    assert told(page)[2] > length

    length, drawn, before = told(page)[2], pixels(page), page.text_content(".fl-readout")
    page.locator(".fl-scale button", has_text=re.compile(r"^0$")).click()
    changes(page, before)
    assert told(page)[2] > 100 * length  # a quiet network's gradient explodes at this radius
    assert pixels(page) != drawn
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "gradient_panel.png")


def test_the_partition_explorer_follows_its_controls(open_and_run, page):
    open_and_run("06_when_clients_differ.ipynb")
    errors = page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.error']")
    assert errors.count() == 0
    page.locator(".fl-readout").first.scroll_into_view_if_needed()
    assert page.text_content(".fl-readout").startswith("20 clients of ")
    drawn = pixels(page)

    press(page, "fl-explorer-alpha", "ArrowLeft", 2)  # to more unlike clients
    assert pixels(page) != drawn

    drawn, before = pixels(page), page.text_content(".fl-readout")
    page.locator(".fl-explorer-kind select").first.select_option(label="one domain a client")
    changes(page, before)
    assert pixels(page) != drawn
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "partition_explorer.png")

    drawn = pixels(page)
    press(page, "fl-explorer-clients", "Home")  # two, for four domains
    assert "cannot be dealt" in page.text_content(".fl-readout")
    assert pixels(page) == drawn
