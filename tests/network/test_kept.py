"""What a client keeps on its own disk between rounds."""

import os

import pytest
import torch

from fedlab_helpers.core.wire import WireError
from fedlab_helpers.network import kept as module
from fedlab_helpers.network.kept import Kept, digest

STATE = {"strategy": {"c.weight": torch.tensor([1.5, -2.0]), "c.bias": torch.tensor(3)}}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_kept_comes_back(tmp_path, bits):
    own = Kept(tmp_path / "kept", "run1")
    assert own.load(0) == {}
    own.save(1, 0, STATE)
    back = Kept(tmp_path / "kept", "run1").load(1)
    assert back.keys() == {"strategy"}
    assert bits(back["strategy"]) == bits(STATE["strategy"])
    own.save(2, 1, {})
    assert own.load(2) == {}


def test_two_rounds_are_kept_so_that_who_answered_in_vain_goes_back(tmp_path):
    own = Kept(tmp_path, "run1")
    for number, latest, there in (
        (4, 0, ["round4"]),
        (5, 4, ["round4", "round5"]),
        (6, 4, ["round4", "round6"]),  # its answer in round 5 was lost
        (7, 6, ["round6", "round7"]),
        (1, 0, ["round1"]),  # the server knows of none
    ):
        own.save(number, latest, {"a": {"n": torch.tensor(number)}})
        assert names(own.folder) == there
    with pytest.raises(ValueError, match="what this client keeps of round 6 is lost"):
        own.load(6)


def test_runs_do_not_see_each_other_and_old_ones_make_room(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RUNS", 3)
    for number in range(5):
        own = Kept(tmp_path, f"run{number}")
        own.save(1, 0, {"a": {"n": torch.tensor(number)}})
        os.utime(own.folder, (number, number))
    assert names(tmp_path) == ["run2", "run3", "run4"]
    assert int(Kept(tmp_path, "run3").load(1)["a"]["n"]) == 3
    with pytest.raises(ValueError, match="round 1 is lost"):
        Kept(tmp_path, "run0").load(1)


@pytest.mark.skipif(os.name != "posix", reason="rights of files are POSIX's")
def test_nobody_else_can_look_into_it(tmp_path):
    own = Kept(tmp_path / "kept", "run1")
    own.save(1, 0, STATE)
    modes = {path: path.stat().st_mode & 0o777 for path in (own.folder, *own.folder.iterdir())}
    assert modes == {own.folder: 0o700, own.folder / "round1": 0o600}
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("run", ["", "../run", "run/1", ".", "跑", 7, "r" * 65])
def test_a_server_cannot_name_a_folder_elsewhere(tmp_path, run):
    with pytest.raises(ValueError, match="run: got"):
        Kept(tmp_path, run)


@pytest.mark.parametrize("number", ["1/../../x", -1, 1.0, True])
def test_nor_a_file(tmp_path, number):
    with pytest.raises(ValueError, match="round: got"):
        Kept(tmp_path, "run1").load(number)
    with pytest.raises(ValueError, match="round: got"):
        Kept(tmp_path, "run1").save(1, number, STATE)


def test_a_damaged_file_is_told(tmp_path):
    own = Kept(tmp_path, "run1")
    own.save(1, 0, STATE)
    content = bytearray((own.folder / "round1").read_bytes())
    content[-1] ^= 1
    (own.folder / "round1").write_bytes(content)
    with pytest.raises(WireError, match="checksum"):
        own.load(1)


def test_examples_that_changed_are_told_by_name(tmp_path):
    file = tmp_path / "own.csv"
    file.write_text("text,label\n好,1\n")
    came, own = digest(file), Kept(tmp_path / "kept", "run1")
    own.require_same_examples(file, came)
    file.write_text("text,label\n好,0\n")
    with pytest.raises(ValueError, match=r"own\.csv.*as it was when this node came"):
        own.require_same_examples(file, came)
    # A node that came after the change is another matter, but not within one run.
    with pytest.raises(ValueError, match=r"own\.csv.*as it was when this client joined the run"):
        own.require_same_examples(file, digest(file))
    Kept(tmp_path / "kept", "run2").require_same_examples(file, digest(file))
