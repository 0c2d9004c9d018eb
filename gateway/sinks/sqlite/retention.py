"""Deletes points that are older than the retention, a little at a time, so that no write waits long for it.

Rules that hold here:

* A point is kept for the retention after its time. One that is older already when it is written, a replayed history or
  a backlog, keeps all of its series for the retention after that write: nothing is stored and at once deleted again.
* A series that goes on receiving such points is cut all the same, at most one retention later than another.
* The hours that lose points are stale, as if something had been written into them; their summaries follow.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gateway.sinks.sqlite.schema import HOUR

if TYPE_CHECKING:
    import sqlite3

ROWS = 1000
"""Most rows deleted by one statement."""
SLICE = 0.01
"""Seconds that one transaction may go on."""

_LAST = f"""
SELECT coalesce(
    (SELECT time_ns FROM points WHERE series = :id AND time_ns < :before ORDER BY time_ns LIMIT 1 OFFSET {ROWS - 1}),
    :before - 1)
"""
_MARK = f"""
INSERT OR IGNORE INTO stale (series, hour_ns)
SELECT DISTINCT series, time_ns - (time_ns % {HOUR} + {HOUR}) % {HOUR} FROM points WHERE series = ? AND time_ns <= ?
"""
_DELETE = "DELETE FROM points WHERE series = ? AND time_ns <= ?"
_NEXT = """
SELECT id FROM series
WHERE id > ? AND NOT EXISTS (SELECT 1 FROM backfilled WHERE series = id AND since_ns > ?)
ORDER BY id LIMIT 1
"""
_END_BACKFILL = "DELETE FROM backfilled WHERE series = ?"
_DELETE_EMPTY = "DELETE FROM series WHERE id = :id AND NOT EXISTS (SELECT 1 FROM points WHERE series = :id)"
_DELETE_REST = [f"DELETE FROM {table} WHERE series = ?" for table in ("fields", "rollups", "stale")]


class RetentionPass:
    """One pass over all series; `step` until `done`."""

    def __init__(self, before_ns: int) -> None:
        self.done = False
        self._before_ns = before_ns
        self._after = 0

    def step(self, connection: sqlite3.Connection) -> bool:
        """Delete for about `SLICE` seconds; inside a transaction of the writing connection. Whether anything went."""
        until = time.monotonic() + SLICE
        deleted = False
        while time.monotonic() < until:
            following = connection.execute(_NEXT, (self._after, self._before_ns)).fetchone()
            if following is None:
                self.done = True
                break
            (series,) = following
            rows = self._delete(connection, series)
            deleted |= rows > 0
            if rows < ROWS:
                connection.execute(_END_BACKFILL, (series,))
                if connection.execute(_DELETE_EMPTY, {"id": series}).rowcount > 0:
                    deleted = True
                    for statement in _DELETE_REST:
                        connection.execute(statement, (series,))
                self._after = series
        return deleted

    def _delete(self, connection: sqlite3.Connection, series: int) -> int:
        (last,) = connection.execute(_LAST, {"id": series, "before": self._before_ns}).fetchone()
        connection.execute(_MARK, (series, last))
        return connection.execute(_DELETE, (series, last)).rowcount
