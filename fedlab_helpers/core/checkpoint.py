"""A run on disk and back: killed at any moment, it goes on from its last finished round.

A folder holds `run.sqlite`, in which a round is one transaction: before its end the old round is
whole, after it the new one is. Nothing is unpickled; each value carries a CRC-32 of its bytes.
"""

import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from operator import methodcaller
from pathlib import Path
from typing import Any

from fedlab_helpers.core.history import RoundRecord
from fedlab_helpers.core.messages import ClientState, reason
from fedlab_helpers.core.state import State
from fedlab_helpers.core.wire import dense

_FORMAT = 6
_TENSORS = dense()
_TABLE = "CREATE TABLE IF NOT EXISTS parts (name TEXT PRIMARY KEY, value BLOB, crc INT)"


class CheckpointError(ValueError):
    """A checkpoint that is damaged, or of another run; the message names what differs."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A run after its last finished round."""

    server: dict[str, State]
    clients: dict[int, ClientState]
    records: tuple[RoundRecord, ...]


class Checkpoint:
    """A run's folder, made if it is missing; refused if it was written with another identity, that
    is, what makes it this run: seed, settings, data."""

    def __init__(self, folder: str | Path, identity: Mapping[str, Any]):
        self.folder = Path(folder).resolve()  # whoever goes elsewhere in between
        self.file = self.folder / "run.sqlite"
        plain = {"format": _FORMAT, **identity}
        told = json.dumps(plain, default=methodcaller("item"))  # NumPy's numbers to Python's
        self.identity = json.loads(told)

    def follow(self, run: Any, rounds: int) -> Iterator[RoundRecord]:
        """Yield the records that are stored, at most so many `rounds`, then those of the run, each
        written as it comes. The run yields `records()`, tells its `to_state()` and what clients
        keep of the last round in its `books`, and can `restore` what is stored here."""
        if saved := self.load():
            if (held := len(saved.records)) > rounds:
                came = f"holds {held} rounds, expected at most {rounds}"
                raise CheckpointError(f"{self.folder}: {came}")
            run.restore(saved)
            yield from saved.records
        for record in run.records():
            changed = run.books.kept if record.round > 1 else run.kept  # what it was given, too
            self.save(run.to_state(), changed, record)
            yield record

    def load(self) -> Snapshot | None:
        """Return the last finished round, or None where no round was finished. Raises
        CheckpointError if a value is damaged or missing, or of another run."""
        if (self.folder / "run.json").exists():
            raise CheckpointError(f"{self.folder}: an older format, expected {_FORMAT}")
        if not self.file.exists():
            return None
        with self._open() as values:
            known = self._read(values)
            if not known:
                return None
            head = json.loads(known["head"])
            self._require_same_run(head["identity"])
            clients = {c: nested(_TENSORS.decode(known[f"client {c}"])) for c in head["clients"]}
            records = (json.loads(known[f"record {n}"]) for n in range(1, head["rounds"] + 1))
            server = nested(_TENSORS.decode(known["server"]))
            return Snapshot(server, clients, tuple(map(RoundRecord.from_json, records)))

    def save(
        self, server: dict[str, State], changed: Mapping[int, ClientState], record: RoundRecord
    ) -> None:
        """Add one finished round: what the server holds after it, what `changed` with clients."""
        self.folder.mkdir(parents=True, exist_ok=True)
        new = {f"client {c}": _TENSORS.encode(flat(kept)) for c, kept in changed.items()}
        new["server"] = _TENSORS.encode(flat(server))
        new[f"record {record.round}"] = json.dumps(record.to_json()).encode()
        with self._open() as values:
            values.execute("BEGIN IMMEDIATE")
            nothing = b'{"rounds": 0, "clients": []}'
            before = json.loads(self._read(values, "head").get("head", nothing))
            if (held := before["rounds"]) != (due := record.round - 1):
                came = f"holds {held} rounds, expected {due}: another run writes here"
                raise CheckpointError(f"{self.folder}: {came}")
            clients = sorted({*before["clients"], *changed})
            head = {"rounds": record.round, "clients": clients, "identity": self.identity}
            new["head"] = json.dumps(head).encode()
            rows = ((name, value, zlib.crc32(value)) for name, value in new.items())
            values.executemany("INSERT OR REPLACE INTO parts VALUES (?, ?, ?)", rows)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Open the file for one transaction; what goes wrong in it names the file."""
        try:
            with closing(sqlite3.connect(self.file)) as values, values:
                values.execute(_TABLE)
                yield values
        except CheckpointError:
            raise
        except (sqlite3.Error, OSError) as error:
            raise CheckpointError(f"{self.file}: cannot be read or written: {error}") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CheckpointError(f"{self.file}: damaged: {reason(error)}") from error

    def _read(self, values: sqlite3.Connection, name: str = "*") -> dict[str, bytes]:
        rows = values.execute("SELECT name, value, crc FROM parts WHERE name GLOB ?", (name,))
        known = {}
        for key, value, crc in rows:
            if zlib.crc32(value) != crc:
                raise CheckpointError(f"{self.file}: damaged: {key!r} is not what was written")
            known[key] = value
        return known

    def _require_same_run(self, theirs: dict[str, Any]) -> None:
        for key in sorted(self.identity.keys() | theirs.keys()):
            there, here = theirs.get(key), self.identity.get(key)
            if there != here:
                differs = f"holds another run: {key} is {there!r} there and {here!r} here"
                advice = "choose another folder or remove this one"
                raise CheckpointError(f"{self.folder}: {differs}; {advice}")


def flat(kept: Mapping[str, State]) -> State:
    """Return the tensors of all owners as one state, by "owner/name"."""
    return {f"{owner}/{name}": t for owner, tensors in kept.items() for name, t in tensors.items()}


def nested(tensors: State) -> dict[str, State]:
    """Return what `flat` was given, without owners of nothing."""
    kept: dict[str, State] = {}
    for key, tensor in tensors.items():
        owner, _, name = key.partition("/")
        kept.setdefault(owner, {})[name] = tensor
    return kept
