"""Deletes points that are older than the retention, a little at a time, so that no write waits long for it."""

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
            following = connection.execute(
                "SELECT id FROM series WHERE id > ? ORDER BY id LIMIT 1", (self._after,)
            ).fetchone()
            if following is None:
                self.done = True
                return
            (series,) = following
            if connection.execute(_DELETE, (series, self._before_ns)).rowcount < ROWS:
                self.removed_series |= connection.execute(_DELETE_EMPTY, (series,)).rowcount > 0
                self._after = series
