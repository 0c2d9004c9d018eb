from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from gateway.config import BatchSection, Config, InfluxdbSection, SqliteSection, StateSection
from gateway.sinks import make_sink
from gateway.sinks.influxdb import QUERY_CONNECTIONS
from gateway.sinks.influxdb.v1 import InfluxV1Sink
from gateway.sinks.influxdb.v2 import InfluxV2Sink
from gateway.sinks.sqlite import SqliteSink

if TYPE_CHECKING:
    from pathlib import Path


def test_sqlite_is_made_in_the_state_directory(tmp_path: Path) -> None:
    section = SqliteSection.model_validate({"path": "x.db", "retention": "2h"})
    sink = make_sink(Config(state=StateSection(directory=tmp_path), sqlite=section))
    assert isinstance(sink, SqliteSink)
    assert sink.name == f"SQLite in {tmp_path / 'x.db'}"
    assert sink._retention == 7200.0
    assert not (tmp_path / "x.db").exists(), "a database that cannot be used does not stop the start"
    sink.close()


def test_v1_gets_all_its_settings() -> None:
    settings = {"url": "http://db.example:8086/", "api": "v1", "database": "d", "username": "u", "password": "secret"}
    section = InfluxdbSection.model_validate({**settings, "timeout": "3s"})
    sink = make_sink(Config(sink="influxdb", influxdb=section, batch=BatchSection(max_in_flight=9)))
    assert isinstance(sink, InfluxV1Sink)
    assert sink.name == "InfluxDB at http://db.example:8086"
    assert sink._write_url == "http://db.example:8086/write?db=d&precision=ns"
    assert sink._headers["Authorization"] == "Basic dTpzZWNyZXQ="
    assert sink._pool.connection_pool_kw["maxsize"] == 9 + QUERY_CONNECTIONS
    assert sink._pool.connection_pool_kw["timeout"].total == 3.0
    sink.close()


def test_v2_gets_all_its_settings() -> None:
    settings = {"url": "http://db.example:8086", "org": "o", "bucket": "b", "token": "secret"}
    section = InfluxdbSection.model_validate({**settings, "timeout": "2500ms"})
    sink = make_sink(Config(sink="influxdb", influxdb=section, batch=BatchSection(max_in_flight=9)))
    assert isinstance(sink, InfluxV2Sink)
    assert (sink._org, sink._bucket, sink._database) == ("o", "b", "b")
    assert sink._client.token == "secret"
    assert sink._client.conf.timeout == 2500
    assert sink._client.conf.connection_pool_maxsize == 9 + QUERY_CONNECTIONS
    assert sink._client.retries is False
    sink.close()


@pytest.mark.parametrize(
    ("url", "gzip", "compressed"),
    [
        ("http://127.0.0.1:8086", "auto", False),
        ("http://localhost:8086", "auto", False),
        ("http://[::1]:8086", "auto", False),
        ("https://db.example", "auto", True),
        ("http://10.0.0.5:8086", "auto", True),
        ("http://127.0.0.1:8086", True, True),
        ("https://db.example", False, False),
    ],
)
@pytest.mark.parametrize("api", ["v1", "v2"])
def test_gzip_follows_the_setting_or_the_address(url: str, gzip: Any, compressed: bool, api: Any) -> None:
    sink = make_sink(Config(sink="influxdb", influxdb=InfluxdbSection(url=url, gzip=gzip, api=api)))
    assert isinstance(sink, InfluxV1Sink | InfluxV2Sink)
    assert sink._compress is compressed
    sink.close()


def test_a_gateway_on_sqlite_does_not_load_the_influxdb_client(tmp_path: Path) -> None:
    program = (
        "import sys; from gateway.config import Config; from gateway.sinks import make_sink;"
        "make_sink(Config()).close(); print('influxdb_client' in sys.modules, 'urllib3' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
