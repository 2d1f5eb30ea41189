"""A cache of tokenised texts on disk: never trusted when damaged, never fatal."""

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path

from fedlab_helpers.tasks.cache import default_folder

Tokenizer = Callable[[str], list[str]]
_TABLE = "CREATE TABLE IF NOT EXISTS tokens (key BLOB PRIMARY KEY, body BLOB)"
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}  # no such column


class TokenCache:
    """Texts already tokenised, a row a text, in one file for all versions of the tokenizer.

    Threads and processes may share the file. What cannot be stored is kept in memory.

    Args:
        version: names the tokenizer and all that decides what it returns.
        folder: where the file is; None takes `default_folder()`.
    """

    def __init__(self, version: str, folder: Path | None = None):
        folder = folder or default_folder()
        self.path = folder and Path(folder) / "tokens.sqlite"
        self.version = version
        self._unsaved: dict[bytes, list[str]] = {}

    def tokenize(self, texts: Sequence[str], tokenizer: Tokenizer) -> list[list[str]]:
        """Return the tokens of each text; only texts never seen before are tokenised."""
        keys = [self._digest(text.encode("utf-8", "surrogatepass")) for text in texts]
        wanted = dict(zip(keys, texts, strict=True))
        known = {key: self._unsaved[key] for key in wanted if key in self._unsaved}
        stored = self._safely(lambda: self._read(wanted.keys() - known.keys()))
        known |= stored or {}
        missing = {key: tokenizer(text) for key, text in wanted.items() if key not in known}
        if missing and (stored is None or self._safely(lambda: self._write(missing)) is None):
            self._unsaved |= missing  # a full or read-only disk costs time, not the run
        known |= missing
        return [list(known[key]) for key in keys]

    def _digest(self, *parts: bytes) -> bytes:
        return blake2b(b"\0".join((self.version.encode(), *parts)), digest_size=16).digest()

    def _safely(self, work: Callable[[], dict | None]) -> dict | None:
        """Return what `work` does with the file, twice if it must be made anew; None: it cannot."""
        for _ in range(2):
            try:
                return work()
            except (OSError, sqlite3.Error) as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
                    return None
                with suppress(OSError):
                    self.path.unlink()
        return None

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Open the file for one transaction."""
        if self.path is None:
            raise FileNotFoundError("there is no folder for a cache")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            self.path.touch(0o600)  # what somebody reads is nobody else's affair
        with closing(sqlite3.connect(self.path, timeout=2)) as database, database:
            database.execute("PRAGMA synchronous=OFF")  # after a power cut, rows prove themselves
            database.execute(_TABLE)
            yield database

    def _read(self, keys: set[bytes]) -> dict[bytes, list[str]]:
        """Return what the file holds of these; a row that was changed is passed over."""
        found = {}
        with self._open() as database:
            for key in keys:
                rows = database.execute("SELECT body FROM tokens WHERE key = ?", (key,))
                for (body,) in rows:
                    if isinstance(body, bytes) and body[:16] == self._digest(key, body[16:]):
                        found[key] = json.loads(body[16:].decode("utf-8", "surrogatepass"))
        return found

    def _write(self, tokens: Mapping[bytes, list[str]]) -> dict:
        """Add rows, all of them or none; each begins with a digest of itself."""
        rows = []
        for key, words in tokens.items():
            body = json.dumps(words, ensure_ascii=False).encode("utf-8", "surrogatepass")
            rows.append((key, self._digest(key, body) + body))
        with self._open() as database:
            database.executemany("INSERT OR REPLACE INTO tokens VALUES (?, ?)", rows)
        return {}
