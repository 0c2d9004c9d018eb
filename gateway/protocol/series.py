"""The series of a reading: its measurement and tags, checked and escaped once and kept.

Rules that hold here:

* Tags of the reading override those of the device, and those override the profile's. Only the gateway sets ``device``.
* A device may send only the tags that its profile allows, and only so many different ones
  (`gateway.protocol.series_budgets`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.config.names import DEVICE_TAG, TAG_VALUE_LENGTH, check_measurement, check_tag
from gateway.errors import ReadingError
from gateway.line_protocol import Series
from gateway.protocol.messages import Code
from gateway.protocol.time_bounds import DEVICE_TIME
from gateway.protocol.value_text import MAX_SHOWN_NAME, cut, kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.config.sections import ProfileSection
    from gateway.protocol.encoded_message import Lesson
    from gateway.protocol.field_rules import Rules
    from gateway.protocol.series_budgets import Budgets

MAX_KEPT_SERIES = 64
"""Series remembered per device beside its default one."""
MAX_REPEATED = 4 * 1024**2
"""Bytes of names and tags that a message has once and that its points repeat: 64 messages of the default maximum."""


class DeviceSeries:
    """Line prefixes of one device; ``default`` is for readings with neither ``m`` nor ``tags``."""

    __slots__ = ("_budgets", "_device", "_kept", "_profile", "_tags", "default")

    def __init__(self, device: str, profile: ProfileSection, tags: Mapping[str, str], budgets: Budgets) -> None:
        self._budgets = budgets
        self._device = device
        self._profile = profile
        self._tags = tags
        self._kept: dict[Any, str] = {}
        """Prefixes by the measurement and tags as the device sent them."""
        self.default = self._prefix(None, {})

    def prefix(self, measurement: Any, tags: Any, now_ns: int) -> str:
        """The line up to the fields. Measurement and tags are as the device sent them.

        Raises:
            ReadingError: ``wrong_type``, ``bad_name``, ``unknown_tag``, ``too_long`` or ``too_many_series``.
        """
        if tags is None:
            tags = {}
        elif tags.__class__ is not dict:
            raise ReadingError(Code.WRONG_TYPE, f"expected object, got {kind_of(tags)}", "tags")
        key = measurement, *tags.items()
        try:
            found = self._kept.get(key)
        except TypeError:  # it has an array or object, and is refused below
            found = None
        return found or self._learn(key, measurement, tags, now_ns)

    def learn(self, rules: Rules, now_ns: int, lessons: list[Lesson]) -> None:
        """Make the `fresh` fields of ``rules`` known, and note them in ``lessons``: the reading is accepted.

        Raises:
            ReadingError: ``too_many_series``.
        """
        names = (name for name, _ in rules.fresh if name != DEVICE_TIME)
        self._budgets.begin_fields(self._device, rules.measurement, names, now_ns)
        lessons.append((rules, rules.fresh))
        rules.learn(now_ns)

    def _learn(self, key: Any, measurement: Any, tags: Mapping[str, Any], now_ns: int) -> str:
        if measurement is not None:
            _check_measurement(measurement)
        given = {name: value for name, value in tags.items() if value is not None}
        for name, value in given.items():
            self._check_tag(name, value)
        if given or measurement is not None:
            self._budgets.begin_series(self._device, measurement, given, now_ns)
        if len(self._kept) >= MAX_KEPT_SERIES:
            self._kept = {}
        found = self._kept[key] = self._prefix(measurement, given)
        return found

    def _prefix(self, measurement: str | None, tags: Mapping[str, str]) -> str:
        every = {**self._profile.tags, **self._tags, **tags, DEVICE_TAG: self._device}
        return Series(measurement or self._profile.measurement, every).prefix

    def _check_tag(self, name: str, value: Any) -> None:
        shown = cut(name, MAX_SHOWN_NAME)
        if name not in self._profile.allowed_tags:
            raise ReadingError(Code.UNKNOWN_TAG, "the device's profile does not allow this tag", shown)
        if value.__class__ is not str:
            raise ReadingError(Code.WRONG_TYPE, f"expected string, got {kind_of(value)}", shown)
        if len(value) > TAG_VALUE_LENGTH:
            text = f"expected at most {TAG_VALUE_LENGTH} characters, got {len(value)}"
            raise ReadingError(Code.TOO_LONG, text, shown)
        try:
            check_tag(name, value)
        except ValueError as error:
            raise ReadingError(Code.BAD_NAME, str(error), shown) from None


def check_repeated(size: int, times: int) -> str | None:
    """What is wrong with a message that has ``size`` bytes written into each of ``times`` points, if anything is."""
    if size * times <= MAX_REPEATED:
        return None
    return f"names and tags that every point repeats would be {size * times} bytes, of at most {MAX_REPEATED}"


def _check_measurement(measurement: Any) -> None:
    if measurement.__class__ is not str:
        raise ReadingError(Code.WRONG_TYPE, f"expected string, got {kind_of(measurement)}", "m")
    try:
        check_measurement(measurement)
    except ValueError as error:
        raise ReadingError(Code.BAD_NAME, str(error), "m") from None
