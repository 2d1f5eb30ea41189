"""What one client keeps between the rounds of a run, on its own machine's disk."""

import hashlib
import os
import shutil
from pathlib import Path

from fedlab_helpers.core import wire
from fedlab_helpers.core.checkpoint import flat, nested
from fedlab_helpers.core.messages import ClientState
from fedlab_helpers.core.require import is_count, require

RUNS = 10  # of which a folder keeps something; older ones make room
_DATA, _HELD = "examples.sha256", "held"


class Kept:
    """A folder for one client of one run; on POSIX nobody but its owner can look into it.

    Two rounds lie there: the last one whose update the server could use, and the last one in which
    the client trained. Who answered in vain goes back: as if it had not been asked. A round is
    written aside and moved into place, so that it is there whole, or not at all.

    Args:
        folder: of the client, for all its runs; made if it is not there.
        run: letters and digits, which the server chose. Raises ValueError for any other name.
    """

    def __init__(self, folder: str | Path, run: str):
        fine = isinstance(run, str) and run.isascii() and run.isalnum() and len(run) <= 64
        require(fine, "run", run, "up to 64 letters and digits")
        self.folder = Path(folder) / run

    def load(self, latest: int) -> ClientState:
        """Return what the client kept of round `latest`, the last that counted; 0: there was none.

        Raises ValueError: it is not there any more, or is damaged.
        """
        if latest == 0:
            return {}
        path = self._path(latest)
        if not path.exists():
            why = f"its node was started anew without its folder, or {RUNS} other runs came since"
            raise ValueError(f"what this client keeps of round {latest} is lost: {why}")
        return nested(wire.dense().decode(path.read_bytes()))

    def save(self, number: int, latest: int, kept: ClientState) -> None:
        """Keep this of round `number`, beside that of `latest`; what is older is removed."""
        self._make_folder()
        self._write(self._path(number).name, wire.dense().encode(flat(kept)))
        needed = {self._path(each) for each in (number, latest) if each != 0}
        for path in {*self.folder.glob("round*")} - needed:
            path.unlink()

    def hold(self, held: ClientState) -> None:
        """Keep the weights that came, in place of those of before."""
        self._make_folder()
        self._write(_HELD, wire.dense().encode(flat(held)))

    def held(self) -> ClientState:
        """Return the weights that came last; nothing where none did. Raises ValueError: damaged."""
        path = self.folder / _HELD
        return nested(wire.dense().decode(path.read_bytes())) if path.exists() else {}

    def require_same_examples(self, path: str | Path, expected: str) -> None:
        """Raise ValueError unless the client's file is what it was when its node came (`expected`,
        of `digest`), and when it first took part in this run."""
        found, first = digest(path), self.folder / _DATA
        require(found == expected, "examples", path, "the file as it was when this node came")
        if not first.exists():
            self._make_folder()
            self._write(_DATA, found.encode())
        same = first.read_text("utf-8") == found
        require(same, "examples", path, "the file as it was when this client joined the run")

    def _path(self, number: int) -> Path:
        require(is_count(number), "round", number, "an integer of at least 1")
        return self.folder / f"round{number}"

    def _make_folder(self) -> None:
        if self.folder.exists():
            os.utime(self.folder)
            return
        for path in (self.folder.parent, self.folder):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        runs = [path for path in self.folder.parent.iterdir() if path.is_dir()]
        for old in sorted(runs, key=lambda path: path.stat().st_mtime)[:-RUNS]:
            shutil.rmtree(old, ignore_errors=True)

    def _write(self, name: str, content: bytes) -> None:
        """Write a file at once, for its owner only."""
        aside = self.folder / f"{name}.new"
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self.folder / name)


def digest(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
