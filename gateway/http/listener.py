"""The HTTP server of the one port, with bounds for connections that are not a device's socket (yet).

Rules that hold here:

* A connection that does not get on is closed: without a request in time, with half a body, with an answer untaken.
* Their number is bounded. When there are too many, the one that has not got on for longest is closed
  (`gateway.http.connection_bounds`). A device comes through here for its handshake only, so the bound is for those that
  shake hands at the same moment.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, cast

from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream, SSLIOStream
from tornado.netutil import bind_sockets, ssl_wrap_socket

from gateway.config.units import ListenAddress
from gateway.errors import GatewayError
from gateway.http.admission import Gate
from gateway.http.client_address import Proxies, Unveiled
from gateway.http.connection_bounds import Watched

if TYPE_CHECKING:
    import asyncio
    import socket
    import ssl
    from collections.abc import Callable, Iterable, Sequence

    from tornado.http1connection import HTTP1Connection, HTTP1ServerConnection
    from tornado.httputil import HTTPConnection, HTTPMessageDelegate
    from tornado.web import Application

    from gateway.http.connection_bounds import PlainConnections

NO_PROXIES = Proxies()
BACKLOG = 4096
"""Connections that the kernel keeps until they are accepted."""
IDLE_TIMEOUT = 30.0
"""Seconds until the headers of a next request."""
BODY_TIMEOUT = 30.0
"""Seconds from the headers to the end of the body."""
LARGEST_HEADER = 16 * 1024
LARGEST_BODY = 128 * 1024
"""What is longer, such as readings, is for its handler to take piece by piece."""
ADVICE: dict[int | None, str] = {
    errno.EADDRINUSE: "; stop what listens there, perhaps another gateway, or choose another port",
    errno.EADDRNOTAVAIL: "; this machine has no such address",
    errno.EACCES: "; ports below 1024 are not for everyone: choose another one",
}
"""What to do when an address cannot be listened on."""


def listening_sockets(listen: ListenAddress, inherited: Sequence[socket.socket] = ()) -> list[socket.socket]:
    """Sockets that listen: those that a service manager holds, if there are any, else new ones at ``listen``.

    Raises:
        GatewayError: the inherited ones are open to others than ``listen``, on which it hangs who needs a token.
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
                f"the service manager listens on {held} and server.listen is {listen}, where only this machine is let"
                " in and may look without a token: give both the same address"
            )
    return list(inherited)


class Listener(HTTPServer):
    """Serves ``application``; ``turned_away`` hears of each connection too many, ``plain`` has the bounds."""

    def initialize(  # type: ignore[override] # noqa: PLR0913 - what it is asked to do, a part each
        self,
        application: Application,
        *,
        turned_away: Callable[[], None],
        plain: PlainConnections,
        proxies: Proxies = NO_PROXIES,
        may_connect: Callable[[str], bool] = lambda _address: True,
        ssl_options: ssl.SSLContext | None = None,
        shaken: Callable[[ssl.SSLSocket], None] = lambda _sock: None,
        body_timeout: float = BODY_TIMEOUT,
        idle_timeout: float = IDLE_TIMEOUT,
    ) -> None:
        """Set up; called by Tornado's constructor. ``shaken`` gets each socket whose TLS handshake is done."""
        self._turned_away = turned_away
        self._proxies = proxies
        self._may_connect = may_connect
        self._shaken = shaken
        self._plain = plain
        self._gates: list[Gate] = []
        super().initialize(
            application,
            ssl_options=ssl_options,
            idle_connection_timeout=idle_timeout,
            body_timeout=body_timeout,
            max_header_size=LARGEST_HEADER,
            max_body_size=LARGEST_BODY,
        )

    def renew(self, tls: ssl.SSLContext | None, proxies: Proxies) -> None:
        """Shake hands with these certificates and trust these proxies from now on; what is connected stays so."""
        self.ssl_options = tls
        self._proxies = proxies

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        """Take a request for its client's, where a trusted proxy hands it on."""
        found = Unveiled(super().start_request(server_conn, request_conn), request_conn, self._proxies)
        connection, request = cast("HTTP1ServerConnection", server_conn), cast("HTTP1Connection", request_conn)
        return Watched(found, connection, request, self._plain)

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        """Accept connections on these."""
        self._gates += [Gate(sock, self._let_in, self._turned_away, may_connect=self._may) for sock in sockets]

    def _may(self, address: str) -> bool:
        """Whether this may connect; whom a trusted proxy brings is judged when its address is known."""
        return self._proxies.trusted(address) or self._may_connect(address)

    def stop(self) -> None:
        """Accept no more."""
        while self._gates:
            self._gates.pop().close()
        self._plain.stop()

    def _let_in(self, connection: socket.socket, address: Any) -> None:
        stream: IOStream
        try:
            if self.ssl_options is None:
                stream = IOStream(connection, self.max_buffer_size, read_chunk_size=self.read_chunk_size)
            else:
                wrapped = ssl_wrap_socket(connection, self.ssl_options, server_side=True, do_handshake_on_connect=False)
                stream = secured = SSLIOStream(wrapped, self.max_buffer_size, read_chunk_size=self.read_chunk_size)
                secured.wait_for_handshake().add_done_callback(self._shake)
        except OSError:  # it has left already
            connection.close()
        else:
            self.handle_stream(stream, address)

    def _shake(self, done: asyncio.Future[SSLIOStream]) -> None:
        if done.exception() is None and not done.result().closed():
            self._shaken(done.result().socket)

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        """Serve a new connection, or close it."""
        if self._plain.make_room():
            super().handle_stream(stream, address)
        else:
            self._turned_away()
            stream.close()

    def on_close(self, server_conn: object) -> None:
        """A connection has ended, or become a device's socket."""
        self._plain.forget(cast("HTTP1ServerConnection", server_conn))
        super().on_close(server_conn)
