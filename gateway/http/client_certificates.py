"""TLS client certificates: the devices that each may be used for (docs/reference/protocol.md, "Connecting").

Rules that hold here:

* OpenSSL has already verified a certificate: it is valid now and signed by an authority of the configuration as it was
  at the handshake, or the handshake has failed. Which authority that was is read from the chain that OpenSSL has built
  and verified. Whole certificates are compared by their SHA-256, because another authority may use the same name. So a
  handshake before a reload is judged by the authorities that count now.
* The issuer of a certificate is the nearest authority above it that the configuration names.
* A resumed TLS session has no chain. The issuer of a certificate does not change, so the chain of each full handshake
  is remembered, even if no request follows: the session may be resumed on another connection. A certificate whose chain
  was forgotten meanwhile has no issuer, and no device may use it.
"""

from __future__ import annotations

import hashlib
import ssl
import sys
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from gateway.config.tls import GENERAL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tornado.httputil import HTTPServerRequest

ALTERNATIVES = "DNS", "URI"
MAX_REMEMBERED = 65_536
NONE: frozenset[str] = frozenset()
Chain: TypeAlias = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Certificate:
    """A verified certificate: the ``names`` that it is good for, and whose authority has issued it.

    ``owners`` are the profiles that have this authority as their own, or `GENERAL` for one of ``server.tls.client_ca``.
    ``chain`` has the SHA-256 of the certificate and of each one above it.
    """

    names: frozenset[str]
    owners: frozenset[str]
    chain: Chain = ()


class Authorities:
    """The authorities that issue certificates; ``owners`` has their profiles by the SHA-256 of their certificate."""

    def __init__(self, owners: Mapping[bytes, frozenset[str]]) -> None:
        self._chains: OrderedDict[bytes, Chain] = OrderedDict()
        """Chains of full handshakes by the SHA-256 of the client's certificate; the last one used at the end."""
        self.renew(owners)

    def renew(self, owners: Mapping[bytes, frozenset[str]]) -> None:
        """Replace the authorities. The chains of earlier handshakes stay remembered."""
        self._owners = owners
        self._profiles = frozenset[str]().union(*owners.values()) - {GENERAL}

    def handshake_done(self, sock: ssl.SSLSocket) -> None:
        """A handshake is done: remember its chain for connections that resume its session."""
        if sock.getpeercert(binary_form=True):
            self._chain(sock)

    def certificate(self, request: HTTPServerRequest) -> Certificate | None:
        """The certificate of the client; None if it has shown none."""
        connection: Any = request.connection
        sock = connection.stream.socket
        found = sock.getpeercert() if isinstance(sock, ssl.SSLSocket) else None
        if not found:
            return None
        chain = self._chain(sock)
        return Certificate(names_in(found), self._issuer(chain), chain)

    def allow(self, certificate: Certificate, profile: str) -> bool:
        """Whether the issuer of a certificate may issue for devices of ``profile``."""
        return self._owner(profile) in certificate.owners

    def still_allow(self, chain: Chain, profile: str) -> bool:
        """As `allow`, for a certificate that was verified before the authorities were replaced."""
        return self._owner(profile) in self._issuer(chain)

    def _owner(self, profile: str) -> str:
        return profile if profile in self._profiles else GENERAL

    def _issuer(self, chain: Chain) -> frozenset[str]:
        return next((self._owners[sha256] for sha256 in chain if sha256 in self._owners), NONE)

    def _chain(self, sock: ssl.SSLSocket) -> Chain:
        leaf = hashlib.sha256(sock.getpeercert(binary_form=True) or b"").digest()
        chain = tuple(hashlib.sha256(der).digest() for der in verified_chain(sock))
        chain = chain or self._chains.get(leaf, ())
        if not chain:
            return ()
        self._chains[leaf] = chain
        self._chains.move_to_end(leaf)
        if len(self._chains) > MAX_REMEMBERED:
            self._chains.popitem(last=False)
        return chain


def verified_chain(sock: ssl.SSLSocket) -> list[bytes]:
    """The peer's certificate and those above it up to one that is trusted, in DER; empty in a resumed session."""
    if sys.version_info >= (3, 13):
        chain = sock.get_verified_chain()
    else:
        internal: Any = sock
        # The same by its private name, there since 3.10 (https://docs.python.org/3.13/library/ssl.html).
        found = internal._sslobj.get_verified_chain() or ()  # noqa: SLF001
        chain = [certificate.public_bytes(_DER) for certificate in found]
    return chain


_DER = 2
"""`_ssl.ENCODING_DER`, which is OpenSSL's X509_FILETYPE_ASN1."""


def names_in(certificate: dict[str, Any]) -> frozenset[str]:
    """The device ids that a certificate is good for: its common name and its alternative names.

    ``certificate`` is as `ssl.SSLSocket.getpeercert` gives it.
    """
    subject = {value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"}
    alternatives = {value for kind, value in certificate.get("subjectAltName", ()) if kind in ALTERNATIVES}
    return frozenset(subject | alternatives)
