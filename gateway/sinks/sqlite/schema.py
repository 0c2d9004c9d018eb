"""The embedded database's file: its tables, and how a connection to it is set up.

Rules that hold here:

* A row of ``points`` is what a series had at a moment: up to `SLOTS` fields side by side, since the fields of a reading
  come together and one row costs a third of four. A field has its column by ``fields``; a device with more fields has
  more than one ``series`` of a measurement and its tags, told apart by ``part``.
* The same series and timestamp overwrites field by field, as in InfluxDB, and a series' history is one range of the
  file.
* Values have no declared type, so SQLite keeps floats, integers and strings as they are; a boolean is 0 or 1, and its
  field says that it is one. A field that a point does not have is NULL.
* ``rollups`` are right for every hour of a series that is not in ``stale``; `gateway.sinks.sqlite.rollups` says how.
* ``readings`` is for people, one row for each value: ``sqlite3 telemetry.db 'select * from readings'``.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

VERSION = 2
SLOTS = 8
"""Fields that a row of ``points`` holds."""
BUSY_TIMEOUT = 5.0
"""Seconds to wait for another process that is writing."""
CACHE_KIB = 32 * 1024
"""Memory for the pages that the writing connection uses."""
LOG_PAGES = 8000
"""The write-ahead log is carried over into the file when it is this long (32 MB): a page that many batches touch is
then carried over once."""
STATEMENTS = 256
"""Prepared statements that a connection keeps."""

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
"""What is stale at once, and the longer of the two steps of ``rollups``, in ns."""
MINUTE = 60 * SECOND

_COLUMNS = ", ".join(f"v{slot}" for slot in range(SLOTS))
_VALUE = " ".join(f"WHEN {slot} THEN v{slot}" for slot in range(SLOTS))

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS series (
    id INTEGER PRIMARY KEY,
    device TEXT NOT NULL,
    measurement TEXT NOT NULL,
    tags TEXT NOT NULL, -- the other tags, a JSON object with its keys in order
    part INTEGER NOT NULL, -- 0, or more where there are more than {SLOTS} fields
    UNIQUE (device, measurement, tags, part)
);
CREATE TABLE IF NOT EXISTS fields (
    series INTEGER NOT NULL REFERENCES series (id),
    slot INTEGER NOT NULL, -- its values are in column v<slot> of points
    measurement TEXT NOT NULL,
    field TEXT NOT NULL,
    type TEXT NOT NULL, -- float, integer, boolean or string: one for all series of a measurement and field
    PRIMARY KEY (series, slot)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS types ON fields (measurement, field, type);
CREATE TABLE IF NOT EXISTS points (
    series INTEGER NOT NULL REFERENCES series (id),
    time_ns INTEGER NOT NULL,
    {_COLUMNS},
    PRIMARY KEY (series, time_ns)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rollups ( -- of numbers and booleans
    series INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    step_ns INTEGER NOT NULL, -- a minute or an hour
    time_ns INTEGER NOT NULL, -- where it begins
    low NOT NULL,
    high NOT NULL,
    total REAL NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (series, slot, step_ns, time_ns)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS stale ( -- hours with points that rollups do not show yet
    series INTEGER NOT NULL,
    hour_ns INTEGER NOT NULL,
    PRIMARY KEY (series, hour_ns)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS backfilled ( -- series that were given points older than the retention, and when first
    series INTEGER PRIMARY KEY,
    since_ns INTEGER NOT NULL
);
CREATE VIEW IF NOT EXISTS readings AS
    WITH split AS (SELECT *, (time_ns % 1000000000 + 1000000000) % 1000000000 AS fraction FROM points)
    SELECT device, series.measurement, field, tags, time_ns, CASE slot {_VALUE} END AS value, type,
        strftime('%Y-%m-%dT%H:%M:%S', (time_ns - fraction) / 1000000000, 'unixepoch')
            || printf('.%09dZ', fraction) AS time
    FROM series JOIN fields ON fields.series = series.id JOIN split ON split.series = series.id
    WHERE value IS NOT NULL;
PRAGMA user_version = {VERSION};
"""


def hour_of(time_ns: int) -> int:
    """Where the hour of a moment begins, ns since 1970."""
    return time_ns - time_ns % HOUR


def open_for_writing(path: Path) -> sqlite3.Connection:
    """A connection that may be used by one thread at a time; makes the file and its tables if they are not there.

    ``synchronous`` is FULL: once a write has returned, the spool's cursor moves past it for good, so a commit that a
    power cut could still undo, as NORMAL allows with a write-ahead log, would lose acknowledged readings. It costs one
    sync of the log for each commit.

    Raises:
        sqlite3.Error, OSError: it cannot be used.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False, cached_statements=STATEMENTS
    )
    with contextlib.ExitStack() as stack:
        stack.callback(connection.close)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
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
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_TIMEOUT, isolation_level=None
    )
    connection.execute("PRAGMA query_only = ON")
    return connection
