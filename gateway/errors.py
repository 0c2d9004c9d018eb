"""Every error the gateway raises on purpose.

::

    GatewayError
    ├── ConfigError            every problem of a configuration at once
    ├── MessageError           a device's message that cannot be taken, with its protocol code
    ├── ReadingError           one reading of a message that cannot be taken, likewise
    ├── SpoolError
    │   ├── SpoolFull          the spool's cap is reached and its policy is to refuse
    │   └── AppendFailed       a commit did not reach the disk; nothing in it is safe
    ├── QueryError             a database that did not answer a history query
    └── RegistryError
        ├── UnknownDevice
        ├── DeviceExists
        ├── UnknownEnrolment
        └── EnrolmentConflict  it is not clear which device would be approved
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class GatewayError(Exception):
    """Base of all errors below; its text is fit to be shown to an operator."""


def in_words(error: Exception) -> str:
    """What an operator reads of ``error``: of the system's own the file and the reason, without their number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


class ConfigError(GatewayError):
    """A configuration that cannot be used; ``problems`` holds one ``path: text`` per mistake."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class MessageError(GatewayError):
    """A message that is refused whole.

    ``code`` is one of the protocol's codes, ``seq`` its number where readable, ``readings`` how many it held where that
    can be told. ``expected`` says of a hello what should have come, with nothing of what did.
    """

    def __init__(
        self, code: str, message: str, *, seq: int | None = None, readings: int = 0, expected: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.seq = seq
        self.readings = readings
        self.expected = expected


class ReadingError(GatewayError):
    """A reading that is refused while its neighbours are kept; ``field`` is the name or key at fault."""

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field


class SpoolError(GatewayError):
    """Something about the bytes between acceptance and delivery."""


class SpoolFull(SpoolError):
    """The spool holds ``max_bytes`` of undelivered readings and refuses more."""


class AppendFailed(SpoolError):
    """A group commit failed; its readings were not taken."""


class QueryError(GatewayError):
    """The database did not answer a history query."""


class RegistryError(GatewayError):
    """A device registry operation that cannot be done."""


class UnknownDevice(RegistryError):
    """No device of that id is registered."""


class DeviceExists(RegistryError):
    """A device of that id is registered already."""


class UnknownEnrolment(RegistryError):
    """No device of that id waits to be approved."""


class EnrolmentConflict(RegistryError):
    """More than one device would be meant by an approval."""
