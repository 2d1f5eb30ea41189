"""Where the package keeps what it can make or fetch again."""

import os
from contextlib import suppress
from pathlib import Path


def default_folder() -> Path | None:
    """Return where things are cached: `FEDLAB_CACHE`, the checkout's `data/cache/`, or ~/.cache.
    None: there is no home."""
    if chosen := os.environ.get("FEDLAB_CACHE"):
        return Path(os.path.expanduser(chosen))
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").is_file():
        return checkout / "data" / "cache"
    with suppress(RuntimeError):
        return Path.home() / ".cache" / "fedlab_helpers"
    return None
