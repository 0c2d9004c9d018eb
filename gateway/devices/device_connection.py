"""What the gateway asks of the socket of one device: the one interface that all of `gateway.devices` uses.

`gateway.devices.session_runner.SessionRunner` implements it. The parts that use it are named at each group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.http.client_certificates import Chain
    from gateway.ledger import Entry
    from gateway.protocol.session import CloseReason
    from gateway.state.command_log import Command
    from gateway.state.registered_device import Device
    from gateway.websocket.handler import Write


class DeviceConnection(Protocol):
    """The socket of one device, from its handshake to its close. Moments are on the event loop's clock, in seconds."""

    device_id: str
    """The id in the path of the request. Whether it is this device is known once ``authenticated`` is true."""
    session_id: str
    """Random, 16 hexadecimal digits; the device is told it in its welcome."""
    remote: str
    """The client's address."""
    profile: str
    """The registered profile of the device when it was welcomed."""
    device: Device | None
    """The registry's entry when the device was authenticated; None before."""
    chain: Chain
    """The chain of the client certificate; empty without one."""
    authenticated: bool
    """Whether the device has proved who it is."""
    opened_at: float
    """When the socket was opened."""
    last_byte_at: float
    """When the last byte came."""
    pinged_at: float
    """When the last ping was sent; 0.0 before the first."""
    paused: bool
    """Whether the gateway has stopped reading it (`gateway.devices.backpressure`)."""

    @property
    def info(self) -> dict[str, Any]:
        """What the device said about itself in its hello."""
        ...

    # Commits and deliveries (gateway.devices.accounting, gateway.devices.acks)

    def durable(self, numbered: int) -> Write | None:
        """A commit is on disk with ``numbered`` numbered messages of this session; the ack to write, if one is due."""
        ...

    def append_failed(self, entries: Sequence[Entry], retry_after_ms: int) -> None:
        """These entries did not become durable: tell the device to send them again."""
        ...

    def acknowledge(self) -> Write | None:
        """The delay of an ack is over: the ack to write; None if none is due any more."""
        ...

    def stored(self, boot: str, messages: int) -> None:
        """Tell the device that the database has ``messages`` more of its numbered messages of ``boot``."""
        ...

    def dropped(self, boot: str, messages: int) -> None:
        """Tell the device that ``messages`` of its numbered messages of ``boot`` were discarded undelivered."""
        ...

    def refused(self, readings: int) -> None:
        """Tell the device that the database refused ``readings`` of its readings for good."""
        ...

    # Keepalive (gateway.devices.keepalive)

    @property
    def unfinished(self) -> int:
        """0 between messages; inside one a number of its own, the same until the message has ended."""
        ...

    @property
    def awaits_approval(self) -> bool:
        """Whether the device waits for an operator's approval, which has an end of its own."""
        ...

    def send_ping(self) -> None:
        """Send one ping frame."""
        ...

    def expire(self) -> None:
        """Close: nothing came within the time-out."""
        ...

    def credentials_late(self) -> None:
        """Close: the device has not proved in time who it is."""
        ...

    def message_late(self) -> None:
        """Close: a message was begun and has not ended in time."""
        ...

    # Backpressure (gateway.devices.backpressure)

    @property
    def late(self) -> bool:
        """Whether the device sends backlog: its last readings were old when they came."""
        ...

    def pause_reading(self) -> None:
        """Stop reading: what comes stays in the kernel."""
        ...

    def resume_reading(self) -> None:
        """Read again; nothing is delivered from inside this call."""
        ...

    def tell_paused(self) -> None:
        """Tell the device that the gateway has not read it for a while."""
        ...

    # Commands and settings (gateway.devices.commands, gateway.devices.settings)

    def command(self, command: Command, expires_in_ms: int) -> bool:
        """Send a command; False if nothing can be sent any more."""
        ...

    def send_settings(self, version: int, desired: bytes) -> bool:
        """Send the desired settings; False if nothing can be sent any more."""
        ...

    def refuse_report(self, problem: str) -> None:
        """Tell the device that settings it reported were not kept."""
        ...

    # Enrolment (gateway.devices.enrolment)

    def enrolled(self, device: Device, token: str) -> None:
        """An operator has approved: tell the device its token and welcome it."""
        ...

    def enrolment_ended(self, why: CloseReason) -> None:
        """The device was not approved: close in this way."""
        ...

    # Other ends

    def close_to_make_room(self) -> None:
        """Close: too many connections are unauthenticated, and this one has been so for longest."""
        ...

    def replace(self) -> None:
        """Close: a newer connection of the same device took over."""
        ...

    def revoke(self) -> None:
        """Close: the device's credentials are good no longer."""
        ...

    def renew(self) -> None:
        """Go by the configuration that is in force now."""
        ...

    def drain(self, reconnect_after_ms: int) -> None:
        """Stop reading, and tell the device when to reconnect."""
        ...

    def restart(self) -> None:
        """Close: the gateway stops and is expected back."""
        ...

    def abort(self) -> None:
        """Drop the connection without a close frame."""
        ...
