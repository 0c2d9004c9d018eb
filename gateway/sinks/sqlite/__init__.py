"""The embedded database: points in one SQLite file, for a machine without a database server.

``schema`` defines the tables of the file. ``catalog`` finds the series and the column of a value, ``rows`` turns line
protocol into rows, ``insertion`` stores them. ``rollups`` keeps a summary of every minute and hour, ``history`` answers
queries. ``retention`` deletes old points, by ``retention_clock``. ``sink`` puts them together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.sinks.sqlite.retention_clock import RetentionClock
from gateway.sinks.sqlite.sink import SqliteSink

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.delivery.sink import Sink

__all__ = ["SqliteSink", "make_sink"]


def make_sink(config: Config) -> Sink:
    """The database of the section ``sqlite``."""
    return SqliteSink(config.sqlite.path, retention=config.sqlite.retention, clock_ns=RetentionClock())
