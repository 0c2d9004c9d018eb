"""The files of TLS: the server's certificate and key, and the certificate authorities of devices.

Only a gateway that serves reads them. A user who may register devices does not need access to the key.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from typing import TYPE_CHECKING

from gateway.config.checks import Conflict
from gateway.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gateway.config.model import Config
    from gateway.config.sources import Location

_PEM = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
SECTION = "server", "tls"
GENERAL = ""
"""In the place of a profile's name: all profiles without an authority of their own."""
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: only with forward secrecy and authenticated encryption, as TLS 1.3 always has."""


def server_context(config: Config) -> ssl.SSLContext | None:
    """The TLS context of the server; None without a certificate.

    Raises:
        GatewayError: the files cannot be used.
    """
    tls = config.server.tls
    if tls.certificate is None or tls.key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # whatever the system's OpenSSL is set to
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    try:
        # With a password given, OpenSSL does not ask for one on the terminal when the key is encrypted.
        context.load_cert_chain(tls.certificate, tls.key, password="")
    except (OSError, ssl.SSLError) as error:
        why = getattr(error, "reason", None) or error
        raise GatewayError(f"{tls.certificate} with the key {tls.key} cannot be used: {why}") from error
    for _, _, path in _authorities(config):
        _ask_for_certificates(context, path)
    return context


def _authorities(config: Config) -> Iterator[tuple[str, Location, Path]]:
    """For each file of authorities: the profile or `GENERAL`, the setting, and the path."""
    if config.server.tls.client_ca is not None:
        yield GENERAL, (*SECTION, "client_ca"), config.server.tls.client_ca
    for name, profile in config.profiles.items():
        if profile.client_ca is not None:
            yield name, ("profiles", name, "client_ca"), profile.client_ca


def owners_of_authorities(config: Config) -> dict[bytes, frozenset[str]]:
    """The profiles (or `GENERAL`) of each authority, by the SHA-256 of its certificate.

    Raises:
        GatewayError: a file cannot be used.
    """
    owners: dict[bytes, frozenset[str]] = {}
    for profile, _, path in _authorities(config) if config.server.tls.certificate is not None else ():
        try:
            for certificate in certificates_in(path):
                sha256 = hashlib.sha256(certificate).digest()
                owners[sha256] = owners.get(sha256, frozenset()) | {profile}
        except (OSError, ValueError) as error:
            raise GatewayError(f"the authorities in {path} cannot be used: {error}") from error
    return owners


def certificate_files(config: Config) -> tuple[Path, ...]:
    """The files with certificates that TLS uses; none without TLS."""
    served = config.server.tls.certificate
    return () if served is None else tuple(dict.fromkeys((served, *(path for _, _, path in _authorities(config)))))


def certificates_in(path: Path) -> list[bytes]:
    """The certificates of a PEM file, as DER.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    found = _PEM.findall(path.read_text(encoding="ascii", errors="replace"))
    return [ssl.PEM_cert_to_DER_cert(pem) for pem in found]


def _ask_for_certificates(context: ssl.SSLContext, authorities: Path) -> None:
    """Verify a client's certificate if it has one; browsers and devices with a token have none.

    Every authority in the file is trusted, also one that another authority has signed. Its certificate need not say
    what its key is for: that of ``openssl req -x509`` does not, and Python would refuse it from version 3.13 on.
    """
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags = ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(authorities)
    except (OSError, ssl.SSLError) as error:
        why = getattr(error, "reason", None) or error
        raise GatewayError(f"the authorities in {authorities} cannot be used: {why}") from error


def unusable(config: Config) -> Iterator[Conflict]:
    """The problems of the files that are named."""
    tls = config.server.tls
    files: dict[Location, Path | None] = {(*SECTION, "certificate"): tls.certificate, (*SECTION, "key"): tls.key}
    authorities = {location: path for _, location, path in _authorities(config)}
    named = {location: path for location, path in {**files, **authorities}.items() if path is not None}
    wrong = {location: why for location, path in named.items() if (why := _unreadable(path))}
    for location, why in wrong.items():
        yield Conflict((location,), f"{named[location]} cannot be read: {why}")
    if not wrong:
        try:
            server_context(config)
            owners_of_authorities(config)
        except GatewayError as error:
            yield Conflict((*files, *authorities), str(error))


def _unreadable(path: Path) -> str | None:
    try:
        path.open("rb").close()
    except OSError as error:
        return error.strerror or str(error)
    return None
