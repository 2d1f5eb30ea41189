"""A run on disk and back: killed at any moment, it goes on from its last finished round.

A folder holds `run.json` (which run this is, its last round, and the files that belong to it),
`records.jsonl`, the server's weights, and one file for each client that keeps something. A round
writes new files first and then replaces `run.json` in one step: before that step the old round is
whole, after it the new one is. Nothing is unpickled.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedlab_helpers.history import RoundRecord
from fedlab_helpers.state import State
from fedlab_helpers.updates import ClientState
from fedlab_helpers.wire import Tensors

_FORMAT = 1
_TENSORS = Tensors(keeps_rows=True)


class CheckpointError(ValueError):
    """A checkpoint that is damaged, or of another run; the message names what differs."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A run after its last finished round."""

    server: State
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
        self.identity = json.loads(json.dumps(dict(identity)))
        self._clients: dict[str, str] = {}
        self._records_size = 0

    def load(self) -> Snapshot | None:
        """Return the last finished round, or None where no round was finished.

        Raises:
            CheckpointError: a file is damaged or missing, or the folder belongs to another run.
        """
        try:
            manifest = json.loads((self.folder / "run.json").read_bytes())
            self._require_same_run(manifest)
            self._clients, self._records_size = manifest["clients"], manifest["records_size"]
            lines = (self.folder / "records.jsonl").read_bytes()[: self._records_size]
            records = tuple(RoundRecord.from_json(json.loads(x)) for x in lines.splitlines())
            if len(records) != manifest["rounds"]:
                raise CheckpointError(
                    f"{self.folder}: {len(records)} records, expected {manifest['rounds']}"
                )
            server = self._read(manifest["server"])
            clients = {
                int(client): _nested(self._read(name)) for client, name in self._clients.items()
            }
            return Snapshot(server, clients, records)
        except FileNotFoundError as error:
            if Path(error.filename).name == "run.json":
                return None
            raise CheckpointError(f"{error.filename}: missing from the checkpoint") from error
        except CheckpointError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{self.folder}: damaged checkpoint: {error}") from error

    def save(self, server: State, changed: Mapping[int, ClientState], record: RoundRecord) -> None:
        """Add one finished round.

        Args:
            server: the global weights after it.
            changed: what clients keep, for those that have something new to keep.
            record: of this round.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        server_file = f"server-{record.round:06d}.bin"
        self._write(server_file, _TENSORS.encode(server))
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
        }
        self._replace_manifest(json.dumps(manifest).encode())
        self._remove_all_but({server_file, *self._clients.values()})

    def _require_same_run(self, manifest: dict) -> None:
        if manifest["format"] != _FORMAT:
            raise CheckpointError(
                f"{self.folder}: format {manifest['format']!r}, expected {_FORMAT}"
            )
        theirs = manifest["identity"]
        for key in self.identity.keys() | theirs.keys():
            if theirs.get(key) != self.identity.get(key):
                raise CheckpointError(
                    f"{self.folder}: holds another run: {key} is {theirs.get(key)!r} there and "
                    f"{self.identity.get(key)!r} here; choose another folder or remove this one"
                )

    def _read(self, name: str) -> State:
        try:
            return _TENSORS.decode((self.folder / name).read_bytes())
        except ValueError as error:
            raise CheckpointError(f"{self.folder / name}: {error}") from error

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

    def _replace_manifest(self, content: bytes) -> None:
        with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".tmp", delete=False) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(file.name, self.folder / "run.json")

    def _remove_all_but(self, kept: set[str]) -> None:
        for path in [*self.folder.glob("*.bin"), *self.folder.glob("*.tmp")]:
            if path.name not in kept:
                path.unlink()


def _flat(kept: ClientState) -> State:
    return {f"{owner}/{name}": t for owner, tensors in kept.items() for name, t in tensors.items()}


def _nested(tensors: State) -> ClientState:
    kept: ClientState = {}
    for key, tensor in tensors.items():
        owner, _, name = key.partition("/")
        kept.setdefault(owner, {})[name] = tensor
    return kept
