"""Admits new connections a few at a time, so that connected devices are still served when thousands connect at once.

Rules that hold here:

* A connection waits here until its first byte comes, and costs only a socket. If silent connections were admitted, a
  thousand requests could come in the same turn of the event loop, and all others would wait for their handshakes.
* Connections that have sent something are admitted in order, `ADMITTED_PER_TURN` in a turn of the loop. If several
  networks wait, each gets one in turn. So many connections from one network do not delay those from another.
* A connection from an address that connects too often is closed at once.
* Silent connections have a time-out and a maximum number; connections that wait for their turn have a maximum number.
  Above it, the oldest connection of the network that has the most is closed, so a crowd displaces itself. It is closed
  without an answer, since there may be no TLS yet to send one in.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from gateway.http.client_address import network_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

Accepted = tuple["socket.socket", Any]

log = logging.getLogger(__name__)

ACCEPTED_PER_TURN = 64
"""Accepting a connection from the kernel costs some 20 us."""
ADMITTED_PER_TURN = 4
"""A handshake costs a third of a millisecond, over TLS more than one."""
MAX_SILENT = 16_384
MAX_READY = 16_384
"""Connections that have sent something and wait for their turn; a fleet of 10,000 is admitted in some 5 s."""
SILENT_SECONDS = 30.0
PAUSE_SECONDS = 1.0
"""Until the next attempt after the system had no more files or memory for a connection."""


class FairQueue:
    """Connections with their addresses, by network; those of one network in the order in which they came."""

    def __init__(self) -> None:
        self._networks: OrderedDict[str, OrderedDict[socket.socket, Any]] = OrderedDict()
        """In the order of their turns."""
        self._by_size: dict[int, OrderedDict[str, None]] = {}
        """For each number of connections, the networks that have exactly so many; no entry if no network has."""
        self._largest = 0
        """Connections of the network that has the most."""
        self._size = 0
        """Connections of all networks."""

    def __len__(self) -> int:
        return self._size

    def add(self, connection: socket.socket, address: Any) -> None:
        """Put a connection behind the others of its network."""
        network = network_of(_host(address))
        of_network = self._networks.setdefault(network, OrderedDict())
        of_network[connection] = address
        self._count_size(network, len(of_network), 1)

    def remove(self, connection: socket.socket, address: Any) -> None:
        """Take this connection out."""
        network = network_of(_host(address))
        of_network = self._networks[network]
        del of_network[connection]
        if not of_network:
            del self._networks[network]
        self._count_size(network, len(of_network), -1)

    def _count_size(self, network: str, size: int, by: int) -> None:
        self._size += by
        before = self._by_size.get(size - by)
        if before is not None:
            del before[network]
            if not before:
                del self._by_size[size - by]
        if size:
            self._by_size.setdefault(size, OrderedDict())[network] = None
        self._largest = max(self._largest, size) if by > 0 else self._largest - (self._largest not in self._by_size)

    def oldest_of_largest(self) -> Accepted:
        """The oldest connection of the network that has the most."""
        return next(iter(self._networks[next(iter(self._by_size[self._largest]))].items()))

    def take(self) -> Accepted:
        """Take out the oldest connection of the network whose turn it is."""
        network = next(iter(self._networks))
        connection, address = next(iter(self._networks[network].items()))
        self.remove(connection, address)
        if network in self._networks:
            self._networks.move_to_end(network)  # behind the others
        return connection, address


class Admission:
    """Accepts connections on ``listening`` from now on.

    ``admit`` gets each admitted connection, non-blocking, with its address. ``on_turned_away`` is called for each
    connection that is closed because there are too many.
    """

    def __init__(
        self,
        listening: socket.socket,
        admit: Callable[[socket.socket, Any], None],
        on_turned_away: Callable[[], None],
        *,
        may_connect: Callable[[str], bool] = lambda _address: True,
        max_silent: int = MAX_SILENT,
        max_ready: int = MAX_READY,
        silent_seconds: float = SILENT_SECONDS,
    ) -> None:
        self._listening = listening
        self._admit = admit
        self._on_turned_away = on_turned_away
        self._may_connect = may_connect
        self._max_silent = max_silent
        self._max_ready = max_ready
        self._silent_seconds = silent_seconds
        self._silent: dict[socket.socket, tuple[float, Any]] = {}
        """Connections that have sent nothing: until when they may stay so (event loop's clock), and their address."""
        self._silent_queue = FairQueue()
        """The same connections, to find the one to close when there are too many."""
        self._ready = FairQueue()
        """Connections that have sent something and wait for their turn."""
        self._expiring: asyncio.TimerHandle | None = None
        """Closes silent connections in time; None while there are none to watch."""
        self._pause: asyncio.TimerHandle | None = None
        """Resumes accepting after the system had no more files or memory; None before the first time."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(listening, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTED_PER_TURN):
            try:
                connection, address = self._listening.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                log.error("no more connections can be accepted for now: %s", error)  # noqa: TRY400 - no traceback
                self._loop.remove_reader(self._listening)
                self._pause = self._loop.call_later(PAUSE_SECONDS, self._loop.add_reader, self._listening, self._accept)
                return
            if not self._may_connect(_host(address)):
                connection.close()
            else:
                self._wait_for(connection, address)

    def _wait_for(self, connection: socket.socket, address: Any) -> None:
        connection.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        self._loop.add_reader(connection, self._readable, connection, address)
        self._silent[connection] = self._loop.time() + self._silent_seconds, address
        self._silent_queue.add(connection, address)
        if len(self._silent) > self._max_silent:
            self._on_turned_away()
            self._forget(self._silent_queue.oldest_of_largest()[0])
        if self._expiring is None:
            self._expiring = self._loop.call_later(self._silent_seconds, self._expire)

    def _readable(self, connection: socket.socket, address: Any) -> None:
        self._loop.remove_reader(connection)
        del self._silent[connection]
        self._silent_queue.remove(connection, address)
        if not self._ready:
            self._loop.call_soon(self._admit_some)
        self._ready.add(connection, address)
        if len(self._ready) > self._max_ready:
            self._on_turned_away()
            given_up = self._ready.oldest_of_largest()
            self._ready.remove(*given_up)
            given_up[0].close()

    def _admit_some(self) -> None:
        for _ in range(ADMITTED_PER_TURN):
            if not self._ready:
                return
            connection, address = self._ready.take()
            try:
                self._admit(connection, address)
            except Exception:  # a bug on one connection must not keep out all others for good
                log.exception("a connection from %s could not be admitted", address)
                connection.close()
        if self._ready:
            self._loop.call_soon(self._admit_some)

    def _expire(self) -> None:
        self._expiring = None
        now = self._loop.time()
        for connection, (due, _) in list(self._silent.items()):
            if due > now:
                self._expiring = self._loop.call_at(due, self._expire)
                break
            self._forget(connection)

    def _forget(self, connection: socket.socket) -> None:
        self._loop.remove_reader(connection)
        _, address = self._silent.pop(connection)
        self._silent_queue.remove(connection, address)
        connection.close()

    def close(self) -> None:
        """Stop listening and close what has not been admitted; a second call does nothing."""
        if self._listening.fileno() < 0:
            return
        for timer in (self._expiring, self._pause):
            if timer is not None:
                timer.cancel()
        self._loop.remove_reader(self._listening)
        self._listening.close()
        for connection in list(self._silent):
            self._forget(connection)
        while self._ready:
            self._ready.take()[0].close()


def _host(address: Any) -> str:
    """The host of an address that ``accept`` returned; a Unix socket has a path instead, mostly an empty one."""
    return str(address[0]) if isinstance(address, tuple) else ""
