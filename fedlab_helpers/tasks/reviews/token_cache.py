"""A cache of tokenised texts on disk: rebuilt when damaged, never trusted, never fatal."""

import gzip
import hashlib
import json
import os
import tempfile
import threading
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

Tokenizer = Callable[[str], list[str]]


def default_folder() -> Path:
    """Return where tokens are cached: `FEDLAB_CACHE`, the checkout's `data/cache/`, or ~/.cache."""
    if chosen := os.environ.get("FEDLAB_CACHE"):
        return Path(chosen)
    checkout = Path(__file__).resolve().parents[3]
    if (checkout / "pyproject.toml").is_file():
        return checkout / "data" / "cache"
    return Path.home() / ".cache" / "fedlab_helpers"


class TokenCache:
    """Texts already tokenised, in memory and in one file for each version of the tokenizer.

    Args:
        version: names the tokenizer and its version; another version reads another file.
        folder: where the file is; None takes `default_folder()`.
    """

    def __init__(self, version: str, folder: Path | None = None):
        self.path = (folder or default_folder()) / f"tokens-{version}.json.gz"
        self._tokens: dict[str, list[str]] | None = None
        self._lock = threading.Lock()  # two threads that both read the file would lose tokens

    def tokenize(self, texts: Sequence[str], tokenizer: Tokenizer) -> list[list[str]]:
        """Return the tokens of each text; only texts never seen before are tokenised."""
        keys = [hashlib.blake2b(text.encode(), digest_size=16).hexdigest() for text in texts]
        with self._lock:
            if self._tokens is None:
                self._tokens = self._read()
            missing = {
                key: text for key, text in zip(keys, texts, strict=True) if key not in self._tokens
            }
            if missing:
                self._tokens |= {key: tokenizer(text) for key, text in missing.items()}
                self._write()
            return [list(self._tokens[key]) for key in keys]

    def _read(self) -> dict[str, list[str]]:
        """Return what the file holds, or nothing if it is missing, damaged or not ours."""
        try:
            content = gzip.decompress(self.path.read_bytes())
            digest, _, body = content.partition(b"\n")
            if digest.decode("ascii") != hashlib.sha256(body).hexdigest():
                return {}
            tokens = json.loads(body)
            return tokens if isinstance(tokens, dict) else {}
        except (OSError, EOFError, ValueError, zlib.error):
            return {}

    def _write(self) -> None:
        """Replace the file at once, so that a reader or a crash never sees half of it."""
        body = json.dumps(self._tokens, ensure_ascii=False).encode()
        content = hashlib.sha256(body).hexdigest().encode("ascii") + b"\n" + body
        with suppress(OSError):  # a full or read-only disk costs time, not the run
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self.path.parent)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(gzip.compress(content, compresslevel=1))
                os.replace(temporary, self.path)
            finally:
                Path(temporary).unlink(missing_ok=True)
