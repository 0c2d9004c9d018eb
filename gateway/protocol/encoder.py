"""From a device's message to line protocol: which readings can be stored, and why the others are refused.

Rules that hold here:

* A refused field refuses its reading, not the message; each refused reading has one `Fault`, its first. Only objects
  nested too deep refuse the message (`MessageError`).
* null is the same as absence, everywhere. A reading that has no fields left has nothing to store: it is neither counted
  nor refused.
* Timestamps are final here, so that a resent reading is stored as the same point. A reading without a time gets that of
  its arrival, later than any given out before, so that two of them are never one point.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from gateway.errors import MessageError, ReadingError
from gateway.ledger import NO_SEQ
from gateway.protocol.blocks import encode_block
from gateway.protocol.encoded_message import EncodedMessage, Point
from gateway.protocol.message_shapes import ShapedReadings
from gateway.protocol.messages import Block, Code
from gateway.protocol.senml import Pack, encode_pack
from gateway.protocol.series import DeviceSeries, check_repeated
from gateway.protocol.time_bounds import Vetting, bounds_of
from gateway.protocol.timestamps import MAX_MS, MIN_MS, aged, moment
from gateway.protocol.value_text import kind_of
from gateway.time_units import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from gateway.config.sections import ProfileSection
    from gateway.protocol.device_clock import DeviceClock
    from gateway.protocol.encoded_message import Lesson
    from gateway.protocol.field_rules import Rulebook, Rules
    from gateway.protocol.messages import Readings

MAX_MISSES = 8
"""Messages in a row without the expected shape, after which none is expected any more."""

MAX_OTHERS = 8
"""Other measurements whose rules a session holds; each takes a KiB. The rulebook keeps all rules for a while."""

RESERVED = frozenset(("seq", "ts", "age_ms", "m", "tags", "type", "values", "readings", "columns"))
"""Keys that are not fields in the flat form of a reading."""


class Encoder:
    """Turns the readings of one device into line protocol. ``tags`` are the registry's, which has checked them."""

    __slots__ = (
        "_book", "_bounds", "_device", "_last_arrival", "_misses", "_others", "_prefix", "_profile", "_rules",
        "_series", "clock", "shape", "units",
    )  # fmt: skip

    def __init__(self, device_id: str, profile: ProfileSection, tags: Mapping[str, str], book: Rulebook) -> None:
        self._device = device_id
        self._profile = profile
        self._book = book
        self._rules = book.rules(profile, profile.measurement)
        """The rules of the profile's own measurement."""
        self._bounds = bounds_of(profile.timestamps)
        """Which times the profile accepts; None: all."""
        self._others: dict[str, Rules] = {}
        """The rules of other measurements that the device has named."""
        self._series = DeviceSeries(device_id, profile, tags, book.budgets)
        self._prefix = self._series.default.encode()
        """The line up to the fields, for readings with neither ``m`` nor ``tags``."""
        self._last_arrival = 0
        """The last time given to a reading without one, in ns since 1970."""
        self.clock: DeviceClock | None = None
        """The offset of the device's clock, by which times may be corrected; None if it is not known."""
        self._misses = 0
        """Messages in a row that did not have the expected shape."""
        self.shape: tuple[str, ...] | None = None
        """The names in the last message of several ordinary readings, expected again; None: nothing is expected."""
        self.units: dict[str, str] | None = None
        """Units that the device names are put here, by field; None: they are not kept."""

    def follow(self, other: Encoder) -> None:
        """Take the place of ``other`` in a session, so that no time of arrival is given out twice."""
        self._last_arrival = other._last_arrival
        self.clock = other.clock
        self.units = other.units

    def encode(self, message: Readings, now_ns: int) -> EncodedMessage:
        """Judge and write every reading of ``message``, which arrived at ``now_ns``.

        Raises:
            MessageError: the message is refused whole.
        """
        if isinstance(message, Pack):
            now_ns = self._arrival(now_ns)
        vetting = None if self._bounds is None else Vetting(self._bounds, self.clock, now_ns)
        if isinstance(message, Block):
            rules = self._rules_for(message.measurement)
            return encode_block(message, self._device, rules, self._series, now_ns, vetting)
        if isinstance(message, Pack):
            return encode_pack(message, self._device, self._rules, self._series, now_ns, self.units, vetting)
        if isinstance(message, ShapedReadings):
            return message.encode(self._device, self._prefix)
        encoded = self._encode_ordinary(message, vetting)
        if encoded is None:
            self._check_repeated(message, now_ns)
            encoded = EncodedMessage(self._device)
            if vetting is not None:
                vetting.look(_own_times(message.items))
            encoded.collect(
                message, message.items, lambda item: self._point(item, message, now_ns, vetting, encoded.lessons)
            )
            encoded.corrected = 0 if vetting is None else vetting.corrected
        return encoded

    def _encode_ordinary(self, message: Readings, vetting: Vetting | None) -> EncodedMessage | None:
        """What `encode` makes of `ordinary` readings whose values are all numbers; None for any other message."""
        if message.measurement is not None or message.tags is not None:
            return None
        taken, times = [], []
        for item in message.items:
            if item.__class__ is not dict or (found := _ordinary(item, 2)) is None:
                return None
            taken.append(found[0])
            times.append(found[1])
        if vetting is not None and not all(map(vetting.holds, times)):
            return None
        fields = self._rules.write_numbers(taken)
        if fields is None:
            return None
        self._expect(tuple(taken[-1]))
        count, newest = len(taken), max(times)
        latest = taken[count - 1 - times[::-1].index(newest)]
        line = (self._prefix.replace(b"%", b"%%") + b"%b %d\n").__mod__
        payload = b"".join(map(line, zip(fields, times, strict=True)))
        return EncodedMessage(self._device, count, payload, count, latest, newest)

    def _expect(self, names: tuple[str, ...]) -> None:
        """Expect that the readings of the next message have exactly these names, which are all known."""
        if self._misses < MAX_MISSES:
            self._misses += 1
            self.shape = names
            self._rules.shape(names)
        else:
            self.shape = None

    def recognised(self, data: bytes, now_ns: int) -> ShapedReadings | None:
        """The message in ``data`` (JSON), if it has the expected `shape`; else None.

        All its times are within the bounds at ``now_ns``.
        """
        shape = self._rules.shapes.get(self.shape)
        found = None if shape is None else shape.read(data)
        if found is not None:
            self._misses = 0
            if self._bounds is not None:
                vetting = Vetting(self._bounds, self.clock, now_ns)
                if not (vetting.holds(found.oldest * NS_PER_MS) and vetting.holds(found.newest * NS_PER_MS)):
                    return None
        return found

    def _check_repeated(self, message: Readings, now_ns: int) -> None:
        """Refuse a message whose measurement and tags, repeated in every point, would be far larger than itself."""
        if message.tags is None and message.measurement is None:
            return
        try:
            size = len(self._series.prefix(message.measurement, message.tags, now_ns))
        except ReadingError:
            return  # its readings may name others, which count instead
        problem = check_repeated(size, message.count)
        if problem is not None:
            seq = None if message.seq == NO_SEQ else message.seq
            raise MessageError(Code.BAD_MESSAGE, problem, seq=seq, readings=message.count)

    def ordinary(self, reading: Mapping[str, Any], size: int, now_ns: int) -> tuple[bytes, int] | None:
        """Line and time that `encode` makes of a reading, if it is ordinary; else None.

        An ordinary reading is ``{"ts", "values"}`` (and other members that the caller knows, ``size`` in all). Its time
        is in ms and within the bounds at ``now_ns``; its values are scalars under known names.
        """
        found = _ordinary(reading, size)
        if found is None:
            return None
        values, time_ns = found
        bounds = self._bounds
        if bounds is not None and not -bounds.behind_ns <= time_ns - now_ns <= bounds.ahead_ns:
            return None
        try:
            fields = self._rules.write_known(values)
        except ReadingError:
            return None
        return (b"%b%b %d\n" % (self._prefix, fields, time_ns), time_ns) if fields else None

    def _point(
        self, item: Any, message: Readings, now_ns: int, vetting: Vetting | None, lessons: list[Lesson]
    ) -> Point | None:
        """Line, time and fields of one reading; None if there is nothing to store."""
        values = _fields_of(item)
        measurement = item.get("m")
        if measurement is None:
            measurement = message.measurement
        rules = self._rules if measurement is None else self._rules_for(measurement)
        text, fields = rules.write(values)
        if not text:
            return None
        tags = item.get("tags")
        if message.tags is not None:
            tags = _merged(message.tags, tags)
        prefix = self._series.default
        if measurement is not None or tags is not None:
            prefix = self._series.prefix(measurement, tags, now_ns)
        ts = item.get("ts")
        if ts.__class__ is int and MIN_MS <= ts <= MAX_MS:
            time_ns = ts * NS_PER_MS
        else:
            time_ns = self._time(ts, item.get("age_ms"), now_ns)
        own = ""
        if vetting is not None:
            time_ns, own = _vetted(vetting, time_ns, item, rules, fields)
        if rules.fresh:
            self._series.learn(rules, now_ns, lessons)
        if own and vetting is not None:
            vetting.corrected += 1
        return f"{prefix}{text}{own} {time_ns}\n", time_ns, fields

    def _rules_for(self, measurement: Any) -> Rules:
        """The rules of a measurement as the device names it. One that is not a string is refused later."""
        if measurement.__class__ is not str:
            return self._rules
        found = self._others.get(measurement)
        if found is None:
            if len(self._others) >= MAX_OTHERS:
                self._others = {}
            found = self._others[measurement] = self._book.rules(self._profile, measurement)
        return found

    def _time(self, ts: Any, age_ms: Any, now_ns: int) -> int:
        if ts is not None:
            return moment(ts)
        if age_ms is not None:
            return aged(now_ns, age_ms)
        return self._arrival(now_ns)

    def _arrival(self, now_ns: int) -> int:
        self._last_arrival = max(now_ns, self._last_arrival + 1)
        return self._last_arrival


def _ordinary(reading: Mapping[str, Any], size: int) -> tuple[dict[str, Any], int] | None:
    """Values and time (ns) of a reading with both in the common form and ``size`` members; None for any other."""
    values, ts = reading.get("values"), reading.get("ts")
    if values.__class__ is not dict or ts.__class__ is not int or len(reading) != size:
        return None
    return (values, ts * NS_PER_MS) if MIN_MS <= ts <= MAX_MS else None


def _own_times(items: Iterable[Any]) -> Iterator[int]:
    """The times in ns by the device's clock. Those that cannot be read are left out; they are refused later."""
    for item in items:
        ts = item.get("ts") if item.__class__ is dict else None
        if ts is not None:
            with suppress(ReadingError):
                yield moment(ts)


def _vetted(
    vetting: Vetting, time_ns: int, item: Mapping[str, Any], rules: Rules, fields: Mapping[str, Any]
) -> tuple[int, str]:
    """The time to store a reading with, and the text to append to its fields. A time of arrival needs no vetting."""
    key = "age_ms" if item.get("ts") is None else "ts"
    if item.get(key) is None:
        return time_ns, ""
    time_ns, added = vetting.settle(time_ns, item[key], key, by_clock=key == "ts")
    return time_ns, rules.device_time((time_ns - added) // NS_PER_MS, fields) if added else ""


def _fields_of(item: Any) -> dict[str, Any]:
    """The fields of a reading, in either form."""
    if item.__class__ is not dict:
        raise ReadingError(Code.WRONG_TYPE, f"expected object, got {kind_of(item)}")
    values = item.get("values")
    if values.__class__ is dict:
        return values
    if values is not None:
        raise ReadingError(Code.WRONG_TYPE, f"expected object, got {kind_of(values)}", "values")
    if RESERVED.isdisjoint(item):
        return item
    for key in ("readings", "columns"):
        if item.get(key) is not None:
            raise ReadingError(Code.WRONG_TYPE, f"expected one reading, got several in {key}", key)
    return {name: value for name, value in item.items() if name not in RESERVED}


def _merged(outer: Any, inner: Any) -> Any:
    """The tags of the message, overridden by those of the reading. If one is not an object, it is refused later."""
    if inner is None or outer.__class__ is not dict:
        return outer
    return {**outer, **inner} if inner.__class__ is dict else inner
