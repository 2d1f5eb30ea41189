"""Masks that two clients can both make and that nobody else knows.

X25519 (RFC 7748) gives two clients a common secret, HKDF-SHA256 (RFC 5869) derives a seed from it
for one purpose and one round, and the keystream of ChaCha20 (RFC 8439) stretches the seed to as
many elements of the ring as an update has values.
"""

from collections.abc import Iterator
from hashlib import sha256

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedlab_helpers.core.require import require

KEY_BYTES = 32  # of private and public keys, of common secrets and of seeds
ELEMENTS = (np.dtype("<u1"), np.dtype("<u2"), np.dtype("<u4"))  # rings of 8, 16 and 32 bits
_BLOCK = 1 << 16  # bytes of the keystream at a time, which stay in the processor's cache
_ZEROS = bytes(_BLOCK)


def public_key(private: bytes) -> bytes:
    """Return the public key, `KEY_BYTES`, of a private one: X25519 with the base point 9
    (RFC 7748, section 6.1). Raises ValueError unless it has `KEY_BYTES`."""
    return _private(private).public_key().public_bytes_raw()


def common_secret(private: bytes, public: bytes) -> bytes:
    """Return what two parties share, `KEY_BYTES`: each from its private key and the other's public
    one, X25519 (RFC 7748, section 5).

    It is not uniform: derive keys from it. Raises ValueError unless both keys have `KEY_BYTES`,
    and for a public key of small order, which would give zeros (section 6.1).
    """
    require(len(public) == KEY_BYTES, "public", f"{len(public)} bytes", f"{KEY_BYTES}")
    key = _private(private)
    try:
        return key.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise ValueError(f"public: got {public.hex()} of small order, expected another") from error


def _private(key: bytes) -> X25519PrivateKey:
    require(len(key) == KEY_BYTES, "private", f"{len(key)} bytes", f"{KEY_BYTES}")
    return X25519PrivateKey.from_private_bytes(key)


def derive(secret: bytes, info: bytes, salt: bytes = b"", length: int = KEY_BYTES) -> bytes:
    """Return `length` bytes for one purpose, which `info` names: HKDF-SHA256 (RFC 5869, 2)."""
    return HKDF(SHA256(), length, salt, info).derive(secret)


def purpose(name: str, number: int, *agreed: bytes) -> bytes:
    """Return an info string for `derive`: a name, the number of the round, and a hash.

    Two clients derive the same seed only if they agree in all of it. With the received model in it,
    clients that were sent different models get masks that do not cancel, so that a server cannot
    tell one client's update by sending the others a model that they have nothing to say about
    (Pasquini et al. 2022, arXiv:2111.07380).

    Args:
        name: what the key is for.
        number: of the round, from 0 to 2^64 - 1.
        agreed: what all must have received alike, the model's bytes for one. Of these, each
            preceded by its length, the string holds the SHA-256 hash.
    """
    digest = sha256()
    for part in agreed:
        digest.update(len(part).to_bytes(8, "little") + part)
    return f"fedlab_helpers {name} ".encode() + number.to_bytes(8, "little") + digest.digest()


def keystream(seed: bytes, start: bytes = bytes(16)) -> CipherContext:
    """Return ChaCha20 (RFC 8439, section 2.4), whose encryption of zeros is the keystream.

    Args:
        seed: the key, of `KEY_BYTES`, used for this one stream only.
        start: the counter of blocks, 4 bytes, little endian, and the nonce, 12 bytes.
    """
    require(len(seed) == KEY_BYTES, "seed", f"{len(seed)} bytes", f"{KEY_BYTES}")
    return Cipher(algorithms.ChaCha20(seed, start), mode=None).encryptor()


def add_mask(vector: np.ndarray, seed: bytes) -> None:
    """Add the mask of a seed to a vector in place, modulo 2^bits.

    Args:
        vector: (d,), of one of the dtypes `ELEMENTS`.
        seed: of `KEY_BYTES`.

    Raises:
        ValueError: one of these is not so.
    """
    for part, mask in _blocks(vector, seed):
        part += mask


def subtract_mask(vector: np.ndarray, seed: bytes) -> None:
    """Subtract in place what `add_mask` adds, with the same arguments."""
    for part, mask in _blocks(vector, seed):
        part -= mask


def _blocks(vector: np.ndarray, seed: bytes) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield views of the parts of a vector, each with its mask, which the next one overwrites."""
    require_elements(vector)
    stream = keystream(seed)
    raw = np.empty(_BLOCK, np.uint8)
    block = raw.view(vector.dtype)
    for start in range(0, len(vector), len(block)):
        part = vector[start : start + len(block)]
        stream.update_into(_ZEROS, raw)
        yield part, block[: len(part)]


def require_elements(vector: np.ndarray) -> None:
    """Raise a ValueError unless this is a vector (d,) of one of the dtypes `ELEMENTS`."""
    fine = isinstance(vector, np.ndarray) and vector.ndim == 1 and vector.dtype in ELEMENTS
    got = f"{vector.dtype} {vector.shape}" if isinstance(vector, np.ndarray) else vector
    require(fine, "vector", got, "an array (d,) of uint8, uint16 or uint32")
