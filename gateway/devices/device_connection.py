"""What the gateway asks of the socket of a device that is let in, whoever asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from gateway.http.client_certificates import Chain
    from gateway.state.command_log import Command
    from gateway.state.registry_layout import Device


class Connection(Protocol):
    """The socket of a device."""

    session_id: str
    remote: str
    profile: str
    last_byte_at: float
    paused: bool
    """The gateway does not read it for now."""
    device: Device | None
    """As the registry knew it when it was let in."""
    chain: Chain
    """Of the certificate it has shown."""

    @property
    def info(self) -> dict[str, Any]:
        """What the device told about itself."""
        ...

    def command(self, command: Command, expires_in_ms: int) -> bool:
        """Send a command; False if nothing can be sent any more."""
        ...

    def desire(self, version: int, desired: bytes) -> bool:
        """Send desired settings; False if nothing can be sent any more."""
        ...

    def refuse_report(self, problem: str) -> None:
        """Tell the device that settings it reported were not kept."""
        ...

    def dropped(self, boot: str, messages: int) -> None:
        """Tell the device that ``messages`` of its numbered messages of ``boot`` were discarded undelivered."""
        ...

    def replace(self) -> None:
        """Tell the device that a newer connection took over, and close."""
        ...

    def abort(self) -> None:
        """Cut the connection off without a word."""
        ...

    def revoke(self) -> None:
        """Tell the device that its credentials no longer count, and close."""
        ...

    def refused(self, readings: int) -> None:
        """Tell the device that the database refused ``readings`` of its for good."""
        ...

    def stored(self, boot: str, messages: int) -> None:
        """Tell the device that the database has ``messages`` more of its numbered messages of ``boot``."""
        ...
