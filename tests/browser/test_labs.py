"""The three labs, driven in JupyterLab as a reader drives them: by clicks, and by keys alone."""

import re
import time

import pytest
from conftest import CUT_BY, choose, faults, picture, press, says, wait_for

pytestmark = pytest.mark.browser
ANSWER = 2.0  # seconds until a click is answered; on two idle cores 0.2, which no test can hold
LABS = {  # notebook -> a first run: controls, and how it is called
    "07_aggregation_strategies.ipynb": ({"strategy": "FedProx"}, r"FedProx \(mu="),
    "09_sending_less.ipynb": ({"keep": "low-rank factors", "write": "4 bits"}, "low-rank factors"),
    "08_personalization.ipynb": ({"method": "FedPer, own head"}, "FedPer, own head"),
}


@pytest.fixture(params=LABS, ids=lambda name: name[:2])
def lab_page(request, open_panel, page):
    """Return the page with one lab on it, its rounds set to few, and what its first run is."""
    page.set_viewport_size({"width": 1300, "height": 1100})
    open_panel(request.param)
    page.locator("[class*=fl-open-] ").first.click()
    rounds = page.locator(".fl-rounds .noUi-handle").first
    rounds.wait_for(state="visible")
    press(page, "rounds", "Home", "ArrowRight")
    settings, called = LABS[request.param]
    for control, value in settings.items():
        choose(page, control, value)
    return page, called


def test_tracks_are_long_enough_where_there_is_little_room(lab_page):
    page, _ = lab_page
    page.set_viewport_size({"width": 1000, "height": 1000})
    page.wait_for_timeout(500)
    read = "all => all.filter(e => e.offsetParent).map(e => e.getBoundingClientRect().width)"
    tracks = page.eval_on_selector_all(".fl-form .noUi-target", read)
    picture(page, "lab_narrow")
    assert len(tracks) >= 3
    assert min(tracks) >= 140, tracks


def has_focus(page, look: str) -> None:
    """Wait until the control with this class has the focus."""
    at = "look => document.activeElement.classList.contains(look)"
    page.wait_for_function(at, arg=look, timeout=5000)


def rows(page) -> list[str]:
    """Return the names in the table."""
    read = "names => names.map(name => name.value)"  # at once: the table may be drawn anew
    return page.eval_on_selector_all(".fl-name", read)


def test_a_run_from_click_to_row(lab_page, lab):
    page, called = lab_page
    assert faults(page) == []
    page.wait_for_function(
        "p => RegExp(p).test(document.querySelector('.fl-run').innerText)", arg=f"Run {called}"
    )
    began = time.monotonic()
    page.locator(".fl-run").click()
    says(page, f"^(Starting|Running): .*{called}", ANSWER)
    print(f"answered after {time.monotonic() - began:.2f} s")
    assert page.locator(".fl-track").first.is_visible()
    says(page, rf"^Done: 1 {called}", 240)
    print(f"over after {time.monotonic() - began:.1f} s")
    assert len(rows(page)) == 1
    lines = page.locator(".fl-line")
    assert lines.count() >= 1
    assert faults(page) == []
    picture(page, f"lab_{called.split(' ')[0].strip(',')}")

    # A pointer is told values, the legend hides, a row is named, sorted by, saved and dropped.
    tip = page.locator(".fl-lab .fl-tip")
    chart = page.locator(".fl-panes svg").first
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    for share in (0.3, 0.5, 0.8):
        at = box["x"] + share * box["width"], box["y"] + box["height"] / 2
        page.mouse.move(*at)
        tip.wait_for(state="visible")
        assert rows(page)[0] in tip.inner_text()
        assert re.search(r": [+-]?\d+(\.\d+)?", tip.inner_text())  # the value
        assert tip.evaluate(CUT_BY) == ""
        found = tip.bounding_box()
        assert found["y"] - 20 < at[1] < found["y"] + found["height"] + 20  # beside the pointer
    shown = lines.count()
    page.locator(".fl-legend-item").first.click()
    wait_for(lambda: lines.count() < shown, 10, "the curve to go")
    page.locator("tbody input[type=checkbox]").first.check()
    wait_for(lambda: lines.count() == shown, 10, "the curve to come back")
    page.locator(".fl-name").first.fill("my first")
    page.keyboard.press("Tab")
    wait_for(lambda: rows(page) == ["1 my first"], 10, "the new name")
    page.locator("th button").nth(1).click()
    assert page.locator("th[aria-sort=descending]").count() == 1
    page.locator(".fl-save").click()
    kept = page.locator(".fl-kept", has_text="saved as")
    kept.wait_for()
    file = kept.inner_text().split("saved as ")[1].strip().rstrip(".")
    assert (lab.folder / "notebooks" / file).read_text().startswith("run,")
    page.locator(".fl-drop").first.click()
    wait_for(lambda: rows(page) == [], 10, "the row to go")


def test_stop_chips_and_seeds(lab_page):
    page, _ = lab_page
    page.locator(".fl-line-up").click()
    page.locator(".fl-chip").first.wait_for()
    page.locator(".fl-chip").first.click()
    wait_for(lambda: page.locator(".fl-chip").count() == 0, 10, "the chip to go")
    has_focus(page, "fl-run")
    press(page, "rounds", *["ArrowRight"] * 6)
    page.locator(".fl-run-seeds").click()
    says(page, "^Running", 120)
    page.locator(".fl-run").click()  # a second time: what goes on goes on
    page.locator(".fl-note", has_text="press Stop first").wait_for()
    page.locator(".fl-stop").click()
    says(page, "^Ended early: .*stopped", 60)
    has_focus(page, "fl-run")
    press(page, "rounds", "Home")
    page.locator(".fl-run-seeds").click()
    says(page, r"^Done: .*\(3 seeds\), finished", 300)
    assert any(name.endswith("(3 seeds)") for name in rows(page))
    assert page.locator(".fl-band").count() >= 1
    assert faults(page) == []


def test_by_keys_alone_on_a_narrow_screen_in_the_dark(open_panel, page):
    open_panel("09_sending_less.ipynb")
    page.set_viewport_size({"width": 1000, "height": 900})
    theme = "jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})"
    page.evaluate(theme)
    page.wait_for_timeout(1500)
    assert faults(page) == []
    text, back = (
        page.evaluate(f"getComputedStyle(document.querySelector('.fl-status')).{what}")
        for what in ("color", "backgroundColor")
    )
    assert text.startswith("rgba(255, 255, 255") or text == "rgb(255, 255, 255)", (text, back)

    page.locator(".fl-try-ternary").focus()
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        at = "document.activeElement"
        reached.append(page.evaluate(f"{at}.className + {at}.tagName + {at}.type"))
    everything = " ".join(reached)
    for control in ("fl-run", "fl-line-up", "SELECT", "checkbox", "fl-save"):
        assert control in everything, control

    for off in ("fl-amount", "fl-momentum"):  # every value is sent: there is nothing to choose
        assert f"{off} " not in everything
        within = f"document.querySelector('.{off}').contains(document.activeElement)"
        page.locator(f".{off} .noUi-handle, .{off} input").first.evaluate("e => e.focus()")
        assert not page.evaluate(within)

    page.locator(".fl-keep select").focus()
    page.keyboard.press("ArrowDown")
    says_so = "document.querySelector('.fl-keep select').selectedIndex"
    page.wait_for_function(f"{says_so} === 1")
    page.locator(".fl-amount:not(.fl-off)").wait_for()
    page.keyboard.press("Tab")  # now it matters how much is sent
    has_focus(page, "noUi-handle")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("ArrowUp")
    page.wait_for_function(f"{says_so} === 0")
    page.locator(".fl-save").focus()
    for key in "ddmab":  # in a notebook these delete, insert and change cells
        page.keyboard.press(key)
    assert page.locator(".jp-Notebook .jp-Cell").count() == 1
    assert page.locator(".jp-MarkdownCell").count() == 0

    page.locator(".fl-open-rest").focus()
    page.keyboard.press("Space")
    press(page, "rounds", "Home")
    page.locator(".fl-run").focus()
    page.keyboard.press("Space")
    says(page, "^Done: 1 every value", 120)
    page.locator(".fl-name").first.focus()
    page.keyboard.type("no")
    page.keyboard.press("Escape")  # the name stays
    assert rows(page) == ["1 every value"]
    page.locator(".fl-drop").first.focus()
    page.keyboard.press("Enter")
    wait_for(lambda: rows(page) == [], 10, "the row to go")
    has_focus(page, "fl-run")
    assert page.locator(".jp-mod-editMode").count() == 0  # the notebook has not taken the key
    picture(page, "dark_and_narrow")
    page.evaluate(theme.replace("Dark", "Light"))
    page.set_viewport_size({"width": 1300, "height": 1000})


def test_a_panel_survives(open_panel, lab, page):
    """Its cell run again ends the old run; ■ stops it; without a kernel a picture stays."""
    open_panel("07_aggregation_strategies.ipynb")
    still = page.locator(".jp-RenderedImage")
    assert still.count() == 1
    assert not still.first.is_visible()
    press(page, "rounds", *["ArrowRight"] * 20)
    page.locator(".fl-run").click()
    says(page, "^Running", 60)
    page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
    says(page, "^Press an experiment", 60)
    assert not page.locator(".fl-run").is_disabled()
    press(page, "rounds", "ArrowRight")
    page.locator(".fl-run").click()
    says(page, "^Running: 1 FedAvg", 60)
    page.evaluate("jupyterapp.commands.execute('notebook:interrupt-kernel')")
    says(page, "^Ended early: 1 FedAvg, stopped", 60)

    page.evaluate("() => { jupyterapp.commands.execute('kernelmenu:restart'); }")
    page.locator(".jp-Dialog .jp-mod-accept").click()
    still.first.wait_for(state="visible", timeout=30_000)  # no dead buttons beside it
    assert not page.locator(".fl-lab").first.is_visible()
    wait_for(lab.kernel_waits, 60, "the new kernel")
    page.wait_for_timeout(3000)
    page.evaluate("jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_timeout(1500)
    for session in lab.ask("sessions"):
        lab.end(session["id"])
    lab.open(page, "panel_of_07_aggregation_strategies.ipynb")
    still.first.wait_for(state="visible", timeout=30_000)
    page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
    says(page, "^Press an experiment", 120)
    still.first.wait_for(state="hidden", timeout=10_000)  # a moment after the panel is alive
