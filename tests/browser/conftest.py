"""A real JupyterLab and a real Chromium, for the tests that drive a panel as a reader does."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
]  # fmt: skip
# Where JupyterLab keeps what a user has chosen, such as a theme: not that of whoever tests.
_OF_THE_USER = ("JUPYTER_CONFIG_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
TOKEN = "for-tests-on-this-machine-only"


FAULTS = """() => {
  const found = [], box = (e) => e.getBoundingClientRect();
  const seen = (e) => e.offsetParent !== null || e.tagName === 'text';
  const panel = document.querySelector('.fl-lab, .fl-sides'), whole = box(panel);
  const outside = (e) => box(e).right > whole.right + 2 || box(e).left < whole.left - 2;
  for (const e of panel.querySelectorAll('button, select, input[type=text], .noUi-base, svg'))
    if (seen(e) && !e.closest('.fl-table') && outside(e))
      found.push('outside: ' + (e.textContent || e.className).slice(0, 40));
  for (const e of panel.querySelectorAll('.widget-label, button, .fl-status')) {
    const hides = getComputedStyle(e).overflow === 'hidden';
    if (seen(e) && hides && e.scrollWidth > e.clientWidth + 1) found.push('cut: ' + e.textContent);
  }
  for (const drawn of panel.querySelectorAll('svg')) {
    const texts = [...drawn.querySelectorAll('text')].map((e) => [e.textContent, box(e)]);
    texts.forEach(([one, a], i) => texts.slice(i + 1).forEach(([other, b]) => {
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 1 && high > 3) found.push('over each other: ' + one + ' / ' + other);
    }));
  }
  if (document.querySelector('.jupyter-widgets-error-widget')) found.push('a broken widget');
  return found;
}"""


# What cuts an element, the window or a box around it; nothing where it is whole.
CUT_BY = """(e) => {
  const own = e.getBoundingClientRect();
  const within = (box) => own.left >= box.left - 1 && own.right <= box.right + 1
    && own.top >= box.top - 1 && own.bottom <= box.bottom + 1;
  if (!within({ left: 0, top: 0, right: innerWidth, bottom: innerHeight })) return 'the window';
  for (let at = e.parentElement; at !== document.body; at = at.parentElement) {
    const look = getComputedStyle(at);
    const cuts = look.overflowX !== 'visible' || /content|strict|paint/.test(look.contain);
    if (cuts && !within(at.getBoundingClientRect()))
      return [at.className, JSON.stringify(own), JSON.stringify(at.getBoundingClientRect())].join();
  }
  return '';
}"""


def wait_for(condition, seconds: float, what: str):
    """Return the first true value of `condition()`; fail by name when the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.2)
    pytest.fail(f"waited {seconds} s for {what}")


def says(page, pattern: str, seconds: float = 60) -> str:
    """Wait until the panel's line matches, and return it."""
    found = "(p) => RegExp(p).test(document.querySelector('.fl-status')?.textContent ?? '')"
    page.wait_for_function(found, arg=pattern, timeout=1000 * seconds)
    return page.text_content(".fl-status")


def choose(page, control: str, label: str) -> None:
    page.locator(f".fl-{control} select").first.select_option(label=label)


def press(page, control: str, *keys: str) -> None:
    """Press keys on a slider, each once the one before has been dealt with."""
    slider = page.locator(f".fl-{control}").first
    slider.locator(".noUi-handle").focus()
    for key in keys:
        before = slider.locator(".widget-readout").inner_text()
        page.keyboard.press(key)
        page.wait_for_timeout(150)
        assert key == "Home" or slider.locator(".widget-readout").inner_text() != before


def faults(page) -> list[str]:
    """Return what is wrong with how the panel lies on the page: controls that are cut or outside of
    their panel, texts that lie over each other, errors in the place of a widget."""
    return page.evaluate(FAULTS)


def picture(page, name: str) -> None:
    """Save what is on the screen where `SCREENSHOTS` names a folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")


class Lab:
    """One JupyterLab server on this machine, its root a copy of the notebooks."""

    def __init__(self, folder: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        shutil.copytree(ROOT / "notebooks", folder / "notebooks")
        shutil.copytree(ROOT / "data" / "results", folder / "data" / "results")
        command = [
            sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root",
            f"--ServerApp.port={self.port}", "--ServerApp.ip=127.0.0.1",
            f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}",
            "--LabApp.expose_app_in_browser=True",
        ]  # fmt: skip
        self.folder, self.log = folder, folder / "server.log"
        own = {name: str(folder / name.lower()) for name in _OF_THE_USER}
        surroundings = os.environ | own | {"PYTHONUTF8": "1"}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=surroundings)
        wait_for(lambda: self.ask("status"), 60, "JupyterLab to start")

    def ask(self, what: str):
        """Return what the server's API says, or None while it does not answer."""
        url = f"http://127.0.0.1:{self.port}/api/{what}?token={TOKEN}"
        try:
            with urlopen(url, timeout=5) as answer:
                return json.load(answer)
        except (URLError, TimeoutError, ConnectionError):
            return None

    def end(self, session: str) -> None:
        """End a notebook's kernel."""
        url = f"http://127.0.0.1:{self.port}/api/sessions/{session}?token={TOKEN}"
        urlopen(Request(url, method="DELETE"), timeout=20)

    def open(self, page, name: str) -> None:
        """Open a notebook, and wait for its kernel."""
        page.goto(f"http://127.0.0.1:{self.port}/lab/tree/notebooks/{name}?reset&token={TOKEN}")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        wait_for(self.kernel_waits, 60, "the kernel")

    def kernel_waits(self) -> bool:
        """Whether a kernel is idle and a page is connected to it."""
        kernels = [session["kernel"] for session in self.ask("sessions") or []]
        return any(k["execution_state"] == "idle" and k["connections"] for k in kernels)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    server = Lab(tmp_path_factory.mktemp("lab"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def page():
    """Return a page of a headless Chromium; `CHROMIUM` names its program if it is elsewhere."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if not program:
        pytest.fail("no Chromium found: install the package chromium, or set CHROMIUM to one")
    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=program, args=FLAGS)
        yield browser.new_page(viewport={"width": 1300, "height": 1000})
        browser.close()


def panel_cell(name: str) -> str:
    """Return the source of the notebook's cell that shows a panel."""
    cells = json.loads((ROOT / "notebooks" / name).read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    shows = re.compile(r"lessons\.panels import \w+(Lab|Panel|Explorer)\n")
    (found,) = (source for source in sources if shows.search(source))
    return found


@pytest.fixture
def open_panel(lab, page):
    """Return a function that opens a notebook of one cell, that of a notebook's panel or `source`,
    in a kernel of its own, as after a restart, and runs it."""

    def run(name: str, seconds: float = 120, source: str = "") -> None:
        for session in lab.ask("sessions") or []:
            lab.end(session["id"])
        cell = {"cell_type": "code", "id": "panel", "metadata": {}, "outputs": []}
        cell |= {"source": source or panel_cell(name), "execution_count": None}
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        notebook = {"cells": [cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
        path = lab.folder / "notebooks" / f"panel_of_{name}"
        path.write_text(json.dumps(notebook))
        lab.open(page, path.name)
        page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
        says(page, ".", seconds)
        wait_for(lab.kernel_waits, seconds, "the cell")

    return run
