"""The HTTP server of the one port, with bounds for connections that are not a device's socket (yet).

Rules that hold here:

* A connection without progress is closed: no request in time, an incomplete body, or an answer that is not taken.
* The number of connections is bounded. When there are too many, the one that has made no progress for longest is closed
  (`gateway.http.connection_bounds`). A device is counted only until its handshake is done, so the bound concerns the
  handshakes of one moment.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, cast

from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream, SSLIOStream
from tornado.netutil import bind_sockets, ssl_wrap_socket

from gateway.config.units import ListenAddress
from gateway.errors import GatewayError
from gateway.http.admission import Admission
from gateway.http.client_address import ForwardedRequest, TrustedProxies
from gateway.http.connection_bounds import BoundedRequest

if TYPE_CHECKING:
    import asyncio
    import socket
    import ssl
    from collections.abc import Callable, Iterable, Sequence

    from tornado.http1connection import HTTP1Connection, HTTP1ServerConnection
    from tornado.httputil import HTTPConnection, HTTPMessageDelegate
    from tornado.web import Application

    from gateway.http.connection_bounds import ConnectionBounds

NO_TRUSTED_PROXIES = TrustedProxies()
BACKLOG = 4096
"""Connections that the kernel keeps until they are accepted."""
IDLE_TIMEOUT = 30.0
"""Seconds until the headers of a next request."""
BODY_TIMEOUT = 30.0
"""Seconds from the headers to the end of the body."""
MAX_HEADER_BYTES = 16 * 1024
MAX_BODY_BYTES = 128 * 1024
"""The handler of a longer body, such as readings, takes it in chunks and sets its own limit."""
ADVICE: dict[int | None, str] = {
    errno.EADDRINUSE: "; stop what listens there, perhaps another gateway, or choose another port",
    errno.EADDRNOTAVAIL: "; this machine has no such address",
    errno.EACCES: "; ports below 1024 are not for everyone: choose another one",
}
"""What an operator can do when an address cannot be listened on."""


def listening_sockets(listen: ListenAddress, inherited: Sequence[socket.socket] = ()) -> list[socket.socket]:
    """Sockets that listen: those that a service manager holds, if there are any, else new ones at ``listen``.

    Raises:
        GatewayError: the inherited ones are open to the network and ``listen`` is not, so no token would be needed.
        GatewayError: ``listen`` cannot be listened on.
    """
    if not inherited:
        try:
            return bind_sockets(listen.port, listen.host, backlog=BACKLOG)
        except OSError as error:
            raise GatewayError(f"server.listen: {listen}: {error.strerror}{ADVICE.get(error.errno, '')}") from error
    for sock in inherited:
        held = ListenAddress(*sock.getsockname()[:2])
        if listen.loopback and not held.loopback:
            raise GatewayError(
                f"the service manager listens on {held} and server.listen is {listen}, where only this machine can"
                " connect and may read without a token: give both the same address"
            )
    return list(inherited)


class Listener(HTTPServer):
    """Serves ``application`` within ``bounds``; ``on_turned_away`` is called for each connection too many."""

    def initialize(  # type: ignore[override] # noqa: PLR0913 - each is one part that the listener works with
        self,
        application: Application,
        *,
        on_turned_away: Callable[[], None],
        bounds: ConnectionBounds,
        proxies: TrustedProxies = NO_TRUSTED_PROXIES,
        may_connect: Callable[[str], bool] = lambda _address: True,
        ssl_options: ssl.SSLContext | None = None,
        on_tls_handshake: Callable[[ssl.SSLSocket], None] = lambda _sock: None,
        body_timeout: float = BODY_TIMEOUT,
        idle_timeout: float = IDLE_TIMEOUT,
    ) -> None:
        """Set up; called by Tornado's constructor. ``on_tls_handshake`` gets each socket once its handshake is done."""
        self._on_turned_away = on_turned_away
        self._proxies = proxies
        self._may_connect = may_connect
        self._on_tls_handshake = on_tls_handshake
        self._bounds = bounds
        self._admissions: list[Admission] = []
        super().initialize(
            application,
            ssl_options=ssl_options,
            idle_connection_timeout=idle_timeout,
            body_timeout=body_timeout,
            max_header_size=MAX_HEADER_BYTES,
            max_body_size=MAX_BODY_BYTES,
        )

    def renew(self, tls: ssl.SSLContext | None, proxies: TrustedProxies) -> None:
        """Use these certificates and trust these proxies for new connections; open ones stay as they are."""
        self.ssl_options = tls
        self._proxies = proxies

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        """Serve a request within the bounds, with the address of the client behind a trusted proxy."""
        found = ForwardedRequest(super().start_request(server_conn, request_conn), request_conn, self._proxies)
        connection, request = cast("HTTP1ServerConnection", server_conn), cast("HTTP1Connection", request_conn)
        return BoundedRequest(found, connection, request, self._bounds)

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        """Accept connections on these sockets."""
        self._admissions += [
            Admission(sock, self._admit, self._on_turned_away, may_connect=self._address_may_connect)
            for sock in sockets
        ]

    def _address_may_connect(self, address: str) -> bool:
        """Whether this address may connect; a client behind a trusted proxy is judged when its address is known."""
        return self._proxies.trusted(address) or self._may_connect(address)

    def stop(self) -> None:
        """Accept no more connections."""
        while self._admissions:
            self._admissions.pop().close()
        self._bounds.stop()

    def _admit(self, connection: socket.socket, address: Any) -> None:
        stream: IOStream
        try:
            if self.ssl_options is None:
                stream = IOStream(connection, self.max_buffer_size, read_chunk_size=self.read_chunk_size)
            else:
                wrapped = ssl_wrap_socket(connection, self.ssl_options, server_side=True, do_handshake_on_connect=False)
                stream = secured = SSLIOStream(wrapped, self.max_buffer_size, read_chunk_size=self.read_chunk_size)
                secured.wait_for_handshake().add_done_callback(self._handshake_done)
        except OSError:  # the client has left already
            connection.close()
        else:
            self.handle_stream(stream, address)

    def _handshake_done(self, done: asyncio.Future[SSLIOStream]) -> None:
        if done.exception() is None and not done.result().closed():
            self._on_tls_handshake(done.result().socket)

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        """Serve a new connection, or close it."""
        if self._bounds.make_room():
            super().handle_stream(stream, address)
        else:
            self._on_turned_away()
            stream.close()

    def on_close(self, server_conn: object) -> None:
        """A connection has ended, or has become a WebSocket."""
        self._bounds.remove(cast("HTTP1ServerConnection", server_conn))
        super().on_close(server_conn)
