"""The lab of privacy as a reader drives it: the dial answers each move, and a run is drawn."""

import time

import pytest
from conftest import CUT_BY, choose, faults, picture, press, says

pytestmark = pytest.mark.browser
SCREENS = (1400, "Dark"), (1000, "Dark"), (1000, "Light"), (1400, "Light")
WRONG = {  # mechanism -> the epsilon that the needle shows
    "clipped per layer": r"[3-6](\.\d)?",
    "one layer without noise": "∞",
    "noise ÷ 10": r"\d\d\d",
}


def dial_says(page, pattern: str) -> str:
    """Wait until the dial's sentences match, and return them."""
    found = "(p) => RegExp(p).test(document.querySelector('.fl-dial').textContent)"
    page.wait_for_function(found, arg=pattern, timeout=30_000)
    return page.text_content(".fl-dial")


def test_the_dial_answers_and_a_run_is_drawn(open_panel, page):
    page.set_viewport_size({"width": 1400, "height": 1100})
    open_panel("12_what_protects.ipynb")
    dial_says(page, "Claimed: ε = 3.2 .*No more than claimed, up to chance")
    picture(page, "privacy_at_first")
    began = time.monotonic()
    press(page, "noise-multiplier", "ArrowRight")
    dial_says(page, "Claimed: ε = 2.3 .*No more than claimed, up to chance")
    print(f"answered after {time.monotonic() - began:.2f} s")
    for kind, told in WRONG.items():
        choose(page, "mechanism", kind)
        dial_says(page, f"Claimed: ε = 2.3 .*canaries: ε = {told}. More than is claimed")
        picture(page, f"privacy_{kind.replace(' ', '_').replace('÷', 'by')}")
    assert page.locator(".fl-dial .fl-beyond").count() == 1

    press(page, "rounds", "Home", *["ArrowRight"] * 3)
    dial_says(page, "Rounds: 4,")
    page.locator(".fl-run").click()
    says(page, "^(Starting|Running).*noise 1.2, clip 1", 10)
    says(page, "^Running.*in round 1", 120)
    print(f"first rounds after {time.monotonic() - began:.1f} s")
    says(page, "^Done: ", 240)
    assert page.locator(".fl-line").count() == 2
    for width, theme in SCREENS:
        page.set_viewport_size({"width": width, "height": 1100})
        change = f"'apputils:change-theme', {{theme: 'JupyterLab {theme}'}}"
        page.evaluate(f"jupyterapp.commands.execute({change})")
        page.wait_for_timeout(1500)
        assert faults(page) == []
        picture(page, f"privacy_{width}_{theme.lower()}")

    page.set_viewport_size({"width": 1000, "height": 900})
    page.locator(".fl-rounds").first.scroll_into_view_if_needed()
    assert page.locator(".fl-dial svg").evaluate(CUT_BY) == ""  # where a control is moved
    picture(page, "privacy_controls_1000")
