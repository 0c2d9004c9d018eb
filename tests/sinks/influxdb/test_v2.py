"""The v2 sink against VictoriaMetrics, and against an InfluxDB too old for it."""

from __future__ import annotations

import random
import subprocess
import sys
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from gateway.delivery.sink import SeriesName, SeriesQuery
from gateway.delivery.write_result import OperatorNeeded, RetryLater, Stored
from gateway.line_protocol import escape
from gateway.sinks.influxdb.v1 import InfluxV1Sink
from gateway.sinks.influxdb.v2 import InfluxV2Sink
from tests.support.history import assert_same_buckets, expected_buckets
from tests.support.servers import VictoriaMetrics

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.servers import Influxd

START = 1_700_000_000_000
"""In ms: VictoriaMetrics has no finer times."""


@pytest.fixture(params=[False, True], ids=["plain", "gzip"])
def sink(request: pytest.FixtureRequest, victoria_metrics: VictoriaMetrics) -> Iterator[InfluxV2Sink]:
    sink = InfluxV2Sink(victoria_metrics.url, "bucket", org="org", token="token", compress=request.param)
    yield sink
    sink.close()


def stored(server: VictoriaMetrics, device: str) -> dict[str, list[tuple[int, Any]]]:
    """Times (ms) and values of every series of a device, by name."""
    return {
        series["metric"]["__name__"]: list(zip(series["timestamps"], series["values"], strict=True))
        for series in server.points(f'{{device="{device}"}}')
    }


def test_numbers_come_back(victoria_metrics: VictoriaMetrics, sink: InfluxV2Sink) -> None:
    device = f"numbers-{sink._compress}"
    lines = "".join(
        f"m,device={device} x={value!r},i={index}i {START + index}000000\n" for index, value in enumerate([0.1, -40.25])
    )
    assert sink.write(lines.encode()) == Stored()
    assert stored(victoria_metrics, device) == {
        "m_x": [(START, 0.1), (START + 1, -40.25)],
        "m_i": [(START, 0), (START + 1, 1)],
    }


def test_booleans_and_strings_become_numbers(victoria_metrics: VictoriaMetrics, sink: InfluxV2Sink) -> None:
    device = f"others-{sink._compress}"
    assert sink.write(f'm,device={device} t=true,u=false,s="text",n="42.5" {START}000000\n'.encode()) == Stored()
    assert stored(victoria_metrics, device) == {
        "m_t": [(START, 1)], "m_u": [(START, 0)], "m_s": [(START, 0)], "m_n": [(START, 42.5)],
    }  # fmt: skip


@pytest.mark.parametrize("api", [InfluxV1Sink, InfluxV2Sink])
def test_a_string_cannot_write_another_devices_points(
    victoria_metrics: VictoriaMetrics, api: type[InfluxV1Sink | InfluxV2Sink]
) -> None:
    device = f"sender-{api.__name__}"
    sink = api(victoria_metrics.url, "bucket")
    line = f'm,device={device} s="\nm,device=victim-{device} x=666 {START}000000\nq=\\"",x=1 {START}000000\n'
    assert sink.write(line.encode()) == Stored()
    sink.close()
    assert stored(victoria_metrics, f"victim-{device}") == {}
    assert stored(victoria_metrics, device) == {"m_s": [(START, 0)], "m_x": [(START, 1)]}


@pytest.mark.parametrize("points", [1, 7, 300])
def test_history_comes_from_metricsql(victoria_metrics: VictoriaMetrics, sink: InfluxV2Sink, points: int) -> None:
    source = random.Random(points)
    device = f'd " {uuid.uuid4()}'
    found = [((START + source.randrange(600_000)) * 1_000_000, source.randrange(-50, 50)) for _ in range(500)]
    found = list(dict(found).items())
    tags = f"device={escape(device)},site=s"
    lines = "".join(f"hall,{tags}{at % 2} temp={value} {time_ns}\n" for at, (time_ns, value) in enumerate(found))
    assert sink.write((lines + lines.replace("hall,", "yard,")).encode()) == Stored()
    victoria_metrics.points('{site="s0"}')  # makes them searchable
    query = SeriesQuery(device, "temp", (START + 12_345) * 1_000_000, (START + 500_001) * 1_000_000, points, "hall")
    history = sink.query(query)
    assert len(history.buckets) <= points
    assert_same_buckets(history.buckets, expected_buckets(found, query, interval=history.interval_ns))
    whole = sink.query(replace(query, measurement=None, field="yard_temp"))
    assert whole.buckets == history.buckets
    assert sink.query(replace(query, device="nobody")).buckets == []
    assert sink.series(device) == [SeriesName("", "hall_temp", "float"), SeriesName("", "yard_temp", "float")]


def test_an_influxdb_without_the_v2_api_needs_an_operator(influxd: Influxd) -> None:
    sink = InfluxV2Sink(influxd.url, influxd.create_database())
    assert sink.write(f"m,device=d1 x=1 {START}000000\n".encode()) == OperatorNeeded("not_found", "404 page not found")
    sink.close()


def test_history_comes_from_influxql(influxd: Influxd) -> None:
    database = influxd.create_database()
    influxd.write(database, f"m,device=d1 x=1 {START}000000\nm,device=d1 x=3 {START}000001\n".encode())
    sink = InfluxV2Sink(influxd.url, database, token="unused")
    ((bucket,), _) = sink.query(SeriesQuery("d1", "x", START * 1_000_000, START * 1_000_000 + 10, 1))
    assert (bucket.low, bucket.mean, bucket.high, bucket.count) == (1, 2, 3, 2)
    sink.close()


def test_the_client_prints_nothing_at_the_end_of_the_process() -> None:
    program = (
        "from gateway.sinks.influxdb.v2 import InfluxV2Sink\n"
        "sink = InfluxV2Sink('http://127.0.0.1:1', 'b')\n"
        "sink.write(b'm x=1 5\\n')\n"
        "sink.close()\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_a_stopped_server_is_retried_and_found_again_once_it_runs(tmp_path: Path) -> None:
    with VictoriaMetrics(tmp_path) as server:
        sink = InfluxV2Sink(server.url, "bucket", timeout=5.0)
        line = f"m,device=d1 x=1 {START}000000\n".encode()
        assert sink.write(line) == Stored()
        server.stop()
        result = sink.write(line)
        assert isinstance(result, RetryLater)
        assert result.kind == "network"
        server.start()
        assert sink.write(line) == Stored()
        sink.close()
