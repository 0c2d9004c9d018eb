"""The embedded database's file: its tables, and how a connection to it is set up.

Rules that hold here:

* ``points`` is keyed by series and time, so the same series and timestamp overwrites, as in InfluxDB, and a series'
  history is one range of the file.
* ``value`` has no declared type, so SQLite keeps floats, integers and strings as they are; a boolean is 0 or 1, and its
  series says that it is one.
* ``readings`` is for people: ``sqlite3 telemetry.db 'select * from readings'``.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

VERSION = 1
BUSY_TIMEOUT = 5.0
"""Seconds to wait for another process that is writing."""

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS series (
    id INTEGER PRIMARY KEY,
    device TEXT NOT NULL,
    measurement TEXT NOT NULL,
    field TEXT NOT NULL,
    tags TEXT NOT NULL, -- the other tags, a JSON object with its keys in order
    type TEXT NOT NULL, -- float, integer, boolean or string: one for all series of a measurement and field
    UNIQUE (measurement, field, device, tags)
);
CREATE INDEX IF NOT EXISTS series_of_device ON series (device, field);
CREATE TABLE IF NOT EXISTS points (
    series INTEGER NOT NULL REFERENCES series (id),
    time_ns INTEGER NOT NULL,
    value NOT NULL,
    PRIMARY KEY (series, time_ns)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS backfilled ( -- series that were given points older than the retention, and when first
    series INTEGER PRIMARY KEY,
    since_ns INTEGER NOT NULL
);
CREATE VIEW IF NOT EXISTS readings AS
    WITH split AS (SELECT *, (time_ns % 1000000000 + 1000000000) % 1000000000 AS fraction FROM points)
    SELECT device, measurement, field, tags, time_ns, value, type,
        strftime('%Y-%m-%dT%H:%M:%S', (time_ns - fraction) / 1000000000, 'unixepoch')
            || printf('.%09dZ', fraction) AS time
    FROM split JOIN series ON series.id = split.series;
PRAGMA user_version = {VERSION};
"""


def open_for_writing(path: Path) -> sqlite3.Connection:
    """A connection that may be used by one thread at a time; makes the file and its tables if they are not there.

    ``synchronous`` is FULL: once a write has returned, the spool's cursor moves past it for good, so a commit that a
    power cut could still undo, as NORMAL allows with a write-ahead log, would lose acknowledged readings. It costs one
    sync of the log for each batch.

    Raises:
        sqlite3.Error, OSError: it cannot be used.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
    with contextlib.ExitStack() as stack:
        stack.callback(connection.close)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_size_limit = 67108864")  # a log that a long query made grow shrinks again
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in {0, VERSION}:
            raise sqlite3.DatabaseError(f"the file has version {version}, this program knows version {VERSION}")
        if version == 0:
            connection.executescript(SCHEMA)
        stack.pop_all()
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A connection of its own for a query, which neither waits for writers nor holds them up.

    Raises:
        sqlite3.Error: there is no such file, or it cannot be used.
    """
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_TIMEOUT)
    connection.execute("PRAGMA query_only = ON")
    return connection
