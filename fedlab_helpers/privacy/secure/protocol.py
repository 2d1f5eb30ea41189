"""A sum of vectors of which the server sees nothing but the sum, though clients may drop out.

Bonawitz et al. 2017, doi:10.1145/3133956.3133982, figure 4, without the round that checks that all
clients were told of the same survivors. Every pair of clients agrees on a mask, which one adds and
the other subtracts, and every client adds a mask of its own. Four rounds:

    advertise   a client sends two public keys, and receives those of all
    share       it splits its secret masking key and the seed of its own mask among all clients,
                sealed for each; the server passes them on without being able to read them
    mask        it sends its vector under all masks
    unmask      it is told who sent a vector, the survivors. For each of these it sends its share
                of the seed, for every other client its share of the masking key. With `threshold`
                shares of each the server removes the masks that have not cancelled

Nobody may learn both secrets of one client: they would bare its vector. So a client takes one
request only, and that names survivors only.

This holds against a server that follows the rules. One that cheats could hand out keys of its own
in the place of the clients': nobody vouches for a roster here. The paper has signatures for that.
"""

import json
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from fedlab_helpers.core.require import require, require_count
from fedlab_helpers.privacy.secure import masks, shamir

_NONCE_BYTES = 12


@dataclass(frozen=True)
class PublicKeys:
    """What a client advertises: the keys to seal shares for it, and to agree on masks with it."""

    sealing: bytes
    masking: bytes

    def to_bytes(self) -> bytes:
        """Return both keys, one after the other."""
        return self.sealing + self.masking

    @classmethod
    def from_bytes(cls, message: bytes) -> "PublicKeys":
        """Return the keys of such a message. Raises ValueError if it has another length."""
        size = 2 * masks.KEY_BYTES
        require(len(message) == size, "message", f"{len(message)} bytes", f"{size}")
        return cls(message[: masks.KEY_BYTES], message[masks.KEY_BYTES :])


class _Steps:
    """Steps that are taken once each and in order. One that is refused is not taken again."""

    def __init__(self, *names: str):
        self._names, self.done = names, 0

    @property
    def next(self) -> str:
        """The step that is to be taken now."""
        return (*self._names, "no further step")[self.done]

    def take(self, name: str) -> None:
        """Raise a ValueError unless this step is next."""
        order = ", ".join(self._names)
        require(name == self.next, "step", name, f"{self.next}: each once and in order, {order}")
        self.done += 1


class Client:
    """One client in one sum. Clients of other sums are others, with new keys.

    Args:
        number: of this client, from 0.
        threshold: how many clients it takes to remove masks, at least 2, and more than half of all:
            of fewer, a server could get both secrets of one from two separate groups. With c of n
            clients on its side it still can, unless `threshold` is more than (n + c) / 2.
        round_number: of the federated round, from 0.
    """

    def __init__(self, number: int, threshold: int, round_number: int = 0):
        require_count(threshold=threshold)
        require(threshold > 1, "threshold", threshold, "at least 2, or one client bares another")
        self.number, self.threshold, self.round_number = number, threshold, round_number
        self._sealing, self._masking, self._seed = (
            secrets.token_bytes(masks.KEY_BYTES) for _ in range(3)
        )
        self._roster: dict[int, PublicKeys] = {}
        self._shares: dict[int, tuple[int, int]] = {}  # client -> of its masking key, of its seed
        self._steps = _Steps("advertise", "share", "mask", "unmask")

    def advertise(self) -> PublicKeys:
        """Return the public keys, for all clients (round 0)."""
        self._steps.take("advertise")
        return PublicKeys(masks.public_key(self._sealing), masks.public_key(self._masking))

    def share(self, roster: Mapping[int, PublicKeys]) -> dict[int, bytes]:
        """Return client -> its shares of both secrets of this one, sealed for it (round 1).

        Args:
            roster: client -> its public keys, of all that advertised, this one among them.

        Raises:
            ValueError: they are fewer than `threshold`, or twice as many or more; or this one is
                not among them, or with other keys.
        """
        self._steps.take("share")
        _require_enough("roster", roster, self.threshold)
        own = PublicKeys(masks.public_key(self._sealing), masks.public_key(self._masking))
        mine = roster.get(self.number) == own
        require(mine, "roster", sorted(roster), f"{self.number} in it, with the keys it advertised")
        more = f"more than half of {len(roster)}, or two groups of them bare a client"
        require(2 * self.threshold > len(roster), "threshold", self.threshold, more)
        self._roster = dict(roster)
        of_key = _split(self._masking, self.threshold, roster)
        of_seed = _split(self._seed, self.threshold, roster)
        self._shares[self.number] = of_key[self.number], of_seed[self.number]
        peers = roster.keys() - {self.number}
        return {peer: self._seal(peer, of_key[peer], of_seed[peer]) for peer in peers}

    def mask(
        self, inbox: Mapping[int, bytes], vector: np.ndarray, context: bytes = b""
    ) -> np.ndarray:
        """Return the vector under the client's own mask and one for each peer (round 2).

        Args:
            inbox: client -> the shares that it sealed for this one.
            vector: (d,), uint8, uint16 or uint32: elements of a ring; not changed.
            context: what all clients must have received alike, such as the model's bytes. Masks of
                clients that differ in it or in the round do not cancel.

        Raises:
            ValueError: with this client, fewer than `threshold` have shared; one is not on the
                roster, or what it sealed does not open.
        """
        self._steps.take("mask")
        _require_enough("inbox", {self.number, *inbox}, self.threshold)
        strangers = sorted(inbox.keys() - (self._roster.keys() - {self.number}))
        require(not strangers, "inbox", strangers, "other clients of the roster only")
        self._shares |= {peer: self._open(peer, sealed) for peer, sealed in inbox.items()}
        masked = np.array(vector)
        masks.add_mask(masked, self._seed)
        purpose = _masking_purpose(self.round_number, context)
        for peer in inbox:
            seed = _pair_seed(self._masking, self._roster[peer], purpose)
            _change(masked, seed, add=self.number < peer)
        return masked

    def unmask(self, survivors: Iterable[int]) -> dict[int, int]:
        """Return client -> one of the two shares of it that this one holds (round 4).

        Args:
            survivors: clients whose vector the server has. Of these it gets shares of the seed, of
                all others shares of the masking key.

        Raises:
            ValueError: they are fewer than `threshold`, this one is not among them, or one has not
                shared; and when asked a second time.
        """
        self._steps.take("unmask")
        alive = set(survivors)
        _require_enough("survivors", alive, self.threshold)
        accepted = f"{self.number}, and others of {sorted(self._shares)}"
        fine = self.number in alive and alive <= self._shares.keys()
        require(fine, "survivors", sorted(alive), accepted)
        return {
            client: seed_share if client in alive else key_share
            for client, (key_share, seed_share) in self._shares.items()
        }

    def to_json(self) -> str:
        """Return all that this client knows, its secrets among it, for one whose process ends
        between two messages."""
        own = [self._sealing.hex(), self._masking.hex(), self._seed.hex()]
        roster = [[peer, keys.to_bytes().hex()] for peer, keys in self._roster.items()]
        shares = [[peer, *pair] for peer, pair in self._shares.items()]
        return json.dumps([self._steps.done, own, roster, shares])

    def restore(self, written: str) -> None:
        """Go on where a client with the same arguments wrote this by `to_json`."""
        self._steps.done, own, roster, shares = json.loads(written)
        self._sealing, self._masking, self._seed = map(bytes.fromhex, own)
        self._roster = {peer: PublicKeys.from_bytes(bytes.fromhex(keys)) for peer, keys in roster}
        self._shares = {peer: (of_key, of_seed) for peer, of_key, of_seed in shares}

    def _seal(self, peer: int, *shares: int) -> bytes:
        """Return shares that only this peer can read (RFC 8439, section 2.8)."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        plain = b"".join(share.to_bytes(shamir.SHARE_BYTES, "big") for share in shares)
        return nonce + self._cipher(peer).encrypt(nonce, plain, _route(self.number, peer))

    def _open(self, peer: int, sealed: bytes) -> tuple[int, int]:
        nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            plain = self._cipher(peer).decrypt(nonce, rest, _route(peer, self.number))
        except (InvalidTag, ValueError) as error:
            raise ValueError(
                f"inbox: the shares of client {peer} do not open, expected what it sealed for "
                f"client {self.number}"
            ) from error
        key_share, seed_share = plain[: shamir.SHARE_BYTES], plain[shamir.SHARE_BYTES :]
        return int.from_bytes(key_share, "big"), int.from_bytes(seed_share, "big")

    def _cipher(self, peer: int) -> ChaCha20Poly1305:
        secret = masks.common_secret(self._sealing, self._roster[peer].sealing)
        return ChaCha20Poly1305(masks.derive(secret, masks.purpose("sealing", self.round_number)))


class Server:
    """The server in one sum. It passes messages on, and learns the sum.

    Args:
        threshold, round_number, context: as the clients have it.

    `roster` is what it announced: client -> its public keys.
    """

    def __init__(self, threshold: int, round_number: int = 0, context: bytes = b""):
        require_count(threshold=threshold)
        self.threshold = threshold
        self._masking_purpose = _masking_purpose(round_number, context)
        self.roster: dict[int, PublicKeys] = {}
        self._sharers: set[int] = set()
        self._masked: set[int] = set()
        self._total: np.ndarray | None = None
        self._steps = _Steps("announce", "deliver", "survivors", "unmask")

    def announce(self, keys: Mapping[int, PublicKeys]) -> dict[int, PublicKeys]:
        """Return the roster that every client is sent (round 0).

        Args:
            keys: client -> what it advertised.

        Raises:
            ValueError: they are fewer than `threshold`, or two clients have a key in common.
        """
        self._steps.take("announce")
        _require_enough("keys", keys, self.threshold)
        distinct = {key for pair in keys.values() for key in (pair.sealing, pair.masking)}
        require(len(distinct) == 2 * len(keys), "keys", "one of them twice", "all different")
        self.roster = dict(keys)
        return dict(keys)

    def deliver(self, sent: Mapping[int, Mapping[int, bytes]]) -> dict[int, dict[int, bytes]]:
        """Return client -> its inbox, of those that shared (round 1).

        Args:
            sent: client -> what it sealed for each other.

        Raises:
            ValueError: they are fewer than `threshold`, or one is not on the roster, or has not
                sealed something for each other client of it.
        """
        self._steps.take("deliver")
        _require_enough("sent", sent, self.threshold)
        odd = sorted(by for by in sent if sent[by].keys() | {by} != self.roster.keys())
        require(
            not odd, "sent", f"messages of {odd}", f"one for each other of {sorted(self.roster)}"
        )
        self._sharers = set(sent)
        return {to: {by: sent[by][to] for by in sent if by != to} for to in sent}

    def add(self, client: int, masked: np.ndarray) -> None:
        """Add the masked vector of a client that shared to the sum (round 2).

        Raises:
            ValueError: its vector is there already, it has not shared, it comes when the survivors
                are named, or its shape or dtype is not that of the others.
        """
        masks.require_elements(masked)
        waited_for = self._sharers - self._masked if self._steps.next == "survivors" else set()
        require(client in waited_for, "client", client, f"one of {sorted(waited_for)}")
        if self._total is None:
            self._total = np.zeros_like(masked)
        fine = masked.shape == self._total.shape and masked.dtype == self._total.dtype
        expected = f"{self._total.dtype} {self._total.shape}, as of the others"
        require(fine, "masked", f"{masked.dtype} {masked.shape}", expected)
        self._total += masked
        self._masked.add(client)

    def survivors(self) -> tuple[int, ...]:
        """Return the clients whose vectors came, ascending; from here on none is taken.

        Raises:
            ValueError: they are fewer than `threshold`.
        """
        self._steps.take("survivors")
        _require_enough("survivors", self._masked, self.threshold)
        return tuple(sorted(self._masked))

    def unmask(self, replies: Mapping[int, Mapping[int, int]]) -> np.ndarray:
        """Return the sum of the survivors' vectors, modulo 2^bits.

        Args:
            replies: survivor -> what its `unmask` returned; some may be missing.

        Raises:
            ValueError: they are fewer than `threshold`, or shares do not give a client's secret.
        """
        self._steps.take("unmask")
        _require_enough("replies", replies, self.threshold)
        whole = {holder for holder, shares in replies.items() if shares.keys() >= self._sharers}
        odd = sorted(replies.keys() - (whole & self._masked))
        require(not odd, "replies", f"replies of {odd}", "of survivors, a share of each client")
        used = sorted(replies)[: self.threshold]
        for client in sorted(self._sharers):
            secret = _join({holder: replies[holder][client] for holder in used})
            if client in self._masked:
                masks.subtract_mask(self._total, secret)
            else:
                self._remove_pair_masks(client, secret)
        return self._total

    def _remove_pair_masks(self, dropped: int, key: bytes) -> None:
        """Take away what each survivor has added for a client whose vector did not come."""
        fine = masks.public_key(key) == self.roster[dropped].masking
        require(fine, "replies", f"another key for client {dropped}", "the one it advertised")
        for survivor in self._masked:
            seed = _pair_seed(key, self.roster[survivor], self._masking_purpose)
            _change(self._total, seed, add=dropped < survivor)


def secure_sum(
    vectors: Mapping[int, np.ndarray],
    threshold: int,
    dropped_before_masking: Collection[int] = (),
    dropped_after: Collection[int] = (),
    context: bytes | Mapping[int, bytes] = b"",
) -> np.ndarray:
    """Play all rounds in one process, and return the sum of the vectors that came.

    Args:
        vectors: client -> (d,), uint8, uint16 or uint32, all of one dtype and length.
        threshold: how many clients it takes to remove masks, at least 2.
        dropped_before_masking: clients that fall silent after they have shared. They are not in
            the sum.
        dropped_after: clients that fall silent after they have sent a vector. They are in the sum.
        context: what all clients received alike; or client -> what each received, of a server that
            cheats.

    Returns:
        (d,): the sum modulo 2^bits.

    Raises:
        ValueError: an argument is out of range, or fewer than `threshold` clients are left.
    """
    odd = sorted({*dropped_before_masking, *dropped_after} - vectors.keys())
    require(not odd, "dropped", odd, f"some of {sorted(vectors)}")
    each = context if isinstance(context, Mapping) else dict.fromkeys(vectors, context)
    server = Server(threshold, context=next(iter(each.values()), b""))
    clients = {number: Client(number, threshold) for number in vectors}
    roster = server.announce({number: client.advertise() for number, client in clients.items()})
    inboxes = server.deliver({number: client.share(roster) for number, client in clients.items()})
    for number in vectors.keys() - set(dropped_before_masking):
        server.add(number, clients[number].mask(inboxes[number], vectors[number], each[number]))
    survivors = server.survivors()
    answering = set(survivors) - set(dropped_after)
    return server.unmask({number: clients[number].unmask(survivors) for number in answering})


def _require_enough(name: str, clients: Collection[int], threshold: int) -> None:
    expected = f"at least {threshold}, the threshold"
    require(len(clients) >= threshold, name, f"{len(clients)} clients", expected)


def _split(secret: bytes, threshold: int, clients: Iterable[int]) -> dict[int, int]:
    """Return client -> share. Client 0 holds the value at 1, for at 0 stands the secret."""
    shares = shamir.split(secret, threshold, (client + 1 for client in clients))
    return {point - 1: share for point, share in shares.items()}


def _join(shares: Mapping[int, int]) -> bytes:
    """Return the secret of which clients hold these shares."""
    return shamir.join({client + 1: share for client, share in shares.items()})


def _masking_purpose(round_number: int, context: bytes) -> bytes:
    return masks.purpose("masking", round_number, context)


def _pair_seed(private: bytes, peer: PublicKeys, purpose: bytes) -> bytes:
    """Return the seed of the mask that two clients have in common."""
    return masks.derive(masks.common_secret(private, peer.masking), purpose)


def _change(vector: np.ndarray, seed: bytes, add: bool) -> None:
    """Add a mask, or subtract it: of a pair, the client with the lower number adds."""
    (masks.add_mask if add else masks.subtract_mask)(vector, seed)


def _route(sender: int, receiver: int) -> bytes:
    """Return what binds a sealed message to its two ends."""
    return sender.to_bytes(8, "little") + receiver.to_bytes(8, "little")
