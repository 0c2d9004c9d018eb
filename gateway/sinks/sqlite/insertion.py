"""Rows into the table ``points``, many in one statement.

The interpreter's lock is let go and taken back at every statement. One for each row would make the event loop and the
writer wait for each other thousands of times a batch, and costs twice the time where nobody else is busy.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

    from gateway.sinks.sqlite.rows import Row

CHUNKS = (128, 16, 1)
"""Rows in one statement."""


def store(connection: sqlite3.Connection, rows: list[Row], width: int) -> None:
    """Store rows of as many columns, in the order in which they are given; sorts them."""
    rows.sort(key=itemgetter(0, 1))  # neighbours in the file; of equals, the last still wins
    at = 0
    for size in CHUNKS:
        statement = _statement(width, size)
        while at + size <= len(rows):
            connection.execute(statement, list(chain.from_iterable(rows[at : at + size])))
            at += size


@lru_cache
def _statement(width: int, rows: int) -> str:
    columns = [f"v{slot}" for slot in range(width)]
    values = ", ".join([f"({', '.join('?' * (width + 2))})"] * rows)
    kept = ", ".join(f"{column} = coalesce(excluded.{column}, {column})" for column in columns)
    return (
        f"INSERT INTO points (series, time_ns, {', '.join(columns)}) VALUES {values} "
        f"ON CONFLICT (series, time_ns) DO UPDATE SET {kept}"
    )
