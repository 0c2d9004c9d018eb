"""What a device's state machine asks its shell to do."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Send:
    """One text frame."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Ping:
    """A ping frame: the gateway has been quiet for long."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Give the connection up without a closing handshake: there is nobody to shake hands with."""

    reason: str


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Connect again after so many seconds."""

    after: float


@dataclass(frozen=True, slots=True)
class Wake:
    """Call `Device.resume` at this moment of the steady clock."""

    at: float


@dataclass(frozen=True, slots=True)
class Stop:
    """Trying again is of no use before a person has acted; the reason says what about."""

    reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Call `Device.answer` for this command at this moment of the steady clock."""

    at: float
    command: str


@dataclass(frozen=True, slots=True)
class Show:
    """Show this claim code, which somebody compares before the device is approved."""

    claim: str


@dataclass(frozen=True, slots=True)
class Keep:
    """This is the device's token from now on; it is not told again."""

    token: str = field(repr=False)


Effect = Send | Ping | Drop | Reconnect | Wake | Stop | Answer | Show | Keep
