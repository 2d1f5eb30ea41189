"""The books of one round: what crossed the wire, and what became of it."""

import struct
from dataclasses import dataclass

import pytest
import torch

from fedlab_helpers.core import wire
from fedlab_helpers.core.history import NoUpdateLeft, RoundBooks
from fedlab_helpers.core.messages import Reply, Update

PARAMS = {"w": torch.tensor([1.0, 2.0])}


def open_books(codec=None, cohort=(0, 1, 2)) -> RoundBooks:
    return RoundBooks(4, cohort, codec or wire.dense(), PARAMS)


def reply(client: int, values=(0.5, 0.25), *, examples=3, losses=(0.9, 0.7), kept=None) -> Reply:
    update = Update(client, {"w": torch.tensor(values)}, {}, examples, 2, losses)
    return Reply(client, wire.pack(update, wire.dense(), PARAMS), kept or {})


@dataclass(frozen=True)
class Raises:
    """A codec that meets any payload with this error, as a reader's own may meet hostile bytes."""

    error: BaseException
    keeps_rows: bool = False

    def encode(self, state, rng=None):
        return b"x"

    def decode(self, payload):
        raise self.error


def test_accepted_updates_are_booked_and_come_in_order():
    books = open_books()
    replies = [reply(2, examples=5), reply(0), reply(1, losses=(0.5,))]
    updates = list(books.accept(replies))
    assert [update.client for update in updates] == [2, 0, 1]
    assert updates[0].delta["w"].tolist() == [0.5, 0.25]
    record = books.record({"accuracy": 0.5})
    assert (record.round, record.cohort) == (4, (0, 1, 2))
    assert (record.examples, record.steps) == (5 + 3 + 3, 6)
    assert record.client_losses == pytest.approx({2: 0.7, 0: 0.7, 1: 0.5})
    assert list(record.client_losses) == [2, 0, 1]
    assert record.left_out == {}
    assert record.bytes_up == sum(len(r.payload) for r in replies)
    assert record.metrics == {"accuracy": 0.5}
    assert record.seconds > 0


def test_replies_are_taken_one_at_a_time():
    books, taken = open_books(), []

    def stream():
        for client in range(3):
            taken.append(client)
            yield reply(client)

    updates = books.accept(stream())
    assert taken == []
    for count in (1, 2, 3):
        next(updates)
        assert len(taken) == count


def test_refused_payloads_are_named_and_still_cost_their_bytes():
    books = open_books(cohort=range(6))
    truncated = reply(1).payload[:-1]
    replies = [
        Reply(0, failure="dropped out (simulated)"),
        Reply(1, truncated, {"private": PARAMS}),
        reply(2, (torch.nan, 0.0)),
        reply(3, (1.0, 2.0, 3.0)),
        reply(4),
        reply(5, losses=()),
    ]
    assert [update.client for update in books.accept(replies)] == [4]
    assert books.left_out.keys() == {0, 1, 2, 3, 5}
    assert books.left_out[0] == "dropped out (simulated)"
    assert books.left_out[1].startswith("WireError: the checksum does not match")
    assert books.left_out[2].startswith("RefusedUpdate: a value is NaN or infinite: in ")
    assert "'w' is (3,) torch.float32, expected (2,)" in books.left_out[3]
    assert "0 losses" in books.left_out[5]
    assert books.bytes_up == sum(len(r.payload) for r in replies)
    assert (books.examples, books.steps, books.kept) == (3, 2, {})


@pytest.mark.parametrize(
    "error",
    [
        IndexError("list index out of range"),
        KeyError("shape"),
        struct.error("unpack requires a buffer of 4 bytes"),
        MemoryError(),
        RecursionError("maximum recursion depth exceeded"),
        OverflowError("int too large to convert"),
        ZeroDivisionError("division by zero"),
        NotImplementedError("isfinite"),
        AssertionError(),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        OSError("no"),
        StopIteration(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_codec_raises_the_client_is_left_out_by_name(error):
    books = open_books(Raises(error))
    with pytest.raises(NoUpdateLeft, match=type(error).__name__):
        list(books.accept([Reply(1, b"hostile")]))
    assert books.left_out[1].startswith(type(error).__name__)
    assert books.bytes_up == len(b"hostile")


def test_an_interrupt_is_nobodys_fault():
    with pytest.raises(KeyboardInterrupt):
        list(open_books(Raises(KeyboardInterrupt())).accept([Reply(1, b"x")]))


def test_a_long_reason_is_cut():
    books = open_books()
    update = Update(0, {"n" * 5000: torch.ones(2)}, {}, 1, 1, (1.0,))
    replies = [Reply(0, wire.pack(update, wire.dense(), {})), reply(1)]
    list(books.accept(replies))
    assert len(books.left_out[0]) == 500


def test_nobody_left_is_an_error_that_names_every_reason():
    books = open_books()
    replies = [Reply(0, failure="ValueError: no data"), Reply(2, b"junk")]
    replies.append(Reply(5, failure="ValueError: no data"))  # told once, for both
    with pytest.raises(NoUpdateLeft) as caught:
        list(books.accept(replies))
    message = str(caught.value)
    assert message.startswith("round 4: every client was left out: ")
    assert "client 0, 5: ValueError: no data" in message
    assert "client 2: WireError: 4 bytes are no payload" in message


def test_what_accepted_clients_keep_is_kept_and_nothing_else():
    mine = {"private": {"head": torch.ones(1)}}
    books = open_books()
    replies = [reply(0, kept=mine), reply(1), Reply(2, b"junk", {"private": PARAMS})]
    list(books.accept(replies))
    assert books.kept == {0: mine}


def test_a_transform_that_stops_keeping_something_clears_it():
    kept = {"transform0": {}, "private": {"head": torch.ones(1)}}
    books = open_books()
    list(books.accept([reply(0, kept=kept), reply(1, kept={"transform0": {}})]))
    assert books.kept == {0: {"private": kept["private"]}, 1: {}}
