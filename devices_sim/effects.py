"""The effects that a device's state machine returns, and `devices_sim.link` carries out."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Send:
    """Send one message."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Ping:
    """Send a ping frame, because the gateway has been silent for a while."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Abort the connection without a closing handshake, because the gateway does not answer."""

    reason: str


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Connect again after ``after`` seconds."""

    after: float


@dataclass(frozen=True, slots=True)
class Wake:
    """Call `Device.resume` at this moment of the steady clock."""

    at: float


@dataclass(frozen=True, slots=True)
class Stop:
    """Give up, because a new attempt cannot succeed before a person has acted; ``reason`` says why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Call `Device.answer` for this command at this moment of the steady clock."""

    at: float
    command: str


@dataclass(frozen=True, slots=True)
class Show:
    """Show this claim code. An operator compares it before approving the device."""

    claim: str


@dataclass(frozen=True, slots=True)
class Keep:
    """Save the device's token; the gateway sends it once only."""

    token: str = field(repr=False)


Effect = Send | Ping | Drop | Reconnect | Wake | Stop | Answer | Show | Keep
