"""Secret sharing: a small polynomial by hand, any subset of shares, and what is refused."""

import secrets
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlab_helpers.privacy.secure import shamir

SECRET = (7).to_bytes(32, "big")


def test_shares_are_values_of_the_polynomial(monkeypatch):
    """7 + 3 x + 2 x² at 1, 2, 3 and 5."""
    random = iter([3, 2])
    monkeypatch.setattr(secrets, "randbelow", lambda prime: next(random))
    shares = shamir.split(SECRET, 3, [1, 2, 3, 5])
    assert shares == {1: 12, 2: 21, 3: 34, 5: 72}
    for chosen in combinations(shares, 3):
        assert shamir.join({x: shares[x] for x in chosen}) == SECRET


def test_a_value_beyond_the_prime_wraps_round(monkeypatch):
    """7 - 3 x at 3 is -2."""
    monkeypatch.setattr(secrets, "randbelow", lambda prime: prime - 3)
    assert shamir.split(SECRET, 2, [1, 3]) == {1: 4, 3: shamir.PRIME - 2}


@given(st.binary(min_size=32, max_size=32), st.data())
def test_any_threshold_of_the_shares_gives_the_secret_and_fewer_give_none(secret, data):
    holders = data.draw(st.sets(st.integers(1, 10**6), min_size=2, max_size=8).map(sorted))
    threshold = data.draw(st.integers(2, len(holders)))
    shares = shamir.split(secret, threshold, holders)
    some = data.draw(st.permutations(holders))
    for count in range(threshold, len(holders) + 1):
        assert shamir.join({x: shares[x] for x in some[:count]}) == secret
    with pytest.raises(ValueError, match=r"shares: got .*expected as many as the threshold"):
        shamir.join({x: shares[x] for x in some[: threshold - 1]})


def test_shares_are_drawn_anew_and_fit_the_bytes_they_travel_in():
    one, other = (shamir.split(bytes(32), 2, [1, 2]) for _ in range(2))
    assert one != other
    assert (shamir.PRIME - 1).to_bytes(shamir.SHARE_BYTES, "big")


def test_shares_of_two_secrets_are_noticed():
    one, other = (shamir.split(SECRET, 2, [1, 2]) for _ in range(2))
    with pytest.raises(ValueError, match=r"shares: got '2 of holders \[1, 2\]', .* of one secret"):
        shamir.join({1: one[1], 2: other[2]})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((b"short", 2, [1, 2]), "secret: got '5 bytes', expected 32"),
        ((SECRET, 0, [1, 2]), "threshold: got 0, expected an integer of at least 1"),
        ((SECRET, 3, [1, 2]), "threshold: got 3, expected at most 2, the holders"),
        ((SECRET, 1, [0, 1]), r"holders: got \[0, 1\], expected integers from 1"),
        ((SECRET, 1, [shamir.PRIME]), "holders: .*expected integers from 1 to PRIME - 1"),
        ((SECRET, 1, [1, 2, 1]), r"holders: got \[1, 2, 1\], expected each of them once"),
    ],
)
def test_what_cannot_be_split_is_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        shamir.split(*arguments)


def test_what_cannot_be_joined_is_refused_by_name():
    with pytest.raises(ValueError, match=r"shares: got \{\}, expected at least one"):
        shamir.join({})
    with pytest.raises(ValueError, match=r"holders: got \[0, 2\]"):
        shamir.join({0: 5, 2: 9})
