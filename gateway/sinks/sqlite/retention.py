"""Deletes points that are older than the retention, in short steps, so that no write waits long for it.

Rules that hold here:

* A point is kept for the retention after its time. A point that is already older when it is written (a replayed
  history, a backlog) keeps its whole series for the retention after that write. So nothing is deleted right after it
  was stored.
* A series that goes on receiving such points is deleted from all the same, at most one retention later than others.
* The hours that lose points become stale, as if a point had been written into them; their rollups are made again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gateway.sinks.sqlite.schema import HOUR_NS

if TYPE_CHECKING:
    import sqlite3

MAX_ROWS = 1000
"""Rows that one statement deletes."""
STEP_SECONDS = 0.01
"""After so long, a step starts no further statement."""

_LAST = f"""
SELECT coalesce(
    (SELECT time_ns FROM points WHERE series = :id AND time_ns < :before ORDER BY time_ns
        LIMIT 1 OFFSET {MAX_ROWS - 1}),
    :before - 1)
"""
_MARK = f"""
INSERT OR IGNORE INTO stale (series, hour_ns)
SELECT DISTINCT series, time_ns - (time_ns % {HOUR_NS} + {HOUR_NS}) % {HOUR_NS} FROM points
WHERE series = ? AND time_ns <= ?
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
    """One pass over all series: call `step` until `done`."""

    def __init__(self, before_ns: int) -> None:
        self.done = False
        # Points before this moment are deleted.
        self._before_ns = before_ns
        # The last series that the pass has finished.
        self._finished_to = 0

    def step(self, connection: sqlite3.Connection) -> bool:
        """Delete for about `STEP_SECONDS`; whether points or series were deleted.

        ``connection`` is the writing one, in a transaction.
        """
        until = time.monotonic() + STEP_SECONDS
        deleted = False
        while time.monotonic() < until:
            following = connection.execute(_NEXT, (self._finished_to, self._before_ns)).fetchone()
            if following is None:
                self.done = True
                break
            (series,) = following
            rows = self._delete(connection, series)
            deleted |= rows > 0
            if rows < MAX_ROWS:
                connection.execute(_END_BACKFILL, (series,))
                if connection.execute(_DELETE_EMPTY, {"id": series}).rowcount > 0:
                    deleted = True
                    for statement in _DELETE_REST:
                        connection.execute(statement, (series,))
                self._finished_to = series
        return deleted

    def _delete(self, connection: sqlite3.Connection, series: int) -> int:
        (last,) = connection.execute(_LAST, {"id": series, "before": self._before_ns}).fetchone()
        connection.execute(_MARK, (series, last))
        return connection.execute(_DELETE, (series, last)).rowcount
