"""Secure sums: the right sum whoever drops out, nothing but the sum, and never both secrets."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.privacy.secure import (
    Client,
    FixedPoint,
    PublicKeys,
    Server,
    masks,
    secure_sum,
    shamir,
)

DTYPES = [np.uint8, np.uint16, np.uint32]


def draw_vectors(clients, dtype=np.uint32, size=5, seed=0):
    """Return client -> a vector of elements of the whole ring."""
    rng, most = numpy_rng(seed), np.iinfo(dtype).max
    return {n: rng.integers(0, most, size, dtype, endpoint=True) for n in clients}


def plain_sum(vectors):
    """Return the sum without masks, modulo 2^bits."""
    first = next(iter(vectors.values()))
    return np.sum(list(vectors.values()), axis=0, dtype=first.dtype)


def shared(contexts, sharers=None):
    """Return the server, its clients and their inboxes after the round in which they share; more
    than half of them must stay."""
    threshold = max(2, len(contexts) // 2 + 1)
    server = Server(threshold, context=contexts[min(contexts)])
    clients = {n: Client(n, threshold) for n in contexts}
    for number, client in clients.items():
        client.mask = partial(client.mask, context=contexts[number])
    roster = server.announce({n: client.advertise() for n, client in clients.items()})
    sent = {n: clients[n].share(roster) for n in sharers or clients}
    return server, clients, server.deliver(sent)


def mask_all(clients, inboxes, vectors):
    """Return client -> its masked vector."""
    return {n: clients[n].mask(inboxes[n], vectors[n]) for n in vectors}


def finish(server, clients, masked):
    """Return the sum of masked vectors, all of whose clients answer."""
    for number, vector in masked.items():
        server.add(number, vector)
    survivors = server.survivors()
    return server.unmask({n: clients[n].unmask(survivors) for n in survivors})


# The sum.


@settings(max_examples=60)
@given(st.data())
def test_the_sum_is_exact_where_enough_are_left_and_refused_otherwise(data):
    numbers = data.draw(st.sets(st.integers(0, 2**40), min_size=2, max_size=7))
    threshold = data.draw(st.integers(max(2, len(numbers) // 2 + 1), len(numbers)))
    some = st.sets(st.sampled_from(sorted(numbers)))
    before, after = data.draw(some), data.draw(some)
    dtype, size = data.draw(st.sampled_from(DTYPES)), data.draw(st.integers(0, 9))
    vectors = draw_vectors(numbers, dtype, size, data.draw(st.integers(0, 99)))
    if len(numbers - before - after) < threshold:
        with pytest.raises(ValueError, match=f"expected at least {threshold}, the threshold"):
            secure_sum(vectors, threshold, before, after)
        return
    total = secure_sum(vectors, threshold, before, after, context=b"model")
    expected = plain_sum({n: vectors[n] for n in numbers - before})
    assert total.dtype == dtype
    assert total.tolist() == expected.tolist()


def test_a_client_that_never_shared_needs_no_unmasking():
    server, clients, inboxes = shared(dict.fromkeys(range(5), b""), sharers=[0, 2, 3, 4])
    vectors = draw_vectors([0, 3, 4])
    total = finish(server, clients, mask_all(clients, inboxes, vectors))
    assert total.tolist() == plain_sum(vectors).tolist()


def test_vectors_of_several_blocks_are_summed_and_left_as_they_are():
    vectors = draw_vectors(range(3), np.uint16, 70_001)
    before = {n: vector.copy() for n, vector in vectors.items()}
    total = secure_sum(vectors, 2, dropped_before_masking=[1])
    assert np.array_equal(total, vectors[0] + vectors[2])
    assert all(np.array_equal(vectors[n], before[n]) for n in vectors)


def test_updates_in_fixed_point_give_the_mean_of_those_who_stayed():
    """Weights 1 and 3 of 3; the third client, which drops out, does not count."""
    coding, rng = FixedPoint(16, clients=3, clip=1, most_examples=3), numpy_rng(0)
    changes = {0: ([1.0, 0.5, 0.0], 1), 1: ([-1.0, 0.5, 0.4], 3), 2: ([1.0, 1.0, 1.0], 2)}
    vectors = {n: coding.encode(np.array(change), k, rng) for n, (change, k) in changes.items()}
    mean, examples = coding.decode(secure_sum(vectors, 2, dropped_before_masking=[2]))
    assert mean == pytest.approx([-0.5, 0.5, 0.3], abs=coding.step)
    assert examples == pytest.approx(4, abs=1e-3)


# What the server sees.


def test_a_masked_vector_alone_looks_uniform():
    """Of zeros; chi-square of its bytes has mean 255 and standard deviation 22.6."""
    _, clients, inboxes = shared(dict.fromkeys(range(3), b""))
    masked = clients[0].mask(inboxes[0], np.zeros(50_000, np.uint32))
    counts = np.bincount(masked.view(np.uint8), minlength=256)
    expected = masked.nbytes / 256
    assert 140 < ((counts - expected) ** 2 / expected).sum() < 400


def test_two_sums_of_the_same_vectors_look_unlike():
    vectors = draw_vectors(range(3), size=50)
    one, other = (
        mask_all(clients, inboxes, vectors)
        for _, clients, inboxes in (shared(dict.fromkeys(vectors, b"")) for _ in range(2))
    )
    assert all((one[n] != other[n]).sum() > 40 for n in vectors)
    assert all((one[n] != vectors[n]).sum() > 40 for n in vectors)


@pytest.mark.parametrize("gone", [[], [3]])
def test_with_another_model_the_sum_is_garbage_and_no_update_is_bared(gone):
    """The server knows what all others sent; even so it cannot take it away from the sum."""
    server, clients, inboxes = shared({0: b"model", 1: b"other", 2: b"model", 3: b"model"})
    vectors = draw_vectors([n for n in clients if n not in gone], size=200)
    total = finish(server, clients, mask_all(clients, inboxes, vectors))
    expected = plain_sum(vectors)
    assert (total == expected).mean() < 0.05
    bared = total - (expected - vectors[1])
    assert (bared == vectors[1]).mean() < 0.05


def test_without_masks_that_depend_on_the_model_that_update_would_be_bared():
    """The same, but that all clients agree."""
    server, clients, inboxes = shared(dict.fromkeys(range(4), b"model"))
    vectors = draw_vectors(clients, size=200)
    total = finish(server, clients, mask_all(clients, inboxes, vectors))
    bared = total - (plain_sum(vectors) - vectors[1])
    assert np.array_equal(bared, vectors[1])


def test_garbage_is_not_decoded():
    coding = FixedPoint(32, clients=3, clip=1, most_examples=1)
    server, clients, inboxes = shared({0: b"model", 1: b"other", 2: b"model"})
    vectors = {n: coding.encode(np.zeros(50_000), 1, numpy_rng(n)) for n in clients}
    with pytest.raises(ValueError, match="total: got"):
        coding.decode(finish(server, clients, mask_all(clients, inboxes, vectors)))


def test_the_server_gets_one_secret_of_each_client_and_it_is_the_right_one():
    """Joined, the shares are the private key of the one that dropped out, of no survivor's."""
    server, clients, inboxes = shared(dict.fromkeys(range(4), b""))
    for n in (0, 1, 3):
        server.add(n, clients[n].mask(inboxes[n], np.zeros(4, np.uint32)))
    survivors = server.survivors()
    assert survivors == (0, 1, 3)
    replies = {n: clients[n].unmask(survivors) for n in survivors}
    assert all(reply.keys() == set(range(4)) for reply in replies.values())
    for client in range(4):
        secret = shamir.join({n + 1: reply[client] for n, reply in replies.items()})
        is_key = masks.public_key(secret) == server.roster[client].masking
        assert is_key == (client == 2)


@pytest.mark.parametrize(("by", "to"), [(0, 2), (2, 1), (1, 0)])
def test_shares_can_be_read_by_their_client_only(by, to):
    """What client 0 sealed for 2, what 2 sealed for 1, and what 1 itself sealed for 0."""
    _, clients, inboxes = shared(dict.fromkeys(range(3), b""))
    with pytest.raises(ValueError, match="the shares of client 0 do not open, expected what it"):
        clients[1].mask({0: inboxes[to][by], 2: inboxes[1][2]}, np.zeros(4, np.uint32))


def test_shares_of_another_round_do_not_open():
    clients = [Client(n, 2, round_number=n) for n in range(2)]
    roster = dict(enumerate(client.advertise() for client in clients))
    sent = [client.share(roster) for client in clients]
    with pytest.raises(ValueError, match="the shares of client 1 do not open"):
        clients[0].mask({1: sent[1][0]}, np.zeros(4, np.uint32))


# What is refused.


def test_a_client_reveals_one_set_of_shares_only():
    """Else two answers would give both secrets of client 2: once it survived, once it did not."""
    _, clients, inboxes = shared(dict.fromkeys(range(3), b""))
    mask_all(clients, inboxes, draw_vectors(clients))
    clients[0].unmask([0, 1, 2])
    for again in ([0, 1], [0, 1, 2]):
        with pytest.raises(ValueError, match=r"step: got 'unmask', expected no further step"):
            clients[0].unmask(again)


@pytest.mark.parametrize(
    ("survivors", "message"),
    [
        ([0, 1], "survivors: got '2 clients', expected at least 3, the threshold"),
        ([0, 0, 1], "survivors: got '2 clients', expected at least 3, the threshold"),
        ([1, 2, 3], r"survivors: got \[1, 2, 3\], expected 0, and others of \[0, 1, 2, 3\]"),
        ([0, 1, 2, 9], r"survivors: got \[0, 1, 2, 9\], expected 0, and others"),
    ],
)
def test_a_client_refuses_survivors_that_cannot_be(survivors, message):
    _, clients, inboxes = shared(dict.fromkeys(range(4), b""))
    mask_all(clients, inboxes, draw_vectors(clients))
    with pytest.raises(ValueError, match=message):
        clients[0].unmask(survivors)


def test_a_client_does_not_use_its_masks_twice():
    """The difference of two vectors under the same masks would be theirs without any."""
    _, clients, inboxes = shared(dict.fromkeys(range(3), b""))
    clients[0].mask(inboxes[0], np.zeros(4, np.uint32))
    with pytest.raises(ValueError, match="step: got 'mask', expected unmask: each once and in"):
        clients[0].mask(inboxes[0], np.ones(4, np.uint32))


def test_a_client_refuses_rosters_and_inboxes_that_do_not_fit():
    clients = [Client(n, 3) for n in range(4)]
    roster = dict(enumerate(client.advertise() for client in clients))
    with pytest.raises(ValueError, match="roster: got '2 clients', expected at least 3"):
        clients[0].share({n: roster[n] for n in (0, 1)})
    with pytest.raises(ValueError, match=r"roster: got \[0, 2, 3\], expected 1 in it"):
        clients[1].share({n: roster[n] for n in (0, 2, 3)})
    sealed = clients[2].share(roster)
    with pytest.raises(ValueError, match="inbox: got '2 clients', expected at least 3"):
        clients[2].mask({3: sealed[3]}, np.zeros(4, np.uint32))
    clients[3].share(roster)
    with pytest.raises(ValueError, match=r"inbox: got \[3, 7\], expected other clients"):
        clients[3].mask(dict.fromkeys((1, 2, 3, 7), b""), np.zeros(4, np.uint32))


def test_the_server_takes_one_vector_of_each_and_none_too_late():
    server, clients, inboxes = shared(dict.fromkeys(range(3), b""))
    masked = mask_all(clients, inboxes, draw_vectors(clients))
    server.add(0, masked[0])
    with pytest.raises(ValueError, match=r"client: got 0, expected one of \[1, 2\]"):
        server.add(0, masked[0])
    with pytest.raises(ValueError, match=r"masked: got 'uint32 \(3,\)', expected uint32 \(5,\)"):
        server.add(1, masked[1][:3])
    with pytest.raises(ValueError, match=r"masked: got 'uint16 \(5,\)', expected uint32 \(5,\)"):
        server.add(1, masked[1].astype(np.uint16))
    server.add(1, masked[1])
    server.survivors()
    with pytest.raises(ValueError, match=r"client: got 2, expected one of \[\]"):
        server.add(2, masked[2])


def test_a_roster_with_other_keys_or_twice_the_threshold_is_refused():
    """Two of four could tell one half that a client is there, and the other that it is not."""
    clients = [Client(n, 2) for n in range(4)]
    roster = {n: client.advertise() for n, client in enumerate(clients)}
    with pytest.raises(ValueError, match="threshold: got 2, expected more than half of 4"):
        clients[0].share(roster)
    few = {n: roster[n] for n in (1, 2, 3)}
    with pytest.raises(ValueError, match=r"roster: .* expected 1 in it, with the keys it adver"):
        clients[1].share(few | {1: roster[0]})
    assert clients[2].share(few).keys() == {1, 3}


def test_the_server_goes_on_with_enough_clients_only():
    server, clients = Server(2), [Client(n, 2) for n in range(3)]
    roster = server.announce(dict(enumerate(client.advertise() for client in clients)))
    with pytest.raises(ValueError, match="sent: got '1 clients', expected at least 2"):
        server.deliver({0: clients[0].share(roster)})
    server, clients, inboxes = shared(dict.fromkeys(range(3), b""))
    server.add(0, clients[0].mask(inboxes[0], np.zeros(4, np.uint32)))
    with pytest.raises(ValueError, match="survivors: got '1 clients', expected at least 2"):
        server.survivors()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda sent: sent.update({9: sent.pop(2)}),
        lambda sent: sent[2].pop(1),
        lambda sent: sent[2].update({9: b""}),
    ],
)
def test_the_server_delivers_from_each_of_the_roster_to_each(spoil):
    server, clients = Server(2), [Client(n, 2) for n in range(3)]
    roster = server.announce(dict(enumerate(client.advertise() for client in clients)))
    sent = dict(enumerate(client.share(roster) for client in clients))
    spoil(sent)
    with pytest.raises(
        ValueError, match=r"sent: got 'messages of \[[29]\]', expected one for each"
    ):
        server.deliver(sent)


def test_the_server_refuses_replies_that_do_not_fit():
    for spoil, message in (
        (lambda r: r.pop(0), "replies: got '1 clients', expected at least 2"),
        (lambda r: r[0].pop(2), r"replies: got 'replies of \[0\]', expected of survivors"),
        (lambda r: r.update({2: r[0]}), r"replies: got 'replies of \[2\]', expected of surviv"),
        (lambda r: r[0].update({1: 2**500}), r"shares: got '2 of holders \[1, 2\]', expected as"),
        (lambda r: [x.update({2: 5}) for x in r.values()], "replies: got 'another key for cl"),
    ):
        server, clients, inboxes = shared(dict.fromkeys(range(3), b""))
        for n in (0, 1):
            server.add(n, clients[n].mask(inboxes[n], np.zeros(4, np.uint32)))
        survivors = server.survivors()
        replies = {n: clients[n].unmask(survivors) for n in survivors}
        spoil(replies)
        with pytest.raises(ValueError, match=message):
            server.unmask(replies)


def test_keys_that_come_twice_are_refused():
    keys = Client(0, 2).advertise()
    with pytest.raises(ValueError, match="keys: got 'one of them twice', expected all different"):
        Server(2).announce({0: keys, 1: keys})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 1}, "threshold: got 1, expected at least 2"),
        ({"threshold": 2.0}, "threshold: got 2.0, expected an integer"),
        ({"threshold": 4}, "keys: got '3 clients', expected at least 4, the threshold"),
        ({"dropped_after": [7]}, r"dropped: got \[7\], expected some of \[0, 1, 2\]"),
        ({"vectors": {0: np.zeros(2), 1: np.zeros(2)}}, r"vector: got 'float64 \(2,\)'"),
    ],
)
def test_a_sum_that_cannot_be_is_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        secure_sum(**{"vectors": draw_vectors(range(3)), "threshold": 2} | arguments)


def test_public_keys_travel_as_64_bytes():
    keys = Client(0, 2).advertise()
    assert len(keys.to_bytes()) == 64
    assert PublicKeys.from_bytes(keys.to_bytes()) == keys
    assert keys.sealing != keys.masking
    with pytest.raises(ValueError, match="message: got '63 bytes', expected 64"):
        PublicKeys.from_bytes(keys.to_bytes()[1:])
