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

AUTHORITY = "fedlab_helpers authority"
VALID_DAYS = 30
Key = ec.EllipticCurvePrivateKey


def make_certificates(folder: Path, host: str = "127.0.0.1", again: bool = False) -> None:
    """Write ca.crt, which nodes trust, and server.pem and server.key, which the SuperLink shows.

    The authority's own key is not written: nobody can make another certificate of it.

    Args:
        folder: made if it is not there.
        host: the IP address at which the SuperLink listens; "localhost" is valid, too.
        again: files of these names are replaced; else they raise FileExistsError.
    """
    authority, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(host))]
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    ca = _certificate(AUTHORITY, authority, authority)
    own = _certificate("SuperLink", server, authority, x509.SubjectAlternativeName(names), usage)
    _write(folder / "ca.crt", ca.public_bytes(form.Encoding.PEM), again)
    _write(folder / "server.pem", own.public_bytes(form.Encoding.PEM), again)
    _write(folder / "server.key", _private(server, form.PrivateFormat.PKCS8), again)


def are_valid(folder: Path, host: str) -> bool:
    """Return whether a folder holds certificates of `make_certificates` for this host, for a day
    at least."""
    if not all((folder / name).exists() for name in ("ca.crt", "server.pem", "server.key")):
        return False
    own = x509.load_pem_x509_certificate((folder / "server.pem").read_bytes())
    names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    there = ipaddress.ip_address(host) in names.get_values_for_type(x509.IPAddress)
    left = own.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    return there and left > datetime.timedelta(days=1)


def make_key(path: Path, again: bool = False) -> None:
    """Write a SuperNode's private key to a path, and its public key beside it, ending in .pub;
    what is there is replaced where `again` says so, else it raises FileExistsError."""
    key = ec.generate_private_key(ec.SECP384R1())
    public = key.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH)
    _write(path, _private(key, form.PrivateFormat.OpenSSH), again)
    _write(path.with_name(path.name + ".pub"), public + b"\n", again)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(
    subject: str, key: Key, authority: Key, *more: x509.ExtensionType
) -> x509.Certificate:
    """Return a certificate for a key, signed by the authority's, which may be the same."""
    is_authority = key is authority
    now = datetime.datetime.now(datetime.UTC)
    # For: signatures, commitment, three ways to encipher or agree, certificates, their revocation.
    usage = x509.KeyUsage(not is_authority, *4 * [False], *2 * [is_authority], False, False)
    public, signers = key.public_key(), authority.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(AUTHORITY))
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
    return builder.sign(authority, hashes.SHA256())


def _private(key: Key, kind: form.PrivateFormat) -> bytes:
    return key.private_bytes(form.Encoding.PEM, kind, form.NoEncryption())


def _write(path: Path, content: bytes, again: bool) -> None:
    """Write a new file that, on POSIX, only its owner can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if again:
        path.unlink(missing_ok=True)  # with whatever rights it had
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
