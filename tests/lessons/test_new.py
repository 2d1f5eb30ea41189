"""A federation of one's own: it trains and passes its tests as it is."""

import csv
import importlib
import subprocess
import sys
from dataclasses import replace

import pytest

from fedlab_helpers.core.messages import Received
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.state import of_model
from fedlab_helpers.lessons import new
from fedlab_helpers.lessons.new import main, make_project
from fedlab_helpers.network.job import Job
from fedlab_helpers.network.node import Node, pack
from fedlab_helpers.tasks.reviews.corpus import load_reviews

ORDER = ("bad", "good", "odd")


def within(folder, *command):
    """Run a command of Python in a folder; return its output."""
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def write_csv(path, texts, labels):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *zip(texts, labels, strict=True)])
    return str(path)


@pytest.fixture
def own(tmp_path):
    """Texts of three classes, with all that CSV allows in a text."""
    texts = [f'第{n}条，很{"好差怪"[n % 3]}\r\n"word{n % 7}",\r好' for n in range(90)]
    return write_csv(
        tmp_path / "own.csv", texts, [("good", "bad", "odd")[n % 3] for n in range(90)]
    )


def test_it_trains_and_passes_its_tests_as_it_is(tmp_path):
    folder = tmp_path / "mine"
    assert main([str(folder)]) == 0
    assert "6 passed" in within(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    said = within(tmp_path, folder / "train.py")
    federated, alone = (
        float(line.split()[-1])
        for line in said.splitlines()
        if line.startswith(("federated:", "each alone:"))
    )
    assert "round 8: accuracy" in said
    assert 0.6 < max(federated, alone) <= 1
    assert f"weights: {folder / 'model.pt'};" in said
    assert [path.name for path in tmp_path.rglob("model.pt")] == ["model.pt"]
    assert (folder / "model.pt").exists()


def test_a_file_of_ones_own_is_dealt_once_and_passes(own, tmp_path):
    folder = tmp_path / "mine"
    files = make_project(folder, own, 3, ORDER)
    names = {str(path.relative_to(folder)).replace("\\", "/") for path in files}
    assert {"README.md", "task.py", "train.py", "test_task.py", "data/words.txt"} < names
    texts = []
    for path in folder.glob("data/*.csv"):
        part = load_reviews(path, labels=ORDER, clean=False)
        texts += [(r.text, r.label) for r in part]
    whole = load_reviews(own, labels=ORDER)
    assert sorted(texts) == sorted((r.text, r.label) for r in whole)
    assert (folder / "data/classes.txt").read_text("utf-8") == "bad\ngood\nodd\n"
    within(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider")


def test_its_own_test_sees_a_leak_and_words_need_no_last_line_end(own, tmp_path):
    folder = tmp_path / "mine"
    make_project(folder, own, 3, ORDER)
    held = load_reviews(folder / "data/client0.csv", labels=ORDER, clean=False)
    leak = [[n, r.text + "\ufeff", ORDER[r.label]] for n, r in enumerate(held)]
    with (folder / "data/test.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "text", "label"), *leak])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "no_example"],
        cwd=folder, capture_output=True, text=True, encoding="utf-8",
    )  # fmt: skip
    assert "1 failed" in done.stdout
    for name in ("words", "classes"):
        path = folder / f"data/{name}.txt"
        path.write_text(path.read_text("utf-8").removesuffix("\n"), "utf-8")
    assert within(folder, "-c", "import task; print(*task.CLASSES)").split() == list(ORDER)


def test_a_guess_and_a_folder_with_a_blank_are_told(tmp_path, capsys):
    source = write_csv(tmp_path / "own.csv", [f"第{n}条" for n in range(60)], ["乙", "甲"] * 30)
    folder = tmp_path / "my folder"
    assert main([str(folder), "--data", source]) == 0
    out, err = capsys.readouterr()
    assert "class 0 is '乙', class 1 is '甲' (a guess; if '乙' is" in err
    assert "--classes" in err
    assert f"cd '{folder}' && pytest" in out


def test_a_network_can_train_it(tmp_path, monkeypatch):
    monkeypatch.setattr(new, "BUILT_IN_REVIEWS", 200)
    folder = tmp_path / "mine"
    make_project(folder, clients=2)
    monkeypatch.syspath_prepend(folder)
    for name in ("task", "train"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()
    job = Job((), Plan(1), task="task:TASK")
    job = replace(Job.from_json(job.to_json()), codec="signs")
    node = Node.owning(job, 1, folder / "data/client1.csv")
    reply = node.train(1, pack(Received(of_model(job.new_model()))), {})
    assert reply.failure is None
    assert len(reply.payload) > 100


def test_what_cannot_be_is_refused_and_nothing_is_written(own, tmp_path, capsys):
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("years of work")
    rare = write_csv(tmp_path / "rare.csv", [f"text {n}" for n in range(60)], [0] * 58 + [1] * 2)
    few = write_csv(tmp_path / "few.csv", [f"text {n}" for n in range(30)], [0, 1] * 15)
    named = ("--data", own, "--classes", *ORDER)
    for arguments, said in (
        ((full,), "full: is there already, expected a new or empty folder"),
        ((full / "thesis.txt",), "is there already"),
        ((tmp_path / "a", "--data", few), "few.csv: texts: got 30, expected at least 40"),
        ((tmp_path / "a", "--data", rare), "rare.csv: texts of class '1': got 2, expected some"),
        ((tmp_path / "a", *named, "--clients", "12"), "got 90, expected at least 120"),
        ((tmp_path / "a", "--data", own), "labels"),  # three classes, and no order
        ((tmp_path / "a", "--data", tmp_path / "no.csv"), "no.csv"),
        ((tmp_path / "a", "--clients", "1"), "clients: got 1, expected at least 2"),
        ((tmp_path / "a", "--clients", "0"), "clients: got 0"),
    ):
        assert main([str(argument) for argument in arguments]) == 1
        assert said in capsys.readouterr().err
        assert not (tmp_path / "a").exists()
    assert [path.name for path in full.iterdir()] == ["thesis.txt"]
    (tmp_path / "empty").mkdir()
    assert make_project(tmp_path / "empty", own, 2, ORDER)
