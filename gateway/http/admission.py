"""Lets connections in a few at a time, so that those who are connected go on being served when thousands come at once.

Rules that hold here:

* A connection waits here, for the price of a socket, until it says something. Let in while they are silent, a thousand
  would ask in the same turn of the event loop, and everybody else would wait for all their handshakes.
* Who spoke is let in in order, `ADMITTED_PER_TURN` in a turn of the loop; where several addresses wait, one of each in
  turn. So a crowd from one address keeps nobody waiting who comes from another.
* An address that connects too often is closed at once.
* The silent have a time-out and a bound, as have those who wait for their turn. When there are too many, the oldest of
  the network that has the most gives way, so a crowd crowds out itself. It is closed without a word: there may be no
  TLS yet to say anything in.
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
"""Taking a connection from the kernel costs some 20 us."""
ADMITTED_PER_TURN = 4
"""A handshake costs a third of a millisecond, over TLS more than one."""
MAX_SILENT = 16_384
MAX_READY = 16_384
"""Of those who have spoken, too: a fleet of 10,000 is through in some 5 s."""
SILENT_SECONDS = 30.0
PAUSE_SECONDS = 1.0
"""Until the next try after the system had no more files or memory for a connection."""


class FairQueue:
    """Connections by network, each network's in the order in which they came, each with its address."""

    def __init__(self) -> None:
        self._networks: OrderedDict[str, OrderedDict[socket.socket, Any]] = OrderedDict()
        self._by_size: dict[int, OrderedDict[str, None]] = {}
        self._largest = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, connection: socket.socket, address: Any) -> None:
        """Behind the others of its network."""
        network = network_of(_host(address))
        of_network = self._networks.setdefault(network, OrderedDict())
        of_network[connection] = address
        self._count_size(network, len(of_network), 1)

    def remove(self, connection: socket.socket, address: Any) -> None:
        """It waits here no more."""
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
        """The oldest of the network that has the most."""
        return next(iter(self._networks[next(iter(self._by_size[self._largest]))].items()))

    def take(self) -> Accepted:
        """The oldest of the network whose turn it is, taken out."""
        network = next(iter(self._networks))
        connection, address = next(iter(self._networks[network].items()))
        self.remove(connection, address)
        if network in self._networks:
            self._networks.move_to_end(network)  # behind the others
        return connection, address


class Admission:
    """Accepts on ``listening`` from now on; ``admit`` gets each connection, non-blocking, with its address."""

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
        self._silent_queue = FairQueue()
        self._ready = FairQueue()
        self._expiring: asyncio.TimerHandle | None = None
        self._pause: asyncio.TimerHandle | None = None
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
            except Exception:  # a bug that one connection meets must not keep all others out for good
                log.exception("a connection from %s could not be let in", address)
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
        """Listen no more, and close what has not been let in; a second time it does nothing."""
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
    """Of a peer as ``accept`` tells it, which is a path, mostly none, for a socket of this machine only."""
    return str(address[0]) if isinstance(address, tuple) else ""
