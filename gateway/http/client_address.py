"""The address of a client, also behind a proxy.

Rules that hold here:

* The headers of a proxy are believed only if the connection comes from a trusted proxy. The chain in
  ``X-Forwarded-For`` is believed as far as trusted proxies wrote it: from the right to the first address that is not
  one of a trusted proxy.
* A client behind a proxy never counts as on this machine, whatever its address: the proxy may be open to all.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tornado.httputil import HTTPMessageDelegate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    from tornado.httputil import HTTPConnection, HTTPHeaders, RequestStartLine, ResponseStartLine

MAX_REMEMBERED = 4096
"""Texts of addresses whose parsed form is remembered."""
CHAIN = "X-Forwarded-For"
SCHEME = "X-Forwarded-Proto"
PROXY_HEADERS = CHAIN, SCHEME, "X-Real-IP", "Forwarded", "Via"
"""Headers that show that a proxy was there, trusted or not."""


class TrustedProxies:
    """The proxies in ``networks`` (addresses, or with a prefix as in 10.0.0.0/8)."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks = [ipaddress.ip_network(network) for network in networks]

    def trusted(self, address: str) -> bool:
        """Whether ``address`` is one of a trusted proxy."""
        found = _address(address)
        return found is not None and any(found in network for network in self._networks)

    def origin(self, peer: str, scheme: str, headers: HTTPHeaders) -> tuple[str, str]:
        """Address and scheme that a request came from, where ``peer`` sent it by ``scheme``.

        A socket for both versions of IP, which a service manager may hold, calls IPv4 ::ffff:192.0.2.1 (RFC 4291).
        """
        peer = str(_address(peer) or peer)
        if not self.trusted(peer):
            return peer, scheme
        told = headers.get(SCHEME, "").rpartition(",")[2].strip().lower()
        address = peer
        for hop in reversed(headers.get(CHAIN, "").split(",")):
            found = _address(hop.strip())
            if found is None:
                break
            address = str(found)
            if not self.trusted(address):
                break
        return address, told if told in {"http", "https"} else scheme


class ForwardedRequest(HTTPMessageDelegate):
    """Passes a request on to ``inner`` with the address and the scheme of the client behind a trusted proxy."""

    def __init__(self, inner: HTTPMessageDelegate, connection: HTTPConnection, proxies: TrustedProxies) -> None:
        self._inner = inner
        self._context: Any = getattr(connection, "context")  # noqa: B009 - Tornado's types leave it out
        self._proxies = proxies
        # Address and scheme of the connection itself, put back between requests.
        self._peer = self._context.remote_ip, self._context.protocol

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        """The request has begun."""
        self._set(self._proxies.origin(*self._peer, headers))
        return self._inner.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """A chunk of the body has come."""
        return self._inner.data_received(chunk)

    def finish(self) -> None:
        """The request is complete; the next one on this connection may be of another client."""
        self._inner.finish()
        self._set(self._peer)

    def on_connection_close(self) -> None:
        """The connection has ended."""
        self._inner.on_connection_close()
        self._set(self._peer)

    def _set(self, origin: tuple[str, str]) -> None:
        self._context.remote_ip, self._context.protocol = origin


def came_through_proxy(headers: HTTPHeaders) -> bool:
    """Whether a proxy passed this request on, trusted or not."""
    return any(name in headers for name in PROXY_HEADERS)


@lru_cache(MAX_REMEMBERED)  # admission asks for the network of one address again and again
def network_of(address: str) -> str:
    """The network that counts as one client: an IPv4 address, or the /64 of an IPv6 address, which has one owner.

    A text that is no address is its own network.
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found), 64), strict=False))


@lru_cache(MAX_REMEMBERED)
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """None if ``text`` is no address."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found
