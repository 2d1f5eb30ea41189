"""A real JupyterLab and a real Chromium, for the tests that drive a panel as a reader does."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
]  # fmt: skip
TOKEN = "for-tests-on-this-machine-only"


def wait_for(condition, seconds: float, what: str):
    """Return the first true value of `condition()`; fail by name when the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.2)
    pytest.fail(f"waited {seconds} s for {what}")


def says(page, pattern: str, seconds: float = 60) -> None:
    """Wait until the line above the picture matches."""
    found = "(p) => RegExp(p).test(document.querySelector('.fl-status').textContent)"
    page.wait_for_function(found, arg=pattern, timeout=1000 * seconds)


def pixels(page) -> bytes:
    """Return the picture's pixels; its address differs each time anyway."""
    return page.locator("img.fl-image").first.screenshot()


def choose(page, control: str, label: str) -> None:
    page.locator(f".{control} select").first.select_option(label=label)


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
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=os.environ | {"PYTHONUTF8": "1"}
            )
        wait_for(lambda: self.ask("status"), 60, "JupyterLab to start")

    def ask(self, what: str):
        """Return what the server's API says, or None while it does not answer."""
        url = f"http://127.0.0.1:{self.port}/api/{what}?token={TOKEN}"
        try:
            with urlopen(url, timeout=5) as answer:
                return json.load(answer)
        except (URLError, TimeoutError, ConnectionError):
            return None

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


@pytest.fixture(scope="session")
def open_and_run(lab, page):
    """Return a function that opens a notebook, runs all its cells, and waits for the last."""

    def run(name: str, seconds: float = 180) -> None:
        page.goto(f"http://127.0.0.1:{lab.port}/lab/tree/notebooks/{name}?reset&token={TOKEN}")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        wait_for(lab.kernel_waits, 60, "the kernel")
        page.evaluate("jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
        page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
        page.wait_for_timeout(1000)
        busy = (
            "[...document.querySelectorAll('.jp-InputPrompt')].some(p => p.innerText.includes('*'))"
        )
        page.wait_for_function(f"() => !{busy}", timeout=1000 * seconds)
        wait_for(lab.kernel_waits, seconds, "all cells")

    return run
