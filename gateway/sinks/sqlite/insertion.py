"""Insertion of rows into the table ``points``, many in one statement.

Every statement releases the interpreter's lock and takes it again. With a statement for each row, the event loop and
the writer would wait for each other thousands of times a batch. Even on an idle machine it costs twice the time.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

    from gateway.sinks.sqlite.rows import Row

ROWS_PER_STATEMENT = (128, 16, 1)
"""The largest that still fits is used."""


def insert_rows(connection: sqlite3.Connection, rows: list[Row], width: int) -> None:
    """Insert rows with ``width`` columns of values; sorts ``rows``. Of two with the same key, the later one wins."""
    rows.sort(key=itemgetter(0, 1))  # by the primary key, so that neighbours are written together; stable
    at = 0
    for size in ROWS_PER_STATEMENT:
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
