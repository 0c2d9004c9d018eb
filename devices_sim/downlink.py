"""What a device does with what comes down to it: commands, answered as its scenario says, and settings, which it takes.

Rule that holds here: the id tells one command from another. One that comes again after a reconnect is not done again;
its result is sent again, as the protocol asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from devices_sim.effects import Answer, Effect, Send

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_RESULTS = 200
"""Results that are remembered: twice what a gateway keeps for a device."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What becomes of a command: ``value``, or ``error`` if there is one, after ``delay`` seconds; or nothing."""

    value: Any = None
    error: str | None = None
    delay: float = 0.0
    silent: bool = False

    def result(self, command: str) -> bytes:
        """The message that says so."""
        outcome = {"ok": True, "value": self.value} if self.error is None else {"ok": False, "error": self.error}
        return orjson.dumps({"type": "result", "id": command, **outcome})


COMMON_REPLIES: Mapping[str, Reply] = {"ping": Reply("pong")}
"""What every device can do."""


class Commands:
    """The commands of one device."""

    __slots__ = ("_done", "_results", "replies")

    def __init__(self) -> None:
        self.replies = COMMON_REPLIES
        self._results: dict[str, bytes] = {}
        self._done: set[str] = set()

    def take(self, command: str, name: str, now: float) -> Sequence[Effect]:
        """The gateway wants ``name`` done."""
        if command in self._results:
            return (Send(self._results[command]),) if command in self._done else ()
        reply = self.replies.get(name) or Reply(error=f"unknown command {name}")
        if reply.silent:
            return ()
        self._results[command] = reply.result(command)
        if len(self._results) > MAX_RESULTS:
            oldest = next(iter(self._results))
            del self._results[oldest]
            self._done.discard(oldest)
        if reply.delay:
            return (Answer(now + reply.delay, command),)
        return self.finish(command)

    def finish(self, command: str) -> Sequence[Effect]:
        """It is done; say so."""
        if command not in self._results:
            return ()
        self._done.add(command)
        return (Send(self._results[command]),)


class Settings:
    """The settings of one device, as of the last version it was sent; gone when it is switched off."""

    __slots__ = ("have", "unknown", "version")

    def __init__(self) -> None:
        self.unknown: frozenset[str] = frozenset()
        """Keys that mean nothing to it: it leaves them out of what it reports."""
        self.have: dict[str, Any] = {}
        self.version = 0

    def take(self, version: int, desired: dict[str, Any]) -> Sequence[Effect]:
        """These are the settings from now on, as far as it knows them: report them, and what is no more."""
        known = {key: value for key, value in desired.items() if key not in self.unknown}
        report = _with_removed(self.have, known)
        self.have, self.version = known, version
        return (Send(orjson.dumps({"type": "reported", "version": version, "settings": report})),)


def _with_removed(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """``now`` with null for what it has no more (RFC 7396)."""
    patch: dict[str, Any] = dict.fromkeys(before.keys() - now.keys())
    for key, value in now.items():
        was = before.get(key)
        patch[key] = _with_removed(was, value) if isinstance(was, dict) and isinstance(value, dict) else value
    return patch
