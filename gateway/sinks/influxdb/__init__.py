"""InfluxDB 1, 2 and 3, and what speaks one of their write APIs, such as VictoriaMetrics.

``sink`` has what both write APIs share, ``v1`` and ``v2`` how each makes a request. ``http_response`` says what a
response to a write means, ``idle_shards`` which points have to be written twice. Queries go through ``query_client``,
in ``influxql`` or, to VictoriaMetrics, in ``metricsql``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gateway.config import ListenAddress
from gateway.sinks.influxdb.v1 import InfluxV1Sink
from gateway.sinks.influxdb.v2 import InfluxV2Sink

if TYPE_CHECKING:
    from pydantic import SecretStr

    from gateway.config import Config
    from gateway.delivery.sink import Sink

QUERY_CONNECTIONS = 4
"""Connections kept for queries, beside one for each write in flight."""


def make_sink(config: Config) -> Sink:
    """The database of the section ``influxdb``."""
    section, connections = config.influxdb, config.batch.max_in_flight + QUERY_CONNECTIONS
    url = section.url or ""
    on_this_machine = ListenAddress(urlsplit(url).hostname or "", 0).loopback
    compress = not on_this_machine if section.gzip == "auto" else section.gzip
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
