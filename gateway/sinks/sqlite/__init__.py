"""The embedded database: points in one SQLite file, for a machine without a database server.

``schema`` says what the file holds, ``catalog`` which series and column a value belongs to, ``lines`` turns line
protocol into rows, ``rollups`` keeps minutes and hours summarised, ``history`` answers queries, ``retention`` deletes,
and ``sink`` puts them together.
"""

from __future__ import annotations

from gateway.sinks.sqlite.sink import SqliteSink

__all__ = ["SqliteSink"]
