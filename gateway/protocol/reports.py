"""Messages of a device that go on to a service: the result of a command, the settings it has, a request for the time.

Rule that holds here: a mistake refuses the message whole, with ``bad_message``. What is kept is bounded here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from gateway.errors import MessageError
from gateway.protocol.merge_patch import MAX_SETTINGS, check_value
from gateway.protocol.messages import MAX_SEQ, Code, Report
from gateway.protocol.time_exchange import time_request
from gateway.protocol.value_text import kind_of, shown

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_COMMAND_ID = 64
"""Characters of the id of a command."""
MAX_RESULT = 8 * 1024
"""Bytes of JSON."""
MAX_ERROR = 1024
"""Characters of the error of a command."""


@dataclass(slots=True)
class Result(Report):
    """The result of command ``id``: ``value`` is JSON, ``error`` is for people."""

    id: str
    ok: bool
    value: bytes
    error: str | None


@dataclass(slots=True)
class Reported(Report):
    """The settings that a device reports (JSON), and which version of the desired ones it has seen."""

    version: int | None
    settings: bytes


def result(message: dict[str, Any]) -> Result:
    """The answer to a command.

    Raises:
        MessageError: ``bad_message``.
    """
    command, ok, value, error = (message.get(key) for key in ("id", "ok", "value", "error"))
    if command.__class__ is not str or not 0 < len(command) <= MAX_COMMAND_ID:
        raise _bad("id", f"the id of a command, a string of 1 to {MAX_COMMAND_ID} characters", shown(command))
    if ok.__class__ is not bool:
        raise _bad("ok", "true or false", shown(ok))
    if error is not None and (error.__class__ is not str or len(error) > MAX_ERROR):
        raise _bad("error", f"a string of at most {MAX_ERROR} characters", kind_of(error))
    if ok and error is not None:
        raise _bad("error", "none beside ok: true", kind_of(error))
    return Result(command, bool(ok), _text("value", value, MAX_RESULT), error)


def reported(message: dict[str, Any]) -> Reported:
    """What a device says of its settings.

    Raises:
        MessageError: ``bad_message``.
    """
    version, settings = message.get("version"), message.get("settings")
    if version is not None and (version.__class__ is not int or not 0 <= version <= MAX_SEQ):
        raise _bad("version", "a version as in a settings message", shown(version))
    if settings.__class__ is not dict:
        raise _bad("settings", "object", kind_of(settings))
    return Reported(version, _text("settings", settings, MAX_SETTINGS))


READERS: dict[str, Callable[[dict[str, Any]], Report]] = {
    "result": result,
    "reported": reported,
    "time": time_request,
}
"""The reader of each type of message. A new message has its class and reader in here; `SessionRunner` acts on it."""


def _text(key: str, value: Any, most: int) -> bytes:
    try:
        check_value(value)
    except ValueError as error:
        raise MessageError(Code.BAD_MESSAGE, f"{key}: {error}") from None
    text = orjson.dumps(value)
    if len(text) > most:
        raise _bad(key, f"at most {most} bytes of JSON", str(len(text)))
    # This may wait for a disk, and orjson 3.13 leaves what it wrote in a buffer that may be 60 times as large.
    return bytes(memoryview(text))


def _bad(key: str, expected: str, got: str) -> MessageError:
    return MessageError(Code.BAD_MESSAGE, f"{key}: expected {expected}, got {got}")
