"""The server's certificate and key: the one part of the configuration that is in files of their own.

Only those who serve need them: a user who may register devices need not be able to read the key.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from gateway.config.checks import Conflict
from gateway.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gateway.config.model import Config

SECTION = "server", "tls"
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy and authenticated encryption only; 1.3 has nothing else."""


def server_context(config: Config) -> ssl.SSLContext | None:
    """What TLS is served with; None without a certificate.

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
        # A password, or OpenSSL would ask the terminal for that of an encrypted key.
        context.load_cert_chain(tls.certificate, tls.key, password="")
    except (OSError, ssl.SSLError) as error:
        why = getattr(error, "reason", None) or error
        raise GatewayError(f"{tls.certificate} with the key {tls.key} cannot be used: {why}") from error
    if tls.client_ca is not None:
        _ask_for_certificates(context, tls.client_ca)
    return context


def _ask_for_certificates(context: ssl.SSLContext, authorities: Path) -> None:
    """Verify a client's certificate if it has one; a browser, or a device with a token, has none."""
    context.verify_mode = ssl.CERT_OPTIONAL
    try:
        context.load_verify_locations(authorities)
    except (OSError, ssl.SSLError) as error:
        why = getattr(error, "reason", None) or error
        raise GatewayError(f"the authorities in {authorities} cannot be used: {why}") from error


def unusable(config: Config) -> Iterator[Conflict]:
    """What is wrong with the files, as far as they are named."""
    tls = config.server.tls
    files = {"certificate": tls.certificate, "key": tls.key, "client_ca": tls.client_ca}
    wrong = {name: why for name, path in files.items() if path is not None and (why := _unreadable(path))}
    for name, why in wrong.items():
        yield Conflict(((*SECTION, name),), f"{files[name]} cannot be read: {why}")
    if not wrong:
        try:
            server_context(config)
        except GatewayError as error:
            yield Conflict(((*SECTION, "certificate"), (*SECTION, "key"), (*SECTION, "client_ca")), str(error))


def _unreadable(path: Path) -> str | None:
    try:
        path.open("rb").close()
    except OSError as error:
        return error.strerror or str(error)
    return None
