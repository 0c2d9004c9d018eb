"""Deletes points that are older than the retention, a little at a time, so that no write waits long for it.

Rules that hold here:

* A point is kept for the retention after its time. One that is older already when it is written, a replayed history or
  a backlog, keeps all of its series for the retention after that write: nothing is stored and at once deleted again.
* A series that goes on receiving such points is cut all the same, at most one retention later than another.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

ROWS = 1000
"""Most points deleted by one statement."""
SLICE = 0.01
"""Seconds that one transaction may go on."""

_DELETE = f"""
DELETE FROM points WHERE series = ?1 AND time_ns < ?2 AND time_ns <= coalesce(
    (SELECT time_ns FROM points WHERE series = ?1 AND time_ns < ?2 ORDER BY time_ns LIMIT 1 OFFSET {ROWS - 1}), ?2)
"""
_NEXT = """
SELECT id FROM series
WHERE id > ?1 AND NOT EXISTS (SELECT 1 FROM backfilled WHERE series = id AND since_ns > ?2)
ORDER BY id LIMIT 1
"""
_END_BACKFILL = "DELETE FROM backfilled WHERE series = ?1"
_DELETE_EMPTY = "DELETE FROM series WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM points WHERE series = ?1)"


class Expiry:
    """One pass over all series; `step` until `done`. ``removed_series`` once a series lost its last point."""

    def __init__(self, before_ns: int) -> None:
        self.done = False
        self.removed_series = False
        self._before_ns = before_ns
        self._after = 0

    def step(self, connection: sqlite3.Connection) -> None:
        """Delete for about `SLICE` seconds; inside a transaction of the writing connection."""
        until = time.monotonic() + SLICE
        while time.monotonic() < until:
            following = connection.execute(_NEXT, (self._after, self._before_ns)).fetchone()
            if following is None:
                self.done = True
                return
            (series,) = following
            if connection.execute(_DELETE, (series, self._before_ns)).rowcount < ROWS:
                connection.execute(_END_BACKFILL, (series,))
                self.removed_series |= connection.execute(_DELETE_EMPTY, (series,)).rowcount > 0
                self._after = series
