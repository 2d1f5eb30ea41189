"""Certificates and keys of a network, as files: who may speak, and to whom."""

import datetime
import ipaddress
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID_DAYS = 30


def make_certificates(folder: Path, host: str = "127.0.0.1") -> None:
    """Write ca.crt, which nodes trust, and server.pem and server.key, which the SuperLink shows.

    The authority's own key is not written: nobody can make another certificate of it.

    Args:
        folder: made if it is not there.
        host: the IP address at which the SuperLink listens; "localhost" is valid, too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    authority, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = _name("fedlab_helpers authority")
    ca = _certificate(issuer, authority, issuer, authority, is_authority=True)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(host))]
    own = _certificate(
        _name("SuperLink"),
        server,
        issuer,
        authority,
        x509.SubjectAlternativeName(names),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
    )
    _write(folder / "ca.crt", ca.public_bytes(form.Encoding.PEM))
    _write(folder / "server.pem", own.public_bytes(form.Encoding.PEM))
    _write(folder / "server.key", _private(server, form.PrivateFormat.PKCS8))


def make_key(path: Path) -> None:
    """Write a SuperNode's private key to a path, and its public key beside it, ending in .pub."""
    key = ec.generate_private_key(ec.SECP384R1())
    public = key.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH)
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, _private(key, form.PrivateFormat.OpenSSH))
    _write(path.with_name(path.name + ".pub"), public + b"\n")


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    signer: ec.EllipticCurvePrivateKey,
    *more: x509.ExtensionType,
    is_authority: bool = False,
) -> x509.Certificate:
    """Return a certificate for a key, signed by another."""
    now = datetime.datetime.now(datetime.UTC)
    # For: signatures, commitment, three ways to encipher or agree, certificates, their revocation.
    usage = x509.KeyUsage(not is_authority, *4 * [False], *2 * [is_authority], False, False)
    public, signers = key.public_key(), signer.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.BasicConstraints(is_authority, 0 if is_authority else None), True)
        .add_extension(usage, True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signers), False)
    )
    for extension in more:
        builder = builder.add_extension(extension, False)
    return builder.sign(signer, hashes.SHA256())


def _private(key: ec.EllipticCurvePrivateKey, kind: form.PrivateFormat) -> bytes:
    return key.private_bytes(form.Encoding.PEM, kind, form.NoEncryption())


def _write(path: Path, content: bytes) -> None:
    """Write a new file that, on POSIX, only its owner can read."""
    path.unlink(missing_ok=True)  # with whatever rights it had
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
