"""What a TLS client certificate says about who holds it (docs/reference/protocol.md, "Connecting").

Rules that hold here:

* OpenSSL has verified it by then: signed by an authority of the configuration, as it was at the handshake, and within
  its time, or the handshake has failed. Which authority that was is read from the chain that OpenSSL has built and
  verified, whole certificates by their SHA-256: the name of an issuer proves nothing, since another authority may sign
  for the same name. So a handshake that a reload has overtaken is judged by those that count now.
* The nearest authority above a certificate that the configuration names is the one that issued it.
* A resumed session has no chain. Who issued a certificate does not change, so what a full handshake has shown is
  remembered, whether or not a device's request follows: the session may go on elsewhere. A certificate that was
  forgotten meanwhile is nobody's.
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
    """A verified certificate: the ``names`` it is good for, and whose authority has issued it.

    ``owners`` are the profiles whose own authority that is, `GENERAL` for one of ``server.tls.client_ca``. ``chain`` is
    the SHA-256 of it and of what is above it.
    """

    names: frozenset[str]
    owners: frozenset[str]
    chain: Chain = ()


class Authorities:
    """Who issues certificates for whom; ``owners`` by the SHA-256 of an authority's certificate."""

    def __init__(self, owners: Mapping[bytes, frozenset[str]]) -> None:
        self._chains: OrderedDict[bytes, Chain] = OrderedDict()
        self.renew(owners)

    def renew(self, owners: Mapping[bytes, frozenset[str]]) -> None:
        """Put others in the place of these. The chains that open connections have shown are remembered."""
        self._owners = owners
        self._profiles = frozenset[str]().union(*owners.values()) - {GENERAL}

    def handshake_done(self, sock: ssl.SSLSocket) -> None:
        """A handshake is done: keep what was shown for those who resume its session."""
        if sock.getpeercert(binary_form=True):
            self._chain(sock)

    def certificate(self, request: HTTPServerRequest) -> Certificate | None:
        """What the client has shown, if anything."""
        connection: Any = request.connection
        sock = connection.stream.socket
        found = sock.getpeercert() if isinstance(sock, ssl.SSLSocket) else None
        if not found:
            return None
        chain = self._chain(sock)
        return Certificate(names_in(found), self._issuer(chain), chain)

    def allow(self, certificate: Certificate, profile: str) -> bool:
        """Whether whoever issued a certificate may speak for devices of ``profile``."""
        return self._owner(profile) in certificate.owners

    def still_allow(self, chain: Chain, profile: str) -> bool:
        """The same of a certificate that was verified before these were the authorities."""
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

    It is as `ssl.SSLSocket.getpeercert` gives it.
    """
    subject = {value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"}
    alternatives = {value for kind, value in certificate.get("subjectAltName", ()) if kind in ALTERNATIVES}
    return frozenset(subject | alternatives)
