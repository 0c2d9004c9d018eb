"""The subprotocols that a device can choose at the handshake, each with its way from bytes to messages and back.

Rules that hold here:

* A subprotocol decides how messages are written and what they consist of. The session handles the messages of all
  subprotocols alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.protocol import cbor, codec, senml
from gateway.protocol.messages import Answers, JsonAnswers

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.protocol.messages import Message


@dataclass(frozen=True, slots=True)
class Subprotocol:
    """``parse`` takes the bytes of a message, ``interpret`` the value in them; ``answers`` go the other way.

    Both raise MessageError for a message that is refused whole. ``binary``: messages and answers are binary, not text.
    ``counted``: messages have no number of their own (`gateway.protocol.counted_session`).
    """

    name: str
    parse: Callable[[bytes], Any]
    interpret: Callable[[Any], Message]
    answers: Answers
    binary: bool = False
    counted: bool = False


JSON = Subprotocol("telemetry.v1.json", codec.parse, codec.interpret, JsonAnswers())
CBOR = Subprotocol("telemetry.v1.cbor", cbor.parse, codec.interpret, Answers(cbor.encode), binary=True)
SENML = Subprotocol("senml.json", codec.parse, senml.interpret, JSON.answers, counted=True)

SUBPROTOCOLS = {known.name: known for known in (JSON, CBOR, SENML)}
"""By name. The first is used with a device that names none."""
