"""The panel of briefs as a reader drives it: compose, run, report, exam, and a saved page."""

import pytest
from conftest import choose, faults, picture, press, says

pytestmark = pytest.mark.browser
SCREENS = (1300, "Light"), (1300, "Dark"), (700, "Light"), (700, "Dark")


def waits_for(page, selector: str, pattern: str, seconds: float = 60) -> None:
    found = "([s, p]) => RegExp(p).test(document.querySelector(s)?.textContent ?? '')"
    page.wait_for_function(found, arg=[selector, pattern], timeout=1000 * seconds)


def test_a_design_is_composed_run_examined_and_saved(open_panel, page, lab):
    page.set_viewport_size({"width": 1300, "height": 1000})
    open_panel("16_design_under_budgets.ipynb", seconds=180)
    assert "A design for a hotel chain" in page.text_content(".fl-brief")
    assert page.locator(".fl-brief-exam").is_disabled()
    picture(page, "brief_opened")

    choose(page, "strategy", "median")
    page.locator(".fl-secure input").check()
    waits_for(page, ".fl-note", "their mean only")
    assert page.locator(".fl-brief-run").is_disabled()
    page.locator(".fl-secure input").uncheck()
    waits_for(page, ".fl-note", "^$")

    page.locator(".fl-design-compressed").click()
    waits_for(page, ".fl-amount .widget-readout", "5%")
    press(page, "rounds", "Home")
    press(page, "rounds", "ArrowRight")
    page.locator(".fl-brief-run").click()
    says(page, r"of 4 budgets met", 240)
    report = page.locator(".fl-report")
    assert "Among other designs" in report.inner_text()
    assert report.locator("img").count() == 2
    assert "Designs run so far: 1" in report.inner_text()

    page.locator(".fl-brief-exam").click()
    said = says(page, "The exam: accuracy", 60)
    assert "there is no second one" in said
    assert page.locator(".fl-brief-exam").is_disabled()
    assert "Designs run until then: 1" in report.inner_text()
    page.locator(".fl-brief-save").click()
    waits_for(page, ".fl-kept", "Saved as hotels.html")
    saved = (lab.folder / "notebooks" / "hotels.html").read_text(encoding="utf-8")
    assert saved.count("data:image/png;base64,") == 2

    press(page, "rounds", "ArrowRight")
    page.locator(".fl-brief-run").click()
    page.locator(".fl-stop").click()
    says(page, "no report", 60)
    for width, theme in SCREENS:
        page.set_viewport_size({"width": width, "height": 1300})
        change = f"'apputils:change-theme', {{theme: 'JupyterLab {theme}'}}"
        page.evaluate(f"jupyterapp.commands.execute({change})")
        page.wait_for_timeout(1500)
        assert faults(page) == []
        picture(page, f"brief_{width}_{theme.lower()}")
    page.goto((lab.folder / "notebooks" / "hotels.html").as_uri())
    assert page.locator("h2").inner_text() == "A design for a hotel chain"
    assert page.evaluate("document.images.length") == 2
    assert page.evaluate("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
    picture(page, "brief_saved_page")
