"""Commands, which a device answers as its scenario says, and settings, which it takes over.

Rule that holds here: the id tells one command from another. A command that comes again after a reconnect is not carried
out again; its result is sent again, as the protocol asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from devices_sim.effects import Answer, Effect, Send

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_RESULTS = 200
"""Results that a device remembers: twice the commands that a gateway keeps for it."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a command: ``error`` if it is not None, else ``value``, after ``delay`` s; none if ``silent``."""

    value: Any = None
    error: str | None = None
    delay: float = 0.0
    silent: bool = False

    def result(self, command: str) -> bytes:
        """The result message."""
        outcome = {"ok": True, "value": self.value} if self.error is None else {"ok": False, "error": self.error}
        return orjson.dumps({"type": "result", "id": command, **outcome})


COMMON_REPLIES: Mapping[str, Reply] = {"ping": Reply("pong")}
"""The commands that every device answers."""


class Commands:
    """The commands of one device."""

    __slots__ = ("_done", "_results", "replies")

    def __init__(self) -> None:
        self.replies = COMMON_REPLIES
        """By name of the command."""
        self._results: dict[str, bytes] = {}
        """By id: the result message, from the arrival of the command on."""
        self._done: set[str] = set()
        """Ids of the commands whose delay is over."""

    def take(self, command: str, name: str, now: float) -> Sequence[Effect]:
        """The gateway sends the command ``name`` with the id ``command``."""
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
        """The command is done: send its result."""
        if command not in self._results:
            return ()
        self._done.add(command)
        return (Send(self._results[command]),)


class Settings:
    """The settings of one device, from the last version that the gateway sent; a new run begins without any."""

    __slots__ = ("have", "unknown", "version")

    def __init__(self) -> None:
        self.unknown: frozenset[str] = frozenset()
        """Keys that the device does not know, and leaves out of its report."""
        self.have: dict[str, Any] = {}
        """The settings in force."""
        self.version = 0
        """The version of the last settings; 0 before any."""

    def take(self, version: int, desired: dict[str, Any]) -> Sequence[Effect]:
        """Take over the settings that the device knows, and report them and those that are gone."""
        known = {key: value for key, value in desired.items() if key not in self.unknown}
        report = _with_removed(self.have, known)
        self.have, self.version = known, version
        return (Send(orjson.dumps({"type": "reported", "version": version, "settings": report})),)


def _with_removed(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """``now``, with null for each key that is only in ``before`` (RFC 7396)."""
    patch: dict[str, Any] = dict.fromkeys(before.keys() - now.keys())
    for key, value in now.items():
        was = before.get(key)
        patch[key] = _with_removed(was, value) if isinstance(was, dict) and isinstance(value, dict) else value
    return patch
