"""The points of a batch that InfluxDB may have taken and lost: those in shards that it may have taken for idle.

Every ten seconds, InfluxDB (1.4 to 2.7, by its sources) looks for shards with an empty cache and frees the cache. It
checks first and frees a moment later (``Store.monitorShards``, ``Cache.Free``): a write in between gets a 204, and its
points cannot be read. They are in the shard's log, so a restart brings them back, but the next snapshot deletes
the log. After a write, the shard counts as used for minutes, even if the points were lost. So only the first write to a
new or cold shard is in danger; a second one, a moment later, is not.

Rules that hold here:

* Time is divided into hours, because every shard consists of whole hours. An hour is warm while its last write is
  recent; points of all other hours are cold and have to be written twice.
* The hours that are remembered have a bound. To forget an hour costs one more write, never a point.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from gateway.line_protocol import split_lines

if TYPE_CHECKING:
    from collections.abc import Callable

PAUSE_SECONDS = 0.25
"""Until the second write: longer than a thread waits for the processor on a busy machine."""
WARM_SECONDS = 10.0
"""So long is an hour warm. InfluxDB takes a shard for cold after ten minutes by default; it may be set lower."""
MAX_HOURS = 20_000
# The whole seconds of times in nanoseconds: of every line, and of the last.
_SECONDS = re.compile(rb" (-?\d{1,10})\d{9}\n")
_LAST_SECONDS = re.compile(rb" (-?\d{1,10})\d{9}\n\Z")
_HOUR = 3600


class RecentHours:
    """The hours with recent writes. Used by several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Monotonic seconds of the last write, by hour since 1970. Replaced as a whole, never changed, so that threads
        # need no lock; of two that replace it at once, one is lost, which costs a repetition.
        self._written: dict[int, float] = {}

    def cold(self, lines: bytes, hours: set[int]) -> bytes:
        """The points of ``lines`` whose hour is cold, usually none; ``hours`` are those of all of them."""
        since = self._clock() - WARM_SECONDS
        written = self._written
        cold = {hour for hour in hours if written.get(hour, since) <= since}
        if not cold:
            return b""
        points = split_lines(lines) if b'"' in lines else lines.splitlines(keepends=True)
        return b"".join(point for point in points if not cold.isdisjoint(_hours_in(_LAST_SECONDS, point)))

    def wrote(self, hours: set[int]) -> None:
        """Points in all these hours were written, the cold ones twice."""
        now = self._clock()
        written = self._written
        if len(written) > MAX_HOURS:
            written = {hour: at for hour, at in written.copy().items() if at > now - WARM_SECONDS}
        if len(written) > MAX_HOURS:
            written = {}
        self._written = written | dict.fromkeys(hours, now)


def hours_of(lines: bytes) -> set[int]:
    """The hours since 1970 of the points of ``lines`` (times in ns), perhaps with some hours more."""
    if b'"' not in lines:
        # A time of our century has 19 digits, after a space or a sign. If it is shorter, `int` refuses the slice.
        with suppress(ValueError):
            return {int(seconds) // _HOUR for seconds in {line[-20:-9] for line in lines[:-1].split(b"\n")}}
    return _hours_in(_SECONDS, lines)


def _hours_in(pattern: re.Pattern[bytes], lines: bytes) -> set[int]:
    return {int(seconds) // _HOUR for seconds in set(pattern.findall(lines))}
