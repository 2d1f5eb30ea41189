"""A run on disk: killed at any moment it goes on from its last round, and no bit is lost."""

import json
import math
import os
import pickle
import random
import sqlite3
import subprocess
import sys
import textwrap
import zlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fedlab_helpers import strategies
from fedlab_helpers.core import rounds as federated
from fedlab_helpers.core import state, wire
from fedlab_helpers.core.checkpoint import Checkpoint, CheckpointError
from fedlab_helpers.core.history import RoundRecord
from fedlab_helpers.core.training import LocalConfig

IDENTITY = {"seed": 1, "local": {"lr": 0.1, "epochs": 2}, "shared": ["w", "b"]}
WEIGHTS = {"w": torch.tensor([[1.5, -2.5]]), "n": torch.tensor(3)}
SERVER = {"params": WEIGHTS, "momentum": {"w": torch.tensor([[0.5, 2**-40]])}}
KEPT = {
    "private": {"head.weight": torch.tensor([1e-8, torch.pi]), "head.bias": torch.tensor(1.0)},
    "transform1": {"residual": torch.tensor([0.1])},
}


def a_record(number: int, **changes) -> RoundRecord:
    record = RoundRecord(
        number, (0, 2), 9, 4, {0: 0.1 + number}, {2: "错: lost"}, 100, 50, 0.25, {"accuracy": 1 / 3}
    )
    return replace(record, **changes)


def written(folder: Path, rounds: int = 1) -> Path:
    """Write rounds in which client 0 keeps something new each time, client 2 only in the first."""
    store = Checkpoint(folder, IDENTITY)
    for number in range(1, rounds + 1):
        changed = {0: KEPT, 2: KEPT} if number == 1 else {0: {"private": WEIGHTS}}
        store.save(
            {**SERVER, "params": {**WEIGHTS, "n": torch.tensor(number)}}, changed, a_record(number)
        )
    return folder


def test_a_run_comes_back_bit_for_bit(tmp_path, bits):
    saved = Checkpoint(written(tmp_path, 3), IDENTITY).load()
    assert bits(saved.server) == bits({**SERVER, "params": {**WEIGHTS, "n": torch.tensor(3)}})
    assert bits(saved.clients) == bits({0: {"private": WEIGHTS}, 2: KEPT})
    assert saved.records == (a_record(1), a_record(2), a_record(3))


def test_a_folder_without_a_finished_round_is_a_fresh_start(tmp_path):
    assert Checkpoint(tmp_path / "new" / "deep", IDENTITY).load() is None
    (tmp_path / "run.sqlite").touch()  # killed before anything was in it
    assert Checkpoint(tmp_path, IDENTITY).load() is None
    written(tmp_path)
    assert Checkpoint(tmp_path, IDENTITY).load().records == (a_record(1),)


def parts(folder: Path) -> dict[str, bytes]:
    with closing(sqlite3.connect(folder / "run.sqlite")) as values:
        return dict(values.execute("SELECT name, value FROM parts"))


def change(folder: Path, *statement) -> None:
    with closing(sqlite3.connect(folder / "run.sqlite")) as values, values:
        values.execute(*statement)


def test_what_no_round_needs_is_not_kept(tmp_path):
    names = {"head", "server", "client 0", "client 2", "record 1", "record 2", "record 3"}
    assert parts(written(tmp_path, 3)).keys() == names
    assert [path.name for path in tmp_path.iterdir()] == ["run.sqlite"]


def test_two_runs_that_write_into_one_folder_are_told(tmp_path):
    one, two = (Checkpoint(tmp_path, IDENTITY) for _ in range(2))
    one.save(SERVER, {0: KEPT}, a_record(1))
    with pytest.raises(CheckpointError, match="holds 1 rounds, expected 0: another run writes"):
        two.save(SERVER, {0: KEPT}, a_record(1))
    assert one.load().records == (a_record(1),)


def test_an_older_format_is_named(tmp_path):
    (tmp_path / "run.json").write_text('{"format": 2}')
    with pytest.raises(CheckpointError, match="an older format, expected 6"):
        Checkpoint(tmp_path, IDENTITY).load()


def test_loading_writes_nothing(tmp_path):
    def look():
        return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in folder.iterdir()}

    folder = written(tmp_path, 2)
    before = look()
    Checkpoint(folder, IDENTITY).load()
    assert look() == before


def test_another_runs_folder_is_refused_naming_what_differs(tmp_path):
    written(tmp_path)
    for change, message in (
        ({"seed": 2}, r"holds another run: seed is 1 there and 2 here; choose another folder"),
        ({"local": {"lr": 0.2, "epochs": 2}}, r"local is \{'lr': 0.1, .* there and \{'lr': 0.2"),
        ({"codec": "new"}, "codec is None there and 'new' here"),
    ):
        with pytest.raises(CheckpointError, match=message) as caught:
            Checkpoint(tmp_path, IDENTITY | change).load()
        assert str(tmp_path) in str(caught.value)


def test_an_identity_may_hold_tuples_and_numpys_numbers(tmp_path):
    import numpy as np

    numbers = {"a": (1, 2), "b": np.int64(3), "c": np.float32(0.75)}
    Checkpoint(tmp_path, numbers).save(SERVER, {}, a_record(1))
    plain = {"a": [1, 2], "b": 3, "c": 0.75}
    assert Checkpoint(tmp_path, plain).load().records == (a_record(1),)
    with pytest.raises(CheckpointError):
        Checkpoint(tmp_path, plain | {"c": 0}).load()


@pytest.mark.parametrize("name", ["head", "server", "client 0", "client 2", "record 2"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "flipped", "pickle", "other type"])
def test_a_damaged_or_missing_part_is_refused_naming_the_file(tmp_path, name, damage):
    content = parts(written(tmp_path, 3))[name]
    flipped = content[:50] + bytes([content[50] ^ 1]) + content[51:]
    new = {"empty": b"", "cut": content[:-9], "flipped": flipped, "other type": "text"}
    new["pickle"] = pickle.dumps(Bomb())
    if damage == "missing":
        change(tmp_path, "DELETE FROM parts WHERE name = ?", (name,))
    else:
        change(tmp_path, "UPDATE parts SET value = ? WHERE name = ?", (new[damage], name))
    with pytest.raises(CheckpointError, match=r"run\.sqlite"):
        Checkpoint(tmp_path, IDENTITY).load()


class Bomb:
    def __reduce__(self):
        return os._exit, (86,)


@pytest.mark.parametrize("content", [b"not a database" * 90, pickle.dumps(Bomb()), b"\0" * 5000])
def test_a_file_that_is_something_else_is_refused_by_name(tmp_path, content):
    (written(tmp_path) / "run.sqlite").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"run\.sqlite"):
        Checkpoint(tmp_path, IDENTITY).load()


def test_a_flipped_byte_anywhere_never_passes_unseen(tmp_path, bits):
    whole = Checkpoint(written(tmp_path, 2), IDENTITY).load()
    content, rng = (tmp_path / "run.sqlite").read_bytes(), random.Random(0)
    for place in rng.sample(range(len(content)), 150):
        (tmp_path / "run.sqlite").write_bytes(
            content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]
        )
        try:
            loaded = Checkpoint(tmp_path, IDENTITY).load()
        except CheckpointError:
            continue
        assert loaded is not None
        assert bits(loaded.server) == bits(whole.server)
        assert bits(loaded.clients) == bits(whole.clients)
        assert loaded.records == whole.records


@pytest.mark.parametrize("head", ["{", "[]", "7", "null", "[" * 100_000, "{}", '{"format": 3}'])
def test_a_head_that_is_none_is_refused(tmp_path, head):
    row = (head.encode(), zlib.crc32(head.encode()))
    change(written(tmp_path), "UPDATE parts SET value = ?, crc = ? WHERE name = 'head'", row)
    with pytest.raises(CheckpointError, match=r"run\.sqlite"):
        Checkpoint(tmp_path, IDENTITY).load()


# A run of several rounds with personal heads, in which one client of three sits out each round.

PLAN = federated.Plan(
    4, 2, LocalConfig(1, None, 0.1, "sgd"), seed=3, workers=1, evaluate_every=2, dropout_rate=0.1
)


def is_shared(name: str) -> bool:
    return not name.startswith("head.")


def noise(update, kept, rng):
    """Add noise, tensor by tensor in the order of what was kept: that order has to come back."""
    names = list(kept) or list(update.delta)
    drawn = {n: 0.01 * torch.randn(update.delta[n].shape, generator=rng) for n in names}
    noisy = {n: tensor + drawn[n] for n, tensor in update.delta.items()}
    return replace(update, delta=noisy), dict(reversed(drawn.items()))


@pytest.fixture
def play(clients, small_model):
    """Return a function that plays the run, or goes on with it, and returns how it ended."""

    def run(folder=None, plan=PLAN, **options):
        model, states = small_model(), {}
        options = {"shared": is_shared, "transforms": [noise]} | options
        records = federated.run(
            model,
            clients[:3],
            strategies.fedavg(),
            plan,
            client_states=states,
            checkpoint=folder,
            **options,
        )
        return state.of_model(model), states, [replace(record, seconds=0) for record in records]

    return run


def test_a_checkpoint_changes_nothing_in_the_run(play, tmp_path, bits):
    plain, stored = play(), play(tmp_path)
    assert bits(plain[0]) == bits(stored[0])
    assert bits(plain[1]) == bits(stored[1])
    assert plain[2] == stored[2]


def test_a_finished_run_is_read_not_played_again(play, tmp_path, bits, monkeypatch):
    played = play(tmp_path)
    monkeypatch.setattr(federated.RoundLoop, "advance", None)
    again = play(tmp_path)
    assert bits(again[0]) == bits(played[0])
    assert bits(again[1]) == bits(played[1])
    assert again[2] == played[2]


def test_more_rounds_are_welcome(play, tmp_path, bits):
    through, parted = play(), None
    for rounds in (2, 4):
        parted = play(tmp_path, replace(PLAN, rounds=rounds, workers=rounds))
    assert bits(parted[0]) == bits(through[0])
    assert bits(parted[1]) == bits(through[1])
    assert parted[2] == through[2]


def test_fewer_rounds_than_are_there_are_refused(play, tmp_path):
    play(tmp_path)
    with pytest.raises(CheckpointError, match="holds 4 rounds, expected at most 3"):
        play(tmp_path, replace(PLAN, rounds=3))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"plan": replace(PLAN, seed=4)}, "seed is 3 there and 4 here"),
        ({"plan": replace(PLAN, local=LocalConfig(lr=0.2))}, "local is"),
        ({"plan": replace(PLAN, clients_per_round=3)}, "clients_per_round is 2 there and 3 here"),
        ({"plan": replace(PLAN, dropout_rate=0.0)}, "dropout_rate is 0.1 there and 0.0 here"),
        ({"codec": wire.dense()}, r"codec is 'Tensors\(keeps_rows=True\) \(\w+\)' there"),
        ({"transforms": []}, r"transforms is \['<function noise> \(\w+\)'\] there and \[\] here"),
        ({"shared": lambda name: name != "head.bias"}, "private|shared"),
    ],
)
def test_a_run_that_differs_is_refused_by_name(play, tmp_path, change, name):
    play(tmp_path)
    with pytest.raises(CheckpointError, match=name):
        play(tmp_path, **change)


def test_another_model_or_other_data_are_refused_by_name(clients, small_model, tmp_path):
    def run(model, data, test):
        plan = federated.Plan(1, local=PLAN.local)
        federated.run(model, data, strategies.fedavg(), plan, test=test, checkpoint=tmp_path)

    test = clients[0]
    run(small_model(), clients, test)
    for model, data, other, name in (
        (small_model(cell="gru"), clients, test, "model|shapes"),
        (small_model(dropout=0.5), clients, test, "model"),
        (small_model(), clients[:3], test, "clients"),
        (small_model(), clients[::-1], test, "clients"),
        (small_model(), clients, clients[1], "test"),
        (small_model(), clients, None, "test"),
    ):
        with pytest.raises(CheckpointError, match=f"holds another run: ({name}) is"):
            run(model, data, other)


def test_what_clients_were_given_comes_back_also_of_those_not_asked_yet(
    clients, small_model, tmp_path, bits
):
    """The first rounds in one kernel, from states; the others in a new one, without."""
    given, ends = {}, []
    plan = replace(PLAN, dropout_rate=0.0, clients_per_round=1)
    federated.run(small_model(), clients, strategies.fedavg(), plan, shared=is_shared,
                  client_states=given)  # fmt: skip
    assert len(given) > 1
    for parts, folder in (((6,), tmp_path / "a"), ((1, 6), tmp_path / "b")):
        states = dict(given)
        for rounds in parts:
            model, later = small_model(), replace(plan, rounds=rounds, seed=8)
            federated.run(model, clients, strategies.fedavg(), later, shared=is_shared,
                          client_states=states, checkpoint=folder)  # fmt: skip
            ends, states = [*ends, bits(state.of_model(model))], {}
    assert ends[0] == ends[2]


def test_the_folder_stays_where_it_was(play, tmp_path, bits, monkeypatch):
    """However the reader moves about between the rounds."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    held = Checkpoint("run", IDENTITY)
    monkeypatch.chdir("elsewhere")
    assert held.file == (tmp_path / "run" / "run.sqlite").resolve()


class Crash(BaseException):
    """Stands for the power cord: nothing in the package may catch it."""


class Crashing(sqlite3.Connection):
    """Stops the run at one of the statements, or before the commit."""

    left = math.inf

    def step(self):
        Crashing.left -= 1
        if Crashing.left < 0:
            raise Crash

    def execute(self, *statement):
        self.step()
        return super().execute(*statement)

    def executemany(self, statement, rows):
        def stepping():
            for row in rows:
                self.step()
                yield row

        return super().executemany(statement, stepping())

    def __exit__(self, *error):
        if error == (None, None, None):
            self.step()
        return super().__exit__(*error)


def test_a_crash_at_any_step_of_any_write_loses_no_bit(play, tmp_path, bits, monkeypatch):
    plan = replace(PLAN, rounds=2)
    through = play(plan=plan)
    connect, crashes = sqlite3.connect, 0
    monkeypatch.setattr(sqlite3, "connect", lambda file: connect(file, factory=Crashing))
    for allowed in range(1000):
        folder, Crashing.left = tmp_path / str(allowed), allowed
        try:
            play(folder, plan)
        except Crash:
            crashes += 1
        reached, Crashing.left = Crashing.left < 0, math.inf
        for how in ("resumed", "read once more"):
            end = play(folder, plan)
            assert bits(end[0]) == bits(through[0]), f"{how} after {allowed} steps"
            assert bits(end[1]) == bits(through[1]), f"{how} after {allowed} steps"
            assert end[2] == through[2], f"{how} after {allowed} steps"
        if not reached:
            break
    assert crashes >= 15


KILLED_RUN = """
    import faulthandler, json, os, random, signal, sqlite3, sys, time
    from dataclasses import replace
    from pathlib import Path

    import torch

    torch.set_num_threads(1)
    faulthandler.enable()  # a child that stands still is aborted, and tells where it stood
    sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1]).parent)]
    from toys import make_model, make_reviews
    from test_checkpoint import is_shared, noise
    from fedlab_helpers import LocalConfig, Plan, run, state, strategies, train, wire

    KILLS, folder = 12, Path(sys.argv[2])
    data = [make_reviews(size, seed) for seed, size in enumerate((6, 9, 7, 8))]
    plan = Plan(32, 3, LocalConfig(1, None, 0.1, "sgd"), seed=5, workers=2)

    def play(where):
        model, states = make_model(dropout=0.2), {}
        records = run(
            model, data, strategies.fedavg(), plan, client_states=states,
            transforms=[noise], shared=is_shared, checkpoint=where,
        )
        kept = {f"{c}/{o}/{n}": t for c, s in states.items() for o, k in s.items()
                for n, t in k.items()}
        Path(f"{where}.end").write_bytes(wire.dense().encode(state.of_model(model) | kept))
        text = json.dumps([replace(record, seconds=0).to_json() for record in records])
        Path(f"{where}.records").write_text(text)

    def begin(where):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                play(where)
                code = 0
            finally:
                os._exit(code)
        return child

    def names(where):
        return finished(where), sorted(path.name for path in where.glob("*"))

    def finished(where):
        try:
            with sqlite3.connect(f"{(where / 'run.sqlite').as_uri()}?mode=ro", uri=True) as values:
                (head,) = values.execute("SELECT value FROM parts WHERE name = 'head'")
                return json.loads(head[0])["rounds"]
        except (sqlite3.Error, ValueError):
            return 0

    train(make_model(), data[0], plan.local)  # imports what optimisers need, before the forks
    began = time.monotonic()
    assert os.waitpid(begin(folder / "through"), 0)[1] == 0
    a_round = (time.monotonic() - began) / plan.rounds
    dice, kills = random.Random(), 0
    while True:
        before = names(folder / "killed")
        child = begin(folder / "killed")
        if kills < KILLS and finished(folder / "killed") < plan.rounds - 2:
            asked = time.monotonic()
            while names(folder / "killed") == before:  # until it writes a round of its own
                ended, status = os.waitpid(child, os.WNOHANG)
                if ended:  # it came to the end while this process was not looked at
                    sys.exit(status) if status else print(kills)
                    sys.exit()
                if time.monotonic() > asked + 60:
                    os.kill(child, signal.SIGABRT)
                    os.waitpid(child, 0)
                    sys.exit("the child wrote nothing for a minute")
                time.sleep(a_round / 50)
            time.sleep(dice.choice([0, 0.01, 1]) * dice.random() * a_round)
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if not os.WIFSIGNALED(status):
            assert status == 0, status
            break
        kills += 1
    print(kills)
    """


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that can fork")
def test_killed_at_random_moments_it_ends_bit_for_bit_like_an_uninterrupted_run(tmp_path):
    """SIGKILL at least eight times: in the middle of a write, or anywhere in the round after."""
    script = tmp_path / "killed_run.py"
    script.write_text(textwrap.dedent(KILLED_RUN))
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, str(script), str(here), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 8, "the run ended before it was killed often enough"
    through, killed = tmp_path / "through", tmp_path / "killed"
    assert Path(f"{killed}.records").read_bytes() == Path(f"{through}.records").read_bytes()
    assert Path(f"{killed}.end").read_bytes() == Path(f"{through}.end").read_bytes()
    assert len(json.loads(Path(f"{killed}.records").read_text())) == 32
    final = {name: part for name, part in parts(through).items() if "record" not in name}
    assert {name: part for name, part in parts(killed).items() if "record" not in name} == final
    assert len(final) == 2 + 4, "the head, the server's weights and what four clients keep"
