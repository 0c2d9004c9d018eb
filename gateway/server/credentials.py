"""What a TLS client certificate says about who holds it (PROTOCOL.md, "Credentials").

OpenSSL has verified it by then: signed by ``server.tls.client_ca`` and within its time, or the handshake has failed.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tornado.httputil import HTTPServerRequest

ALTERNATIVES = "DNS", "URI"


def certificate_names(request: HTTPServerRequest) -> frozenset[str]:
    """The device ids that the client's certificate is good for: its common name and its alternative names."""
    connection: Any = request.connection
    sock = connection.stream.socket
    found = sock.getpeercert() if isinstance(sock, ssl.SSLSocket) else None
    return names_in(found) if found else frozenset()


def names_in(certificate: dict[str, Any]) -> frozenset[str]:
    """Likewise, of a certificate as `ssl.SSLSocket.getpeercert` gives it."""
    subject = {value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"}
    alternatives = {value for kind, value in certificate.get("subjectAltName", ()) if kind in ALTERNATIVES}
    return frozenset(subject | alternatives)
