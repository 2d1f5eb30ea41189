"""Keys and masks: the vectors of the RFCs, and masks that cancel for those who agree."""

import numpy as np
import pytest

from fedlab_helpers.privacy.secure import masks

ALICE = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"
BOB = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"
SUNSCREEN = (
    b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
    b"sunscreen would be it."
)
DTYPES = [np.uint8, np.uint16, np.uint32]


def of(text: str) -> bytes:
    return bytes.fromhex(text)


# What the RFCs say.


def test_x25519_rfc_7748_section_5_2():
    for scalar, point, product in (
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ):
        assert masks.common_secret(of(scalar), of(point)).hex() == product


def test_x25519_rfc_7748_section_6_1():
    public = [masks.public_key(of(private)).hex() for private in (ALICE, BOB)]
    assert public == [
        "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
        "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
    ]
    common = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert masks.common_secret(of(ALICE), of(public[1])).hex() == common
    assert masks.common_secret(of(BOB), of(public[0])).hex() == common


def test_hkdf_rfc_5869_appendix_a_1():
    info, salt = of("f0f1f2f3f4f5f6f7f8f9"), of("000102030405060708090a0b0c")
    assert masks.derive(b"\x0b" * 22, info, salt, 42).hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )


def test_hkdf_without_salt_rfc_5869_appendix_a_3():
    assert masks.derive(b"\x0b" * 22, b"", length=42).hex() == (
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    )


def test_chacha20_rfc_8439_section_2_4_2():
    start = (1).to_bytes(4, "little") + of("000000000000004a00000000")
    sealed = masks.keystream(bytes(range(32)), start).update(SUNSCREEN)
    assert sealed.hex() == (
        "6e2e359a2568f98041ba0728dd0d6981e97e7aec1d4360c20a27afccfd9fae0b"
        "f91b65c5524733ab8f593dabcd62b3571639d624e65152ab8f530c359f0861d8"
        "07ca0dbf500d6a6156a38e088a22b65e52bc514d16ccf806818ce91ab7793736"
        "5af90bbf74a35be6b40b8eedf2785e42874d"
    )


# Masks.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0, 1, 100, 70_001])
def test_a_mask_is_the_keystream_as_elements_and_comes_off_again(dtype, size):
    """The longest takes several blocks, the last of them in part."""
    seed, vector = bytes(range(32)), np.arange(size).astype(dtype)
    masked = vector.copy()
    masks.add_mask(masked, seed)
    stream = masks.keystream(seed).update(bytes(vector.nbytes))
    assert np.array_equal(masked, vector + np.frombuffer(stream, dtype))
    masks.subtract_mask(masked, seed)
    assert np.array_equal(masked, vector)


def test_a_purpose_differs_in_each_of_its_parts():
    alike = masks.purpose("masking", 3, b"model", b"plan")
    assert alike == masks.purpose("masking", 3, b"model", b"plan")
    others = {
        masks.purpose("sealing", 3, b"model", b"plan"),
        masks.purpose("masking", 4, b"model", b"plan"),
        masks.purpose("masking", 3, b"models", b"plan"),
        masks.purpose("masking", 3, b"model", b"plans"),
        masks.purpose("masking", 3, b"modelp", b"lan"),
        masks.purpose("masking", 3, b"model"),
    }
    assert len(others | {alike}) == 7
    secret = masks.common_secret(of(ALICE), masks.public_key(of(BOB)))
    assert len({masks.derive(secret, purpose) for purpose in others | {alike}}) == 7


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: masks.public_key(b"abc"), "private: got '3 bytes', expected 32"),
        (lambda: masks.common_secret(bytes(32), b"abc"), "public: got '3 bytes', expected 32"),
        (lambda: masks.common_secret(of(ALICE), bytes(32)), "public: got .*of small order"),
        (lambda: masks.keystream(b"abc"), "seed: got '3 bytes', expected 32"),
        (lambda: masks.add_mask(np.zeros(3), bytes(32)), r"vector: got 'float64 \(3,\)'"),
        (lambda: masks.add_mask(np.zeros((3, 1), "u4"), bytes(32)), r"vector: got 'uint32 \(3, 1"),
        (lambda: masks.add_mask([1], bytes(32)), r"vector: got \[1\], expected an array"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
