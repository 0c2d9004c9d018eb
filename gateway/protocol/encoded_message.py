"""The result of judging one message: its points as line protocol, and why the other readings were refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from gateway.errors import MessageError, ReadingError
from gateway.ledger import NO_SEQ, Entry
from gateway.protocol.messages import Code, verdicts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from gateway.protocol.field_types import FieldType
    from gateway.protocol.messages import Fault, Readings

Point = tuple[str, int, "Mapping[str, Any]"]
"""A line, its time in ns and its fields."""


class FieldRules(Protocol):
    """The rules of one measurement that have learned fields: `gateway.protocol.field_rules.Rules`."""

    def unlearn(self, fields: Sequence[tuple[str, FieldType]]) -> None:
        """Forget fields, each with its type."""
        ...


Lesson = tuple[FieldRules, "list[tuple[str, FieldType]]"]
"""The fields that a reading taught, with their types, and the rules that know them since."""


@dataclass(slots=True)
class EncodedMessage:
    """``lines`` points in ``payload``, ``rejects`` for the rest of the ``received`` readings.

    ``corrected`` of the points have another time than they came with. ``latest`` (field to value) and ``time_ns`` are
    of the newest point, None and 0 without any. ``lessons`` are known already, because later readings of the message
    are judged by them. If the message is not accepted, call `unlearn` before the next message is judged.
    """

    device: str
    lines: int = 0
    payload: bytes = b""
    received: int = 0
    latest: Mapping[str, Any] | None = None
    time_ns: int = 0
    rejects: list[Fault] = field(default_factory=list)
    corrected: int = 0
    lessons: list[Lesson] = field(default_factory=list, compare=False)

    def collect(self, message: Readings, items: Iterable[Any], point: Callable[[Any], Point | None]) -> None:
        """Judge and write one item after the other; ``point`` gives None where there is nothing to store.

        Raises:
            MessageError: the message is refused whole.
        """
        lines = []
        for index, item in enumerate(items):
            try:
                found = point(item)
            except ReadingError as error:
                if error.code == Code.BAD_MESSAGE:
                    self.unlearn()
                    raise _refused_whole(message, index, error) from None
                self.refuse(error, index)
                continue
            if found is not None:
                line, time_ns, fields = found
                lines.append(line)
                if time_ns >= self.time_ns or self.latest is None:
                    self.latest, self.time_ns = fields, time_ns
        self.payload = "".join(lines).encode()
        self.lines = len(lines)
        self.received = len(lines) + len(self.rejects)

    def unlearn(self) -> None:
        """The message is not accepted: forget the fields that its readings taught."""
        for rules, fields in self.lessons:
            rules.unlearn(fields)
        self.lessons = []

    def refuse(self, error: ReadingError, *indexes: int) -> None:
        """Note why the readings at these places of the message are not stored."""
        about = {} if error.field is None else {"field": error.field}
        self.rejects += [{"index": i, **about, "code": error.code, "message": error.message} for i in indexes]

    def entry(self, arrived_ns: int, boot: str = "", seq: int = NO_SEQ, gaps: int = 0) -> Entry:
        """What these readings add to a commit."""
        return Entry(
            self.device,
            boot,
            seq,
            self.lines,
            0,
            self.received - self.lines,
            gaps,
            self.payload,
            verdicts(self.rejects) if self.rejects else b"",
            arrived_ns=arrived_ns,
            latest=self.latest,
            time_ns=self.time_ns,
            corrected=self.corrected,
        )


def _refused_whole(message: Readings, index: int, error: ReadingError) -> MessageError:
    where = f"reading {index}" if error.field is None else f'reading {index}, "{error.field}"'
    seq = None if message.seq == NO_SEQ else message.seq
    return MessageError(Code.BAD_MESSAGE, f"{where}: {error.message}", seq=seq, readings=message.count)
