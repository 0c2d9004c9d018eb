"""Which points of a batch InfluxDB may have taken and forgotten: those in shards that it could hold for idle.

Every ten seconds InfluxDB (1.4 to 2.7, by its sources) looks for shards without anything in memory, and lets go of what
they keep there. It asks first and lets go a moment later (``Store.monitorShards``, ``Cache.Free``): a write in between
is answered 204 and cannot be read. It is in the shard's log, so a restart brings it back, but the log goes with the
next snapshot. After a write the shard counts as used for minutes, also when the points are lost: so only the first
write to a new or a cold shard is in danger, and a second one, later, is not.

Rules that hold here:

* Time is divided into hours, because all shards are made of whole ones. An hour is warm while its points were written
  not long ago; points of all other hours are to be written twice.
* What is kept has a bound. Forgetting an hour costs a repetition, never a point.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from gateway.line_protocol import split_lines

if TYPE_CHECKING:
    from collections.abc import Callable

PAUSE = 0.25
"""Seconds until the second write: longer than a thread waits for its turn on a busy machine."""
WARM = 10.0
"""Seconds. InfluxDB takes a shard for cold after ten minutes by default; whoever sets that lower is safe too."""
MOST_HOURS = 20_000
_SECONDS = re.compile(rb" (-?\d{1,10})\d{9}\n")
_SECONDS_AT_END = re.compile(rb" (-?\d{1,10})\d{9}\n\Z")
_HOUR = 3600


class RecentHours:
    """The hours written to of late; used by several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._written: dict[int, float] = {}

    def cold(self, lines: bytes, hours: set[int]) -> bytes:
        """The points of ``lines``, all in ``hours``, whose hour was not written to within `WARM`; usually none."""
        since = self._clock() - WARM
        written = self._written
        cold = {hour for hour in hours if written.get(hour, since) <= since}
        if not cold:
            return b""
        points = split_lines(lines) if b'"' in lines else lines.splitlines(keepends=True)
        return b"".join(point for point in points if not cold.isdisjoint(_found(_SECONDS_AT_END, point)))

    def wrote(self, hours: set[int]) -> None:
        """Points in all these hours are written, the cold ones twice."""
        now = self._clock()
        written = self._written
        if len(written) > MOST_HOURS:
            written = {hour: at for hour, at in written.copy().items() if at > now - WARM}
        if len(written) > MOST_HOURS:
            written = {}
        self._written = written | dict.fromkeys(hours, now)


def hours_of(lines: bytes) -> set[int]:
    """The hours since 1970 of the points of ``lines`` (times in ns), perhaps with some in which there are none."""
    if b'"' not in lines:
        # A time of our century has 19 digits. Of a shorter one there is something else in the way of `int`.
        with suppress(ValueError):
            return {int(seconds) // _HOUR for seconds in {line[-20:-9] for line in lines[:-1].split(b"\n")}}
    return _found(_SECONDS, lines)


def _found(pattern: re.Pattern[bytes], lines: bytes) -> set[int]:
    return {int(seconds) // _HOUR for seconds in set(pattern.findall(lines))}
