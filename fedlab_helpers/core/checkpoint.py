"""A run on disk and back: killed at any moment, it goes on from its last finished round.

A folder holds `run.json` (which run this is, its last round, and the files that belong to it),
`records.jsonl`, the server's weights, and one file for each client that keeps something. A round
writes new files first and then replaces `run.json` in one step: before that step the old round is
whole, after it the new one is. Nothing is unpickled.
"""

import hashlib
import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import methodcaller
from pathlib import Path
from typing import Any

from fedlab_helpers.core.history import RoundRecord
from fedlab_helpers.core.messages import ClientState
from fedlab_helpers.core.state import State
from fedlab_helpers.core.wire import Tensors
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews

_FORMAT = 2
_TENSORS = Tensors(keeps_rows=True)


class CheckpointError(ValueError):
    """A checkpoint that is damaged, or of another run; the message names what differs."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A run after its last finished round."""

    server: dict[str, State]
    clients: dict[int, ClientState]
    records: tuple[RoundRecord, ...]


class Checkpoint:
    """A run's folder.

    Args:
        folder: made if it is missing.
        identity: what makes it this run: seed, settings, data. A folder that was written with
            another identity is refused.
    """

    def __init__(self, folder: str | Path, identity: Mapping[str, Any]):
        self.folder = Path(folder)
        plain = json.dumps(dict(identity), default=methodcaller("item"))  # NumPy's numbers
        self.identity = json.loads(plain)
        self._clients: dict[str, str] = {}
        self._records_size = self._records_crc = 0

    def load(self) -> Snapshot | None:
        """Return the last finished round, or None where no round was finished.

        Raises:
            CheckpointError: a file is damaged or missing, or the folder belongs to another run.
        """
        manifest = self.folder / "run.json"
        if not manifest.exists():
            return None
        with _reading(manifest):
            fields = json.loads(manifest.read_bytes())
            self._require_same_run(fields)
            server = _nested(self._read(fields["server"]))
            clients = {
                int(client): _nested(self._read(name)) for client, name in fields["clients"].items()
            }
            self._records_size, self._records_crc = fields["records_size"], fields["records_crc"]
            self._clients = fields["clients"]
            return Snapshot(server, clients, self._read_records())

    def save(
        self,
        server: dict[str, State],
        changed: Mapping[int, ClientState],
        record: RoundRecord,
    ) -> None:
        """Add one finished round.

        Args:
            server: what the server holds after it: its weights, and what its strategy remembers.
            changed: what clients keep, for those that have something new to keep.
            record: of this round.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        server_file = f"server-{record.round:06d}.bin"
        self._write(server_file, _TENSORS.encode(_flat(server)))
        for client, kept in changed.items():
            name = f"client-{client}-{record.round:06d}.bin"
            self._write(name, _TENSORS.encode(_flat(kept)))
            self._clients = {**self._clients, str(client): name}
        self._append(json.dumps(record.to_json()).encode() + b"\n")
        manifest = {
            "format": _FORMAT,
            "identity": self.identity,
            "rounds": record.round,
            "server": server_file,
            "clients": self._clients,
            "records_size": self._records_size,
            "records_crc": self._records_crc,
        }
        self._replace_manifest(json.dumps(manifest).encode())
        self._remove_all_but({server_file, *self._clients.values()})

    def _require_same_run(self, manifest: dict) -> None:
        if manifest["format"] != _FORMAT:
            raise CheckpointError(
                f"{self.folder}: format {manifest['format']!r}, expected {_FORMAT}"
            )
        theirs = manifest["identity"]
        for key in sorted(self.identity.keys() | theirs.keys()):
            if theirs.get(key) != self.identity.get(key):
                raise CheckpointError(
                    f"{self.folder}: holds another run: {key} is {theirs.get(key)!r} there and "
                    f"{self.identity.get(key)!r} here; choose another folder or remove this one"
                )

    def _read(self, name: str) -> State:
        with _reading(self.folder / name) as path:
            return _TENSORS.decode(path.read_bytes())

    def _read_records(self) -> tuple[RoundRecord, ...]:
        with _reading(self.folder / "records.jsonl") as path:
            lines = path.read_bytes()[: self._records_size]
            if zlib.crc32(lines) != self._records_crc:
                raise CheckpointError(f"{path}: damaged: not the records that were written")
            return tuple(RoundRecord.from_json(json.loads(x)) for x in lines.splitlines())

    def _write(self, name: str, content: bytes) -> None:
        with open(self.folder / name, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def _append(self, line: bytes) -> None:
        """Write after the last record that counts; what a killed run left behind it goes."""
        path = self.folder / "records.jsonl"
        path.touch()
        with open(path, "r+b") as file:
            file.truncate(self._records_size)
            file.seek(self._records_size)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._records_size += len(line)
        self._records_crc = zlib.crc32(line, self._records_crc)

    def _replace_manifest(self, content: bytes) -> None:
        self._write("run.tmp", content)
        self._sync_folder()  # the files are there before the manifest names them
        os.replace(self.folder / "run.tmp", self.folder / "run.json")
        self._sync_folder()  # the manifest is there before what it no longer names goes

    def _sync_folder(self) -> None:
        if os.name == "posix":  # elsewhere a folder cannot be opened
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _remove_all_but(self, kept: set[str]) -> None:
        for path in [*self.folder.glob("server-*.bin"), *self.folder.glob("client-*.bin")]:
            if path.name not in kept:
                path.unlink()


@contextmanager
def _reading(path: Path) -> Iterator[Path]:
    """LocalRun what goes wrong while a file is read into a CheckpointError that names the file."""
    try:
        yield path
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged: {type(error).__name__}: {error}") from error


def described(value: object) -> str:
    """Return the value's `repr` without addresses in memory, which differ from run to run."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def digest(data: Sequence[EncodedReviews]) -> str:
    """Return a fingerprint of the clients' reviews, the same for the same ids, order and labels."""
    total = hashlib.blake2b(digest_size=16)
    for reviews in data:
        total.update(len(reviews).to_bytes(8, "little"))
        for tensor in (reviews.tokens, reviews.lengths, reviews.labels):
            total.update(tensor.cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def _flat(kept: dict[str, State]) -> State:
    return {f"{owner}/{name}": t for owner, tensors in kept.items() for name, t in tensors.items()}


def _nested(tensors: State) -> dict[str, State]:
    kept: dict[str, State] = {}
    for key, tensor in tensors.items():
        owner, _, name = key.partition("/")
        kept.setdefault(owner, {})[name] = tensor
    return kept
