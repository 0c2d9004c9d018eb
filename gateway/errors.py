"""Every error the gateway raises on purpose.

::

    GatewayError
    ├── ConfigError            a configuration cannot be used, with all of its problems
    ├── MessageError           a device's message is refused, with a code of the protocol
    ├── ReadingError           one reading of a message is refused, with a code of the protocol
    ├── SpoolError             the spool cannot take readings
    │   ├── SpoolFull          its maximum is reached, and spool.when_full is reject
    │   └── AppendFailed       a group commit did not reach the disk
    ├── QueryError             the database did not answer a history query
    ├── SettingsTooLarge       a device's settings would be too large (gateway.state.device_settings)
    ├── VersionConflict        a device's settings have another version (gateway.state.device_settings)
    └── RegistryError          the registry cannot do what was asked
        ├── UnknownDevice      no such device is registered
        ├── DeviceExists       such a device is registered already
        ├── UnknownEnrolment   no such device waits for approval
        └── EnrolmentConflict  an approval could mean more than one device
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class GatewayError(Exception):
    """Base of all errors; its text is written for an operator."""


def in_words(error: Exception) -> str:
    """The text of ``error`` for an operator. An error of the operating system gives its file and reason, no number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


class ConfigError(GatewayError):
    """A configuration cannot be used; ``problems`` has one ``path: text`` per problem."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class MessageError(GatewayError):
    """A message is refused as a whole."""

    def __init__(
        self, code: str, message: str, *, seq: int | None = None, readings: int = 0, expected: str = ""
    ) -> None:
        super().__init__(message)
        # One of the protocol's codes.
        self.code = code
        self.message = message
        # The number of the message; None if it has none or could not be read.
        self.seq = seq
        # How many readings the message had; 0 if that is unknown.
        self.readings = readings
        # For a hello: what was expected, without anything of what was received.
        self.expected = expected


class ReadingError(GatewayError):
    """A reading is refused, the others of its message are not; ``field`` is the wrong name or key."""

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field


class SpoolError(GatewayError):
    """The spool cannot take readings."""


class SpoolFull(SpoolError):
    """The spool has ``max_bytes`` of undelivered readings and refuses more."""


class AppendFailed(SpoolError):
    """A group commit failed; none of its readings was accepted."""


class QueryError(GatewayError):
    """The database did not answer a history query."""


class RegistryError(GatewayError):
    """The registry cannot do what was asked."""


class UnknownDevice(RegistryError):
    """No device of that id is registered."""


class DeviceExists(RegistryError):
    """A device of that id is registered already."""


class UnknownEnrolment(RegistryError):
    """No device of that id waits for approval."""


class EnrolmentConflict(RegistryError):
    """An approval could mean more than one device."""
