"""The token cache: never trusted when damaged, never fatal, and it saves the work."""

import json
import multiprocessing
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedlab_helpers.tasks import cache as place
from fedlab_helpers.tasks.cache import default_folder
from fedlab_helpers.tasks.reviews import token_cache
from fedlab_helpers.tasks.reviews.token_cache import TokenCache

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


def test_changing_what_was_returned_does_not_change_the_cache(tmp_path):
    for cache in (TokenCache("1", tmp_path), TokenCache("1", Path(os.devnull) / "no")):
        cache.tokenize(TEXTS, str.split)[0].append("!")
        assert cache.tokenize(TEXTS, str.split) == TOKENS


def test_another_version_reads_other_rows(tmp_path):
    tokenized(tmp_path, version="1")
    assert tokenized(tmp_path, version="2")[1] == TEXTS
    assert tokenized(tmp_path, version="1")[1] == []


@pytest.mark.parametrize("text", ["好\ud83d", "\ude00", "\ud83d\ude00", "😀", "\0", "\n"])
def test_halves_of_a_surrogate_pair_come_back_as_they_are(tmp_path, text):
    assert TokenCache("1", tmp_path).tokenize([text], lambda one: [one, *one]) == [[text, *text]]
    assert TokenCache("1", tmp_path).tokenize([text], pytest.fail) == [[text, *text]]


def test_no_two_texts_share_a_row(tmp_path):
    texts = ["好\ud83d", "好\ude00", "好?", "好", "\ud83d\ude00", "😀"]
    for _ in range(2):
        assert TokenCache("1", tmp_path).tokenize(texts, lambda one: [one]) == [[t] for t in texts]


DAMAGES = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[:-4096],
    "header only": lambda content: content[:100],
    "no database": lambda content: os.urandom(5000),
    "first page": lambda content: content[:100] + os.urandom(200) + content[300:],
    "second page": lambda content: content[:4096] + os.urandom(100) + content[4196:],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_file_is_rebuilt(tmp_path, damage):
    tokenized(tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert tokenized(tmp_path)[0] == TOKENS
    assert tokenized(tmp_path) == (TOKENS, [])


def test_a_database_that_is_not_ours_is_rebuilt(tmp_path):
    with sqlite3.connect(tmp_path / "tokens.sqlite") as database:
        database.execute("CREATE TABLE tokens (other TEXT)")
    database.close()
    assert tokenized(tmp_path) == (TOKENS, TEXTS)
    assert tokenized(tmp_path) == (TOKENS, [])


@pytest.mark.parametrize("body", [b"", b"short", None, "text", b"0" * 16 + b'["!"]'])
def test_changed_tokens_are_not_trusted(tmp_path, body):
    tokenized(tmp_path)
    with sqlite3.connect(tmp_path / "tokens.sqlite") as database:
        database.execute("UPDATE tokens SET body = ?", (body,))
    database.close()
    assert tokenized(tmp_path)[0] == TOKENS
    assert tokenized(tmp_path) == (TOKENS, [])


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), cut=st.integers(0, 110))
def test_no_bytes_are_fatal(tmp_path, content, cut):
    """A real file's beginning followed by random bytes."""
    path = tmp_path / "tokens.sqlite"
    path.unlink(missing_ok=True)
    tokenized(tmp_path, [""])
    path.write_bytes(path.read_bytes()[:cut] + content)
    assert tokenized(tmp_path)[0] == TOKENS


def test_a_folder_that_cannot_be_written_costs_time_only_and_once(tmp_path):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder")
    cache, tokenizer = TokenCache("1", in_the_way / "cache"), Counting()
    assert cache.tokenize(TEXTS, tokenizer) == cache.tokenize(TEXTS, tokenizer) == TOKENS
    assert (tokenizer.asked, in_the_way.read_text()) == (TEXTS, "not a folder")


@pytest.mark.parametrize("code", ["READONLY", "FULL", "IOERR", "BUSY", "CANTOPEN"])
def test_a_disk_that_is_full_or_read_only_costs_time_only(tmp_path, monkeypatch, code):
    """The file stays as it is, and what it holds is still read."""
    tokenized(tmp_path)

    def failing(self, tokens):
        error = sqlite3.OperationalError(code)
        error.sqlite_errorcode = getattr(sqlite3, f"SQLITE_{code}")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(TokenCache, "_write", failing)
        cache, tokenizer = TokenCache("1", tmp_path), Counting()
        for _ in range(2):
            assert cache.tokenize([*TEXTS, "新"], tokenizer) == [*TOKENS, ["新"]]
        assert tokenizer.asked == ["新"]
    assert tokenized(tmp_path) == (TOKENS, [])


def test_a_file_that_another_process_has_locked_is_waited_for_once(tmp_path, monkeypatch):
    connect = sqlite3.connect
    monkeypatch.setattr(token_cache.sqlite3, "connect", lambda path, timeout: connect(path, 0.05))
    tokenized(tmp_path)
    other = connect(tmp_path / "tokens.sqlite")
    other.execute("BEGIN EXCLUSIVE")
    assert tokenized(tmp_path) == (TOKENS, TEXTS)
    other.rollback()
    other.close()
    assert tokenized(tmp_path) == (TOKENS, [])


def write_many(folder, name):
    """Add rows again and again, as one of two processes that know nothing of each other."""
    for i in range(15):
        TokenCache("1", folder).tokenize([f"{name} {i}", *TEXTS], str.split)


def test_two_processes_at_once_both_keep_what_they_made(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=write_many, args=(tmp_path, name)) for name in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    both = [f"{name} {i}" for name in "ab" for i in range(15)]
    assert tokenized(tmp_path, [*TEXTS, *both])[1] == []
    assert [path.name for path in tmp_path.iterdir()] == ["tokens.sqlite"]


@pytest.mark.skipif(os.name != "posix", reason="rights as POSIX has them")
def test_the_file_is_for_its_owner_and_holds_no_text_but_digest_and_tokens(tmp_path):
    tokenized(tmp_path, ["房间 很 好"])
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o077 == 0
    with sqlite3.connect(path) as database:
        ((key, body),) = database.execute("SELECT * FROM tokens")
    database.close()
    assert (len(key), json.loads(body[16:])) == (16, ["房间", "很", "好"])


def test_default_folder_is_chosen_by_the_environment_then_the_checkout(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDLAB_CACHE", str(tmp_path))
    assert default_folder() == tmp_path
    assert TokenCache("1").path == tmp_path / "tokens.sqlite"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("FEDLAB_CACHE", "~/fedlab")
    assert default_folder() == tmp_path / "fedlab"
    monkeypatch.delenv("FEDLAB_CACHE")
    checkout = tmp_path / "checkout"
    monkeypatch.setattr(place, "__file__", str(checkout / "fedlab_helpers" / "tasks" / "x.py"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert default_folder() == tmp_path / "home" / ".cache" / "fedlab_helpers"
    checkout.mkdir()
    (checkout / "pyproject.toml").touch()
    assert default_folder() == checkout.resolve() / "data" / "cache"


def test_nobody_without_a_home_is_turned_away(tmp_path, monkeypatch):
    def unknown():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("FEDLAB_CACHE", raising=False)
    monkeypatch.setattr(place, "__file__", str(tmp_path / "a" / "b" / "x.py"))
    monkeypatch.setattr(Path, "home", unknown)
    assert default_folder() is None
    cache, tokenizer = TokenCache("1"), Counting()
    assert cache.tokenize(TEXTS, tokenizer) == cache.tokenize(TEXTS, tokenizer) == TOKENS
    assert tokenizer.asked == TEXTS


# jieba's own words


CHANGES = [
    "jieba.add_word('小笼包子铺')",
    "jieba.del_word('干净')",
    "jieba.suggest_freq(('很', '干'), True)",
    "jieba.load_userdict(io.StringIO('很干净 99999'))",
    "jieba.set_dictionary(own)",
]
SCRIPT = """
import io, sys, jieba
from fedlab_helpers.tasks.reviews.words import tokenize, tokenize_all
own, text, early, *changes = sys.argv[1:]
if not early: tokenize_all([text])
seen = set()
for change in changes:
    exec(change)
    if not tokenize_all([text])[0] == tokenize(text): sys.exit(change)
    seen.add('|'.join(tokenize(text)))
if len(seen) < len(changes) / 2: sys.exit(str(seen))
"""


def test_words_that_a_reader_gives_jieba_reach_nobody_else(tmp_path):
    """In one process, and in the next that shares the cache: as if there were no cache."""
    own = tmp_path / "own.txt"
    own.write_text("小笼 5\n包子 5\n铺 5\n很干净 5\n", "utf-8")
    env = os.environ | {"FEDLAB_CACHE": str(tmp_path / "cache"), "PYTHONIOENCODING": "utf-8"}
    for early, changes in (("", []), ("", CHANGES), ("early", CHANGES[1:2]), ("", [])):
        told = [str(own), "小笼包子铺很干净", early, *changes]
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", SCRIPT, *told],
            env=env, capture_output=True, text=True, encoding="utf-8",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
