"""One device's side of the protocol: the phase of its connection, and its reaction to each message of the gateway.

Rules that hold here:

* Pure: no socket, clock, loop or thread. Time is an argument (seconds of one steady clock), effects are the result, and
  the shell (`devices_sim.link`) carries them out in order.
* Nothing is sent before the welcome that names this device's own boot. Only that welcome says which messages are safe.
* A message that the protocol does not allow is a violation. The simulator counts violations and reports their texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from devices_sim.backoff import Backoff
from devices_sim.downlink import Commands, Settings
from devices_sim.effects import Drop, Effect, Keep, Ping, Reconnect, Send, Show, Stop, Wake
from devices_sim.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from devices_sim.exchange import Exchange
    from devices_sim.tally import Tally

_FINAL = {1008: "closed the connection for good", 4401: "does not accept its credentials"}
"""Close codes after which a person has to act."""
WELCOME_TIMEOUT = 10.0
"""Seconds that a device waits for its welcome before it connects anew."""


class Phase(Enum):
    """The phase of a device's connection."""

    OFFLINE = "offline"
    GREETING = "greeting"
    PENDING = "pending approval"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"


@dataclass(slots=True)
class Limits:
    """Keepalive and limits from the last welcome; before one, the examples of the protocol document."""

    ping_interval: float = 20.0
    timeout: float = 30.0
    max_message_bytes: int = 65536
    max_unacked: int = 1000

    def update(self, welcome: dict[str, Any]) -> None:
        """Take over the values in ``welcome``; a value that it leaves out stays."""
        keepalive, limits = welcome.get("keepalive", {}), welcome.get("limits", {})
        self.ping_interval = keepalive.get("ping_interval_ms", self.ping_interval * 1000) / 1000
        self.timeout = keepalive.get("timeout_ms", self.timeout * 1000) / 1000
        self.max_message_bytes = limits.get("max_message_bytes", self.max_message_bytes)
        self.max_unacked = limits.get("max_unacked", self.max_unacked)


class Device:
    """The state of one device and boot; its messages without a verdict are in ``outbox``."""

    __slots__ = (
        "_backoff", "_blocked_until", "_heard_at", "_tally", "_waiting_for_pong",
        "ack", "awaits_approval", "boot", "commands", "enrolment", "exchange", "heedless", "id", "info", "limits",
        "outbox", "phase", "settings",
    )  # fmt: skip

    def __init__(self, device_id: str, boot: str, tally: Tally, rng: Random, *, ack: str = "durable") -> None:
        self.id = device_id
        self.boot = boot
        self.ack = ack
        """The ack level that its hello asks for."""
        self.heedless = False
        """Fault: whether it ignores throttles and ``max_unacked``."""
        self.info: dict[str, Any] = {"model": "simulated"}
        self.enrolment: dict[str, str] = {}
        """``claim`` and ``secret`` in the hello of a device that asks for a token; empty for one that has a token."""
        self.awaits_approval = False
        """Whether the gateway said that approval is pending, and has not sent a welcome since."""
        self.phase = Phase.OFFLINE
        self.exchange: Exchange | None = None
        """Its requests for the time; None if it makes none."""
        self.commands = Commands()
        self.settings = Settings()
        self.limits = Limits()
        self.outbox = Outbox(device_id, tally, kept=ack != "none")
        self._blocked_until = 0.0
        """When the delay of the last throttle ends, in seconds of the steady clock; 0 without one."""
        self._backoff = Backoff(rng)
        self._heard_at = 0.0
        """When the last byte came, in seconds of the steady clock."""
        self._waiting_for_pong = False
        """Whether a ping was sent, and nothing came since."""
        self._tally = tally

    @property
    def room(self) -> bool:
        """Whether a new message may be made: fewer than ``max_unacked`` wait for their verdict."""
        return self.heedless or len(self.outbox.pending) < self.limits.max_unacked

    def submit(self, data: bytes, readings: int, now: float) -> Sequence[Effect]:
        """Take over message number ``outbox.next_seq``, already encoded with it; sent now if the connection allows."""
        self.outbox.add(data, readings)
        return self._pump(now)

    def resume(self, now: float) -> Sequence[Effect]:
        """The delay of a throttle is over. The shell says so; a comparison with ``now`` could miss it by rounding."""
        self._blocked_until = 0.0
        return self._pump(now)

    def opened(self, now: float) -> Sequence[Effect]:
        """The handshake is done."""
        self.phase = Phase.GREETING
        self._backoff.told = None
        self._blocked_until = 0.0
        self.heard(now)
        hello = {"type": "hello", "boot": self.boot, "ack": self.ack, "info": self.info, **self.enrolment}
        return (Send(orjson.dumps(hello)),)

    def heard(self, now: float) -> None:
        """A byte arrived, so the gateway is alive."""
        self._heard_at = now
        self._waiting_for_pong = False

    def received(self, text: bytes, now: float) -> Sequence[Effect]:
        """One text message of the gateway."""
        self.heard(now)
        try:
            message = orjson.loads(text)
            handler = self._HANDLERS.get(message["type"])
            if handler is None:
                self._tally.ignored[message["type"]] += 1
                return ()
            return handler(self, message, now)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return self._violation(f"cannot be read ({error!r}): {text[:200]!r}")

    def check(self, now: float) -> Sequence[Effect]:
        """Check whether the gateway has been silent for too long; called about once a second while connected."""
        silent = now - self._heard_at
        if self.phase is Phase.GREETING and silent > WELCOME_TIMEOUT:
            return (Drop("no welcome"),)
        if self.phase not in (Phase.PENDING, Phase.READY, Phase.DRAINING):
            return ()
        if silent > self.limits.timeout:
            return (Drop("gateway silent"),)
        if silent > self.limits.ping_interval and not self._waiting_for_pong:
            self._waiting_for_pong = True
            return (Ping(),)
        return self.exchange.go_on(now) if self.exchange is not None and self.phase is Phase.READY else ()

    def closed(self, code: int | None, reason: str) -> Sequence[Effect]:
        """The connection has ended; ``code`` is the gateway's close code, None without a close frame."""
        if self.phase is Phase.STOPPED:
            return ()
        self.phase = Phase.OFFLINE
        if code in _FINAL:
            return self._stop(f"the gateway {_FINAL[code]} ({code} {reason})")
        return (Reconnect(self._backoff.delay(code)),)

    def refused_handshake(self, status: int, body: str) -> Sequence[Effect]:
        """The gateway answered the handshake with HTTP ``status`` in place of 101."""
        if status in (401, 403):
            return self._stop(f"the gateway does not accept its credentials (HTTP {status} {body})")
        if 400 <= status < 500 and status not in (408, 429):
            return self._stop(f"the gateway refuses the handshake (HTTP {status} {body})")
        return self.closed(1013, body)

    def answer(self, command: str) -> Sequence[Effect]:
        """A command with a delay is done. Without a connection, its result is sent when the command comes again."""
        result = self.commands.finish(command)
        return result if self.phase is Phase.READY else ()

    def hurry(self) -> float | None:
        """The run is ending: reconnect soon from now on; see `Backoff.hurry`."""
        return self._backoff.hurry()

    def leave(self) -> None:
        """The device is switched off, and does not reconnect after the close."""
        self.phase = Phase.STOPPED

    # The gateway's messages.

    def _pending(self, message: dict[str, Any], now: float) -> Sequence[Effect]:
        """An operator has to approve the device first; the gateway decides how long that may take."""
        if self.phase is Phase.GREETING:
            self.phase = Phase.PENDING
        self.awaits_approval = True
        return (Show(message["claim"]),)

    def _approved(self, message: dict[str, Any], now: float) -> Sequence[Effect]:
        if self.phase is Phase.PENDING:
            self.phase = Phase.GREETING
        self.enrolment = {}
        return (Keep(message["token"]),)

    def _welcome(self, message: dict[str, Any], now: float) -> Sequence[Effect]:
        self.limits.update(message)
        if message["boot"] != self.boot:
            return ()
        last = -1 if message["last_seq"] is None else int(message["last_seq"])
        self.phase = Phase.READY
        self.awaits_approval = False
        self.outbox.welcomed(last, now)
        if self.ack == "none":
            self._backoff.reset()
        asked = self.exchange.begin(now) if self.exchange is not None else ()
        return [*asked, *self._pump(now)]

    def _ack(self, message: dict[str, Any], now: float) -> Sequence[Effect]:
        self._backoff.reset()
        self.outbox.acknowledged(int(message["seq"]), now)
        return self._pump(now) if self.outbox.behind else ()

    def _reject(self, message: dict[str, Any], now: float) -> Sequence[Effect]:
        errors = message["errors"]
        for error in errors:
            self._tally.reject_codes[error["code"]] += 1
        if "seq" in message:
            self.outbox.refuse(int(message["seq"]), {int(error["index"]) for error in errors})
        return ()

    def _error(self, message: dict[str, Any], now: float) -> Sequence[Effect]:
        self._tally.error_codes[message["code"]] += 1
        self.outbox.refuse_whole(message.get("seq", -1))
        return ()

    def _throttle(self, message: dict[str, Any], now: float) -> Sequence[Effect]:
        self._tally.throttled[message["limit"]] += 1
        if self.heedless:
            return ()
        self._blocked_until = now + message["retry_after_ms"] / 1000
        if message.get("from_seq") is not None:
            self.outbox.go_back(int(message["from_seq"]))
        return (Wake(self._blocked_until),)

    def _drain(self, message: dict[str, Any], now: float) -> Sequence[Effect]:
        """The gateway reads no more. Acks for the messages that it has taken still come, then the close."""
        self._backoff.told = message["reconnect_after_ms"] / 1000
        self._tally.drained += 1
        if self.phase is Phase.READY:
            self.phase = Phase.DRAINING
        return ()

    def _command(self, message: dict[str, Any], now: float) -> Sequence[Effect]:
        self._tally.commands[message["name"]] += 1
        if message["expires_in_ms"] <= 0:
            return self._violation(f"sends the command {message['id']} that has expired")
        return self.commands.take(message["id"], message["name"], now)

    def _time(self, message: dict[str, Any], now: float) -> Sequence[Effect]:
        if self.exchange is None:
            return self._violation("tells the time to a device that has not asked")
        wrong = self.exchange.answered(message, now)
        if wrong is not None:
            return self._violation(wrong)
        self._tally.times += 1
        return ()

    def _settings(self, message: dict[str, Any], now: float) -> Sequence[Effect]:
        version, desired = message["version"], dict(message["settings"])
        if version < self.settings.version:
            return self._violation(f"sends settings {version} after {self.settings.version}")
        self._tally.settings += 1
        return self.settings.take(version, desired)

    _HANDLERS: ClassVar[dict[str, Callable[[Device, dict[str, Any], float], Sequence[Effect]]]] = {
        "pending": _pending,
        "token": _approved,
        "welcome": _welcome,
        "ack": _ack,
        "reject": _reject,
        "error": _error,
        "throttle": _throttle,
        "drain": _drain,
        "command": _command,
        "settings": _settings,
        "time": _time,
    }

    # Results of the handlers above.

    def _pump(self, now: float) -> Sequence[Effect]:
        """Send the waiting messages, in order, as far as the gateway's limits allow."""
        if self.phase is not Phase.READY or now < self._blocked_until:
            return ()
        window = None if self.heedless else self.limits.max_unacked
        return self.outbox.send(now, self.limits.max_message_bytes, window)

    def _stop(self, reason: str) -> Sequence[Effect]:
        self.phase = Phase.STOPPED
        self.awaits_approval = False
        return (Stop(reason),)

    def _violation(self, text: str) -> Sequence[Effect]:
        self._tally.violation(f"{self.id}: the gateway {text}")
        return ()
