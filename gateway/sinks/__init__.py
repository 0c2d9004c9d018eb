"""Databases that readings are written to, each behind the interface `gateway.delivery.sink.Sink`.

A module is imported when its database is the configured one: influxdb-client alone takes a third of a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gateway.config import ListenAddress
from gateway.sinks.retention_clock import RetentionClock

if TYPE_CHECKING:
    from pydantic import SecretStr

    from gateway.config import Config, InfluxdbSection
    from gateway.delivery.sink import Sink

QUERY_CONNECTIONS = 4
"""Connections kept for queries, beside one for each write in flight."""


def make_sink(config: Config) -> Sink:
    """The configured database. It is not asked for anything yet, so one that is down does not stop the start."""
    if config.sink == "sqlite":
        from gateway.sinks.sqlite import SqliteSink  # noqa: PLC0415 - see above

        return SqliteSink(config.sqlite.path, retention=config.sqlite.retention, clock_ns=RetentionClock())
    return _influxdb(config.influxdb, config.batch.max_in_flight + QUERY_CONNECTIONS)


def _influxdb(section: InfluxdbSection, connections: int) -> Sink:
    from gateway.sinks.influxdb_v1 import InfluxV1Sink  # noqa: PLC0415
    from gateway.sinks.influxdb_v2 import InfluxV2Sink  # noqa: PLC0415

    url = section.url or ""
    here = ListenAddress(urlsplit(url).hostname or "", 0).loopback
    compress = not here if section.gzip == "auto" else section.gzip
    if section.api == "v1":
        return InfluxV1Sink(
            url,
            section.database or "",
            username=section.username,
            password=_revealed(section.password),
            compress=compress,
            timeout=section.timeout,
            connections=connections,
        )
    return InfluxV2Sink(
        url,
        section.bucket or "",
        org=section.org or "",
        token=_revealed(section.token),
        compress=compress,
        timeout=section.timeout,
        connections=connections,
    )


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
