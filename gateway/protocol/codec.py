"""From the JSON of a message to its class: its kind and the number of its readings are checked, not the readings.

Rules that hold here:

* An error here refuses the whole message. The error has its ``seq`` where it can be read.
* The sizes that decide how much work a message may cause are checked here: the number of readings, the length of
  columns, the members of a hello. The session checks the size of the message itself.
* If a key comes twice, the last one counts (RFC 8259 section 4 leaves it open). A number too great for a double is
  malformed; an integer beyond 64 bits is read as a double.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson

from gateway.errors import MessageError
from gateway.ledger import NO_SEQ
from gateway.protocol.messages import MAX_SEQ, Ack, Block, Code, Hello, Readings
from gateway.protocol.reports import READERS
from gateway.protocol.timestamps import is_number
from gateway.protocol.value_text import cut, kind_of, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.protocol.messages import Message

MAX_READINGS = 5000
"""Readings in a message, samples in a block and records in a pack."""
MAX_BOOT = 64
"""Characters of a boot, and of a name in the info of a hello."""
MAX_TOKEN = 512
"""Characters."""
MAX_INFO = 32
"""Members of the info of a hello."""
MAX_INFO_TEXT = 256
"""Characters of a string in it."""
MAX_CLAIM = 32
"""Characters."""
SECRET = range(22, 129)
"""Lengths of a secret in characters: 22 of base64 are 128 bits."""

_INFO = frozenset((str, int, float, bool, type(None)))
_CLAIM = re.compile(r"[A-Z0-9](?:-?[A-Z0-9]){5,31}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def decode(data: bytes) -> Message:
    """The message in ``data``, which should be JSON in UTF-8.

    Raises:
        MessageError: ``not_utf8``, ``malformed_json``, ``unknown_type`` or ``bad_message``.
    """
    return interpret(parse(data))


def parse(data: bytes) -> Any:
    """The JSON value of ``data``, which should be UTF-8.

    Raises:
        MessageError: ``not_utf8`` or ``malformed_json``.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise _unreadable(data, error) from None


def interpret(value: Any) -> Message:
    """The message in a JSON value.

    Raises:
        MessageError: ``unknown_type`` or ``bad_message``.
    """
    if value.__class__ is list:
        return Readings(NO_SEQ, _bounded(value, None))
    if value.__class__ is not dict:
        raise MessageError(Code.BAD_MESSAGE, f"expected object or array, got {kind_of(value)}")
    kind = value.get("type")
    if kind is not None:
        return _typed(kind, value)
    seq = value.get("seq")
    if seq is not None and (seq.__class__ is not int or not 0 <= seq <= MAX_SEQ):
        raise MessageError(Code.BAD_MESSAGE, f"seq: expected an integer from 0 to 2^53, got {shown(seq)}")
    if "readings" in value or "columns" in value:
        return _several(value, seq)
    return Readings(NO_SEQ if seq is None else seq, (value,))


def _unreadable(data: bytes, error: orjson.JSONDecodeError) -> MessageError:
    try:
        data.decode()
    except UnicodeDecodeError as wrong:
        return MessageError(Code.NOT_UTF8, f"byte {wrong.start} is not UTF-8: {wrong.reason}")
    return MessageError(Code.MALFORMED_JSON, f"not JSON: {error}")


def _typed(kind: Any, value: dict[str, Any]) -> Message:
    if kind == "hello":
        return _hello(value)
    read = READERS.get(kind) if kind.__class__ is str else None
    if read is not None:
        return read(value)
    seq = value.get("seq")
    readable = seq.__class__ is int and 0 <= seq <= MAX_SEQ
    raise MessageError(Code.UNKNOWN_TYPE, f"this gateway knows no {shown(kind)} message", seq=seq if readable else None)


def _several(value: dict[str, Any], seq: int | None) -> Readings:
    forms = [key for key in ("values", "readings", "columns") if value.get(key) is not None]
    if len(forms) > 1:
        raise MessageError(Code.BAD_MESSAGE, f"expected one of {' and '.join(forms)}, got both", seq=seq)
    number = NO_SEQ if seq is None else seq
    if forms == ["columns"]:
        return _block(value, seq, number)
    if forms != ["readings"]:
        return Readings(number, (value,))
    readings = value["readings"]
    if readings.__class__ is not list:
        raise MessageError(Code.BAD_MESSAGE, f"readings: expected array, got {kind_of(readings)}", seq=seq)
    return Readings(number, _bounded(readings, seq), value.get("m"), value.get("tags"))


def _bounded(readings: Sequence[Any], seq: int | None) -> Sequence[Any]:
    if len(readings) > MAX_READINGS:
        text = f"expected at most {MAX_READINGS} readings in a message, got {len(readings)}"
        raise MessageError(Code.BAD_MESSAGE, text, seq=seq, readings=len(readings))
    return readings


def _block(value: dict[str, Any], seq: int | None, number: int) -> Block:
    columns, t0, age_ms, dt = value["columns"], value.get("t0"), value.get("age_ms"), value.get("dt")
    samples, problem = _shape(columns)
    if problem is None and t0 is None and age_ms is None:
        problem = "t0: expected a number of milliseconds, got nothing"
    if problem is None:
        problem = _spacing(dt, samples)
    if problem is not None:
        raise MessageError(Code.BAD_MESSAGE, problem, seq=seq, readings=samples)
    return Block(
        number, (), value.get("m"), value.get("tags"), t0=t0, age_ms=age_ms, dt=dt, columns=columns, samples=samples
    )


def _shape(columns: Any) -> tuple[int, str | None]:
    """How many samples the columns hold, and what is wrong with them, if anything."""
    if columns.__class__ is not dict:
        return 0, f"columns: expected object, got {kind_of(columns)}"
    samples = 0
    for number, (name, column) in enumerate(columns.items()):
        if column.__class__ is not list:
            return samples, f'column "{cut(name)}": expected array, got {kind_of(column)}'
        if number and len(column) != samples:
            longest = max(len(column), samples)
            return longest, f'column "{cut(name)}": expected {samples} samples as in the first, got {len(column)}'
        samples = len(column)
    if samples > MAX_READINGS:
        return samples, f"expected at most {MAX_READINGS} samples in a block, got {samples}"
    return samples, None


def _spacing(dt: Any, samples: int) -> str | None:
    if dt.__class__ is list:
        return None if len(dt) == samples else f"dt: expected {samples} offsets, one a sample, got {len(dt)}"
    if not is_number(dt):
        return f"dt: expected a number or an array of them, got {kind_of(dt)}"
    return "dt: expected a number other than 0, which would make all samples one" if not dt and samples > 1 else None


def _hello(value: dict[str, Any]) -> Hello:
    token, boot, ack, info = (value.get(key) for key in ("token", "boot", "ack", "info"))
    if boot.__class__ is int:
        boot = str(boot)  # a counter
    if token is not None and (token.__class__ is not str or not 0 < len(token) <= MAX_TOKEN):
        raise _bad_hello("token", f"a string of 1 to {MAX_TOKEN} characters", _measured(token))
    if boot is not None and (boot.__class__ is not str or not 0 < len(boot) <= MAX_BOOT or _CONTROL.search(boot)):
        raise _bad_hello("boot", f"a string of 1 to {MAX_BOOT} characters, none of them control", shown(boot))
    if ack is not None and ack not in list(Ack):
        raise _bad_hello("ack", '"durable", "stored" or "none"', shown(ack))
    if info is not None:
        _check_info(info)
    claim, secret = value.get("claim"), value.get("secret")
    if claim is not None or secret is not None:
        _check_claim(claim, secret)
    return Hello(token, boot, None if ack is None else Ack(ack), info, claim, secret)


def _check_claim(claim: Any, secret: Any) -> None:
    if claim is not None and (claim.__class__ is not str or len(claim) > MAX_CLAIM or not _CLAIM.fullmatch(claim)):
        raise _bad_hello("claim", f"6 to {MAX_CLAIM} of A-Z 0-9, with single hyphens between them", shown(claim))
    if secret is not None and (secret.__class__ is not str or len(secret) not in SECRET):
        raise _bad_hello("secret", f"a string of {SECRET[0]} to {SECRET[-1]} characters", _measured(secret))


def _check_info(info: Any) -> None:
    if info.__class__ is not dict:
        raise _bad_hello("info", "object", kind_of(info))
    if len(info) > MAX_INFO:
        raise _bad_hello("info", f"at most {MAX_INFO} members", str(len(info)))
    for name, member in info.items():
        if len(name) > MAX_BOOT or member.__class__ not in _INFO:
            raise _bad_hello("info", f"names of at most {MAX_BOOT} characters and no arrays or objects", shown(name))
        if member.__class__ is str and len(member) > MAX_INFO_TEXT:
            raise _bad_hello(
                "info", f"strings of at most {MAX_INFO_TEXT} characters", f"{len(member)} in {shown(name)}"
            )


def _measured(secret: Any) -> str:
    return f"one of {len(secret)}" if secret.__class__ is str else kind_of(secret)


def _bad_hello(key: str, expected: str, got: str) -> MessageError:
    wanted = f"{key}: expected {expected}"
    return MessageError(Code.BAD_MESSAGE, f"{wanted}, got {got}", expected=wanted)
