"""The two explorers, driven in JupyterLab as a reader drives them."""

import re

import pytest
from conftest import choose, faults, picture, press, says

pytestmark = pytest.mark.browser
READOUT = re.compile(
    r"(\d+) steps back, at radius ([\d.]+) .* gradient is (\S+)(?:\s×\s10(\S+))? times as long"
)


def told(page) -> tuple[int, float, float]:
    """Return steps, radius and length as the line above the figure says them."""
    said = page.text_content(".fl-status")
    found = READOUT.search(said)
    assert found, f"the line above the figure says {said!r}"
    steps, radius, length, power = found.groups()
    exponent = (power or "0").translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))
    return int(steps), float(radius), float(length) * 10.0 ** int(exponent)


def pixels(page) -> bytes:
    """Return what the map looks like."""
    return page.locator(".fl-map svg").first.screenshot()


def changes(page, before: str) -> None:
    differs = "old => document.querySelector('.fl-status').textContent !== old"
    page.wait_for_function(differs, arg=before)


def test_the_gradient_panel_follows_its_controls(open_panel, page):
    open_panel("01_rnn_and_bptt.ipynb")
    assert faults(page) == []
    steps, radius, length = told(page)
    assert radius == 1.0
    drawn = pixels(page)

    press(page, "steps", "ArrowLeft", "ArrowLeft")
    says(page, f"^{steps - 2} steps")
    assert told(page)[2] > length  # nearer to the start, the gradient is longer
    assert pixels(page) != drawn

    length = told(page)[2]
    press(page, "radius", "ArrowRight", "ArrowRight", "ArrowRight")
    says(page, f"radius {radius + 0.15:.2f} ")
    assert told(page)[2] > length

    length, drawn, before = told(page)[2], pixels(page), page.text_content(".fl-status")
    page.locator(".fl-scale button", has_text=re.compile(r"^0$")).click()
    changes(page, before)
    assert told(page)[2] > 100 * length  # a quiet network's gradient explodes at this radius
    assert pixels(page) != drawn
    picture(page, "gradient_panel")

    drawn = page.locator(".fl-map svg").first.bounding_box()
    page.mouse.move(drawn["x"] + 200, drawn["y"] + 150)
    assert re.match(r"\d+ steps back, radius [\d.]+: ", page.inner_text(".fl-map .fl-tip"))
    before = page.text_content(".fl-status")
    page.mouse.down()
    page.mouse.move(drawn["x"] + 300, drawn["y"] + 60, steps=10)
    page.mouse.up()
    changes(page, before)
    page.wait_for_timeout(500)
    steps, radius, _ = told(page)
    tip = page.inner_text(".fl-map .fl-tip")
    assert tip.startswith(f"{steps} steps back, radius {radius:.2f}: ")
    assert page.locator(".fl-steps .widget-readout").inner_text() == str(steps)

    page.get_by_role("button", name="No inputs, radius 1").click()
    says(page, "^40 steps back, at radius 1.00 and inputs of size 0.*Does radius 1 alone")
    assert faults(page) == []


def test_the_partition_explorer_follows_its_controls(open_panel, page):
    open_panel("06_when_clients_differ.ipynb")
    assert says(page, "reviews").startswith("20 clients of ")
    assert faults(page) == []
    drawn, before = pixels(page), page.text_content(".fl-status")

    press(page, "explorer-alpha", "ArrowLeft", "ArrowLeft")  # to more unlike clients
    changes(page, before)
    assert pixels(page) != drawn

    drawn, before = pixels(page), page.text_content(".fl-status")
    choose(page, "explorer-kind", "one domain a client")
    changes(page, before)
    assert pixels(page) != drawn
    assert "has no alpha" in page.inner_text(".fl-form")
    picture(page, "partition_explorer")

    page.locator(".fl-amount").nth(3).hover()
    assert page.inner_text(".fl-map .fl-tip").startswith("client 3: ")
    page.get_by_role("button", name="One large client").click()
    says(page, "the largest with 27% of all.*Do the two lower maps show")
    choose(page, "explorer-kind", "one domain a client")
    says(page, "Do the two lower maps show.*one client holds 27% of all")

    press(page, "explorer-clients", "Home")  # two, for four domains
    says(page, "2 clients cannot be dealt.*a client for each of the 4 domains")
    assert page.locator(".fl-pale").count() == 1
    assert faults(page) == []


def test_the_leak_panel_reads_what_is_sent(open_panel, page):
    open_panel("11_what_an_update_gives_away.ipynb")
    says(page, "^1 of 1 reviews are read word for word, 1 with a certificate; 6 of 6 words")
    assert "房间" in page.inner_text(".fl-reading")
    assert faults(page) == []

    page.get_by_role("button", name="Four reviews at once").click()
    says(page, "^4 of 4 reviews are read")
    assert page.locator(".fl-reading").count() == 4
    picture(page, "leak_panel")

    press(page, "leak-noise", "End")
    says(page, "^0 of 4 reviews are read")
    choose(page, "sends", "Adam")
    press(page, "local-steps", "End")
    assert page.locator(".fl-local-steps .widget-readout").inner_text() == "5"
    press(page, "leak-noise", "Home")
    says(page, "of 4 reviews are read")
    assert faults(page) == []
