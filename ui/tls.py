"""A self-signed certificate, since phone browsers allow camera access over https only; kept between runs."""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography import x509

_FOLDER = "streaming-video-assistant"
_LIFE = datetime.timedelta(days=397)
"""The longest lifetime that browsers accept."""
_RENEWED_BEFORE = datetime.timedelta(days=14)


@dataclass(frozen=True, slots=True)
class SelfSigned:
    """A certificate with its key."""

    certfile: Path
    keyfile: Path
    fingerprint: str
    """SHA-256 as pairs of hex digits, as browsers show it."""


def default_folder() -> Path:
    """The folder in which the certificate is kept, in the user's state folder."""
    root = os.environ.get("XDG_STATE_HOME")
    return (Path(root) if root else Path.home() / ".local" / "state") / _FOLDER


def own_address() -> str | None:
    """This machine's address in its network, or None. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            found = str(probe.getsockname()[0])
        except OSError:
            return None
    return None if ipaddress.ip_address(found).is_unspecified else found


def self_signed(host: str, folder: Path | None = None) -> SelfSigned:
    """The kept certificate if it is still valid for this machine's names, else a new one.

    host: the address the app is bound to. Only its owner can read the key.
    """
    kept = folder or default_folder()
    certfile, keyfile = kept / "certificate.pem", kept / "key.pem"
    names = _names(host)
    certificate = _read(certfile) if keyfile.exists() else None
    if certificate is None or not _holds(certificate, names):
        certificate = _make(certfile, keyfile, names)
    return SelfSigned(certfile, keyfile, _fingerprint(certificate))


def fingerprint_of(certfile: Path) -> str | None:
    """SHA-256 fingerprint of a PEM certificate, or None if it cannot be read."""
    certificate = _read(certfile)
    return None if certificate is None else _fingerprint(certificate)


def qr_code(text: str) -> str:
    """`text` as a QR code for a terminal."""
    import io

    import segno

    out = io.StringIO()
    segno.make(text, error="l", micro=False).terminal(out=out, border=2, compact=True)
    return out.getvalue()


def _names(host: str) -> tuple[str, ...]:
    """Names and addresses under which a browser may open this machine."""
    found = [socket.gethostname(), f"{socket.gethostname()}.local", "localhost", "127.0.0.1", "::1", own_address()]
    if not _address(host) or not ipaddress.ip_address(host).is_unspecified:
        found.insert(0, host)
    return tuple(dict.fromkeys(name for name in found if name))


def _make(certfile: Path, keyfile: Path, names: tuple[str, ...]) -> x509.Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "streaming video assistant")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    keyfile.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    keyfile.unlink(missing_ok=True)
    with os.fdopen(os.open(keyfile, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(private)
    certfile.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return certificate


def _read(certfile: Path) -> x509.Certificate | None:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(certfile.read_bytes())
    except (OSError, ValueError):
        return None


def _holds(certificate: x509.Certificate, names: tuple[str, ...]) -> bool:
    """Whether the certificate is valid for another two weeks and covers all `names`."""
    from cryptography import x509

    if certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC) < _RENEWED_BEFORE:
        return False
    try:
        listed = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    return {_general_name(name) for name in names} <= set(listed)


def _general_name(name: str) -> x509.GeneralName:
    from cryptography import x509

    address = _address(name)
    return x509.DNSName(name) if address is None else x509.IPAddress(address)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _fingerprint(certificate: x509.Certificate) -> str:
    from cryptography.hazmat.primitives import hashes

    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()
