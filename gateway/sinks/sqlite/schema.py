"""The tables of the embedded database's file, and how a connection to it is set up.

Rules that hold here:

* A row of ``points`` has the values of a series at a moment, up to `SLOTS_PER_ROW` fields side by side. The fields of a
  reading come together, and one row costs a third of four rows. The table ``fields`` says which slot, that is, which
  column of values a field has. If a measurement and its tags have more fields than a row has slots, they have several
  rows in ``series``, told apart by ``part``.
* A point with the same series and timestamp overwrites field by field, as in InfluxDB. The history of a series is one
  range of the file.
* Columns of values have no declared type, so SQLite keeps floats, integers and strings as they are. A boolean is 0 or
  1, and the type of its field says that it is a boolean. A field that a point does not have is NULL.
* ``rollups`` are exact for every hour of a series that is not in ``stale``: see `gateway.sinks.sqlite.rollups`.
* The view ``readings`` is for people, one row for each value: ``sqlite3 telemetry.db 'select * from readings'``.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

from gateway.time_units import NS_PER_HOUR, NS_PER_S

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA_VERSION = 2
SLOTS_PER_ROW = 8
"""Fields in a row of ``points``."""
BUSY_TIMEOUT = 5.0
"""Seconds to wait while another process writes."""
CACHE_KIB = 32 * 1024
"""Memory for pages of the writing connection."""
WAL_PAGES = 8000
"""The write-ahead log is copied into the file when it is so long (32 MB): a page of many batches is copied once."""
CACHED_STATEMENTS = 256
"""Prepared statements that a connection keeps."""

HOUR_NS = NS_PER_HOUR
"""The unit of ``stale``, and the longer of the two steps of ``rollups``."""
MINUTE_NS = 60 * NS_PER_S
"""The shorter step of ``rollups``."""

_COLUMNS = ", ".join(f"v{slot}" for slot in range(SLOTS_PER_ROW))
_VALUE = " ".join(f"WHEN {slot} THEN v{slot}" for slot in range(SLOTS_PER_ROW))

_TABLES = f"""
CREATE TABLE IF NOT EXISTS series (
    id INTEGER PRIMARY KEY,
    device TEXT NOT NULL,
    measurement TEXT NOT NULL,
    tags TEXT NOT NULL, -- the other tags, a JSON object with its keys in order
    part INTEGER NOT NULL, -- 0, or more where there are more than {SLOTS_PER_ROW} fields
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
PRAGMA user_version = {SCHEMA_VERSION};
"""


def hour_of(time_ns: int) -> int:
    """The start of the hour of a moment, both in ns since 1970."""
    return time_ns - time_ns % HOUR_NS


def open_for_writing(path: Path) -> sqlite3.Connection:
    """A connection for one thread at a time; makes the file and its tables if they are not there.

    ``synchronous`` is FULL: after a write has returned, the spool's cursor moves past it for good. With NORMAL and a
    write-ahead log, a power cut could still undo the commit, and acknowledged readings would be lost. FULL costs one
    sync of the log for each commit.

    Raises:
        sqlite3.Error, OSError: the file cannot be used.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False, cached_statements=CACHED_STATEMENTS
    )
    with contextlib.ExitStack() as stack:
        stack.callback(connection.close)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        connection.execute("PRAGMA journal_size_limit = 67108864")  # after a long query has made it grow
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in {0, SCHEMA_VERSION}:
            raise sqlite3.DatabaseError(f"the file has version {version}, this program knows version {SCHEMA_VERSION}")
        if version == 0:
            connection.executescript(_TABLES)
        stack.pop_all()
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A connection for a query, which neither waits for a writer nor makes one wait.

    Raises:
        sqlite3.Error: there is no file, or it cannot be used.
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_TIMEOUT, isolation_level=None
    )
    connection.execute("PRAGMA query_only = ON")
    return connection
