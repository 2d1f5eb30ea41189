"""The token cache: never trusted when damaged, never fatal, and it saves the work."""

import gzip
import hashlib
import json
import multiprocessing
import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedlab_helpers.tasks.reviews import token_cache
from fedlab_helpers.tasks.reviews.token_cache import TokenCache, default_folder

TEXTS = ["房间 很 好", "书 不好", ""]
TOKENS = [["房间", "很", "好"], ["书", "不好"], []]


class Counting:
    """A tokenizer that knows what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, text):
        self.asked.append(text)
        return text.split()


def tokenized(folder, texts=TEXTS, version="1"):
    """Return the tokens by a new cache, and the texts it had to tokenise."""
    tokenizer = Counting()
    return TokenCache(version, folder).tokenize(texts, tokenizer), tokenizer.asked


def with_digest(body: bytes) -> bytes:
    return gzip.compress(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)


def test_only_new_texts_are_tokenised_within_one_cache(tmp_path):
    cache, tokenizer = TokenCache("1", tmp_path), Counting()
    assert cache.tokenize(TEXTS, tokenizer) == cache.tokenize(TEXTS, tokenizer) == TOKENS
    assert cache.tokenize([TEXTS[1], "新", TEXTS[1]], tokenizer) == [TOKENS[1], ["新"], TOKENS[1]]
    assert tokenizer.asked == [*TEXTS, "新"]


def test_the_next_process_reads_the_file_and_tokenises_nothing(tmp_path):
    assert tokenized(tmp_path) == (TOKENS, TEXTS)
    assert tokenized(tmp_path) == (TOKENS, [])
    assert tokenized(tmp_path, [TEXTS[0], "新"]) == ([TOKENS[0], ["新"]], ["新"])
    assert tokenized(tmp_path, [*TEXTS, "新"])[1] == []


def test_a_text_given_twice_is_tokenised_once(tmp_path):
    assert tokenized(tmp_path, ["好", "好"]) == ([["好"], ["好"]], ["好"])


def test_changing_what_was_returned_does_not_change_the_cache(tmp_path):
    cache = TokenCache("1", tmp_path)
    cache.tokenize(TEXTS, str.split)[0].append("!")
    assert cache.tokenize(TEXTS, str.split) == TOKENS


def test_another_version_reads_another_file(tmp_path):
    tokenized(tmp_path, version="1")
    assert tokenized(tmp_path, version="2")[1] == TEXTS
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["tokens-1.json.gz", "tokens-2.json.gz"]


DAMAGES = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[:-10],
    "header only": lambda content: content[:5],
    "not gzip": lambda content: os.urandom(200),
    "one bit": lambda content: content[:40] + bytes([content[40] ^ 1]) + content[41:],
    "no digest": lambda content: gzip.compress(b'{"a": ["b"]}'),
    "wrong digest": lambda content: gzip.compress(b"0" * 64 + b"\n" + b'{"a": ["b"]}'),
    "digest not ascii": lambda content: gzip.compress("房间\n{}".encode()),
    "no json": lambda content: with_digest(b"{"),
    "a list": lambda content: with_digest(b"[1, 2]"),
    "nothing": lambda content: gzip.compress(b""),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_file_is_rebuilt(tmp_path, damage):
    tokenized(tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert tokenized(tmp_path) == (TOKENS, TEXTS)
    assert tokenized(tmp_path) == (TOKENS, [])


def test_changed_tokens_are_not_trusted(tmp_path):
    """Tokens altered, the digest left as it was: the file is valid gzip and valid JSON."""
    tokenized(tmp_path)
    (path,) = tmp_path.iterdir()
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content.replace("不好".encode(), "很好".encode())))
    assert tokenized(tmp_path) == (TOKENS, TEXTS)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), cut=st.integers(0, 60), prefixed=st.booleans())
def test_no_bytes_are_fatal(tmp_path, content, cut, prefixed):
    """Random bytes, or a real file's beginning followed by random bytes."""
    path = tmp_path / "tokens-1.json.gz"
    path.write_bytes((with_digest(b"{}")[:cut] if prefixed else b"") + content)
    assert tokenized(tmp_path)[0] == TOKENS


def test_a_folder_that_cannot_be_written_costs_time_only(tmp_path):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder")
    assert tokenized(in_the_way / "cache") == (TOKENS, TEXTS)
    assert in_the_way.read_text() == "not a folder"


@pytest.mark.parametrize("step", ["mkstemp", "fdopen", "replace"])
def test_a_full_disk_costs_time_only_and_leaves_nothing_behind(tmp_path, monkeypatch, step):
    tokenized(tmp_path)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    if step == "mkstemp":
        monkeypatch.setattr(token_cache.tempfile, step, full)
    else:
        monkeypatch.setattr(token_cache.os, step, full)
    assert tokenized(tmp_path, ["新"]) == ([["新"]], ["新"])
    assert [path.name for path in tmp_path.iterdir()] == ["tokens-1.json.gz"]


def test_an_interrupted_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    tokenized(tmp_path)
    before = (tmp_path / "tokens-1.json.gz").read_bytes()

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(token_cache.gzip, "compress", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tokenized(tmp_path, ["新"])
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]
    assert tokenized(tmp_path) == (TOKENS, [])


def write_many(folder, name):
    """Write the file again and again, as one of two processes that know nothing of each other."""
    for i in range(15):
        TokenCache("1", folder).tokenize([f"{name} {i}", *TEXTS], str.split)


def test_two_processes_at_once_leave_a_file_that_can_be_read(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=write_many, args=(tmp_path, name)) for name in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert tokenized(tmp_path) == (TOKENS, [])
    assert [path.name for path in tmp_path.iterdir()] == ["tokens-1.json.gz"]


def test_threads_that_share_a_cache_get_their_tokens(tmp_path):
    cache, wrong = TokenCache("1", tmp_path), []

    def work(name):
        for i in range(15):
            if cache.tokenize([f"{name} {i}"], str.split) != [[str(name), str(i)]]:
                wrong.append((name, i))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert cache.tokenize(TEXTS, str.split) == TOKENS


def test_the_file_holds_no_text_but_its_digest_and_tokens(tmp_path):
    tokenized(tmp_path, ["房间 很 好"])
    (path,) = tmp_path.iterdir()
    _, body = gzip.decompress(path.read_bytes()).split(b"\n", 1)
    key = hashlib.blake2b("房间 很 好".encode(), digest_size=16).hexdigest()
    assert json.loads(body) == {key: ["房间", "很", "好"]}


def test_default_folder_is_chosen_by_the_environment_then_the_checkout(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDLAB_CACHE", str(tmp_path))
    assert default_folder() == tmp_path
    assert TokenCache("1").path == tmp_path / "tokens-1.json.gz"
    monkeypatch.delenv("FEDLAB_CACHE")
    checkout = tmp_path / "checkout"
    monkeypatch.setattr(
        token_cache, "__file__", str(checkout / "fedlab_helpers" / "tasks" / "reviews" / "x.py")
    )
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert default_folder() == tmp_path / "home" / ".cache" / "fedlab_helpers"
    checkout.mkdir()
    (checkout / "pyproject.toml").touch()
    assert default_folder() == checkout.resolve() / "data" / "cache"
