"""One device's link to the gateway: carries out the effects of its `Device`, and passes it what arrives.

Rules that hold here:

* No task lives as long as a connection. A task makes the connection, and callbacks do the rest.
* An abandoned connection still calls back until its socket has ended. Only calls of the current connection count.
* An exception in a callback ends the run with its traceback (`Network.fail`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from picows import WSError, WSHandshakeError

from devices_sim.connection import Connection, connect
from devices_sim.effects import Answer, Drop, Effect, Keep, Ping, Reconnect, Send, Show, Stop, Wake
from devices_sim.protocol import Device, Phase
from devices_sim.scheduler import clock
from devices_sim.wire import Json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from devices_sim.network import Network
    from devices_sim.scheduler import Moment


class Link:
    """Connects one device, and connects it again when its `Device` says so."""

    __slots__ = (
        "_connection",
        "_hung",
        "_network",
        "_retry",
        "_token",
        "_wake",
        "_was_connected",
        "_wire",
        "device",
        "stopped_because",
    )

    def __init__(self, device: Device, network: Network, token: str | None = None, wire: Json | None = None) -> None:
        self.device = device
        self._wire = wire or Json()
        self.stopped_because = ""
        """Why the device gave up for good; empty while it goes on."""
        self._network = network
        self._token = token
        if token is None and network.keyring is not None:
            self._token = network.keyring.token(device.id)
            device.enrolment = {} if self._token else network.keyring.enrolment(device.id)
        self._connection: Connection | None = None
        """The current connection; None before the end of its handshake."""
        self._hung = False
        """Whether the fault `hang` is on."""
        self._was_connected = False
        """Whether there was a connection before, so that the next one counts as a reconnect."""
        self._retry: Moment | None = None
        """The next connection attempt that was set; it may have been made already."""
        self._wake: Moment | None = None
        """When the delay of a throttle ends; None without one."""
        network.links.append(self)

    @property
    def numbered(self) -> bool:
        """Whether its messages carry a ``seq`` and may name their measurement; not so in SenML."""
        return self._wire.numbered

    @property
    def connected(self) -> bool:
        """Whether there is a connection, before or after the welcome."""
        return self._connection is not None

    def connect(self) -> None:
        """Start a connection attempt."""
        self._retry = None
        network = self._network
        if self.device.phase is Phase.STOPPED or network.failed.done():
            return
        task = network.loop.create_task(self._connect())
        network.tasks.add(task)
        task.add_done_callback(network.finished)

    def submit(self, data: bytes, readings: int) -> None:
        """Give the device its next message."""
        self._apply(self.device.submit(data, readings, clock()))

    def repeat(self, seq: int, data: bytes) -> None:
        """Fault: send message ``seq`` a second time without need. Has no effect if it was not sent yet."""
        if self._connection is not None and seq <= self.device.outbox.highest_sent:
            self._connection.send(self._wire.write(data))
            self._network.tally.duplicates += 1

    def vanish(self) -> None:
        """Fault: end the connection without a close frame."""
        if self._connection is not None:
            self._connection.abort()

    def hang(self) -> None:
        """Fault: read and answer nothing."""
        self._hung = True
        if self._connection is not None:
            self._connection.pause()

    def unhang(self) -> None:
        """End the fault `hang`."""
        self._hung = False
        if self._connection is not None:
            self._connection.resume()
            self.device.heard(clock())

    def hurry(self) -> None:
        """The run is ending: if the device still holds readings, shorten the wait for its next attempt."""
        after = self.device.hurry()
        if after is not None and self._retry is not None and self.device.outbox.pending:
            self._retry.cancel()
            self._retry = self._network.scheduler.at(clock() + after, self.connect)

    def leave(self) -> None:
        """Close for good."""
        self.device.leave()
        if self._retry is not None:
            self._retry.cancel()
        if self._connection is not None:
            self._connection.resume()
            self._connection.close()

    def check(self, now: float) -> None:
        """Check whether the gateway has been silent for too long."""
        if self._connection is not None and not self._hung:
            self._apply(self.device.check(now))

    async def _connect(self) -> None:
        network, device_id = self._network, self.device.id
        tls = network.certificates.get(device_id, network.tls)
        try:
            await connect(self, network.stream_url(device_id), self._wire, token=self._token, tls=tls)
        except (OSError, TimeoutError, WSError) as error:
            network.tally.connect_failures += 1
            network.last_failure = str(error)
            self._apply(self._refused(error))

    def _refused(self, error: Exception) -> Iterable[Effect]:
        response = error.response if isinstance(error, WSHandshakeError) else None
        if response is None:
            return self.device.closed(None, str(error))
        body = error.raw_body or b"" if isinstance(error, WSHandshakeError) else b""
        return self.device.refused_handshake(int(response.status), body[:300].decode("utf-8", "replace"))

    # Called by the current connection.

    def opened(self, connection: Connection, subprotocol: str | None) -> None:
        """The handshake of ``connection`` has succeeded."""
        network, device = self._network, self.device
        if device.phase is Phase.STOPPED:
            connection.abort()
            return
        self._connection = connection
        tally = network.tally
        tally.connects += 1
        tally.reconnects += self._was_connected
        self._was_connected = True
        tally.connected += 1
        if subprotocol != self._wire.subprotocol:
            tally.violation(f"{device.id}: the gateway chose the subprotocol {subprotocol!r}")
        self._apply(device.opened(clock()))
        if self._hung:
            connection.pause()

    def lost(self, connection: Connection, code: int | None, reason: str) -> None:
        """The socket of ``connection`` has ended; ``code`` is None if the gateway sent no close frame."""
        if connection is not self._connection:
            return
        self._connection = None
        self._network.departed()
        self._network.tally.closes["no close frame" if code is None else str(code)] += 1
        self._apply(self.device.closed(code, reason))

    def heard(self, connection: Connection, data: bytes | None = None) -> None:
        """A frame arrived; ``data`` is the message that it completed, if any."""
        if connection is not self._connection:
            return
        now = clock()
        if data is None:
            self.device.heard(now)
        else:
            self._apply(self.device.received(self._wire.read(data, self.device.outbox.data), now))

    def failed(self, error: Exception) -> None:
        """A callback raised."""
        self._network.fail(error)

    def _apply(self, effects: Iterable[Effect]) -> None:
        connection = self._connection
        for effect in effects:
            match effect:
                case Send(data) if connection is not None:
                    connection.send(self._wire.write(data))
                case Ping() if connection is not None:
                    connection.ping()
                case Drop(reason) if connection is not None:
                    self._network.tally.closes[reason] += 1
                    connection.abort()
                case Reconnect(after):
                    self._retry = self._network.scheduler.at(clock() + after, self.connect)
                case Wake(at):
                    self._wake_at(at)
                case Answer(at, command):
                    self._network.scheduler.at(at, partial(self._answer, command))
                case Show() | Keep():
                    self._enrol(effect)
                case Stop(reason):
                    self.stopped_because = reason
                    self._network.tally.stopped += 1

    def _wake_at(self, at: float) -> None:
        if self._wake is not None:
            self._wake.cancel()
        self._wake = self._network.scheduler.at(at, self._resume)

    def _enrol(self, effect: Show | Keep) -> None:
        keyring = self._network.keyring
        if isinstance(effect, Keep):
            self._token = effect.token
            if keyring is not None:
                keyring.keep(self.device.id, effect.token)
        elif keyring is not None:
            keyring.show(self.device.id, effect.claim)

    def _answer(self, command: str) -> None:
        self._apply(self.device.answer(command))

    def _resume(self) -> None:
        self._wake = None
        self._apply(self.device.resume(clock()))
