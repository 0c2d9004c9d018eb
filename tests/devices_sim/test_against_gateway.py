"""The simulator and a real gateway: recorded data sets arrive exactly, and everything that goes wrong is survived.

What the databases hold is compared with the csv file itself, read here by the csv module, so that neither the replay's
reading of the file nor `verify` is taken at its word.
"""

from __future__ import annotations

import contextlib
import csv
import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import vega_datasets
from click.testing import CliRunner

from devices_sim.__main__ import main
from tests.support.certificate import make_certificate
from tests.support.gateway import running_gateway, wait_for
from tests.support.servers import Influxd
from tests.support.simulator import simulate, verify

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.gateway import RunningGateway
    from tests.support.servers import VictoriaMetrics

DATA = Path(vega_datasets.__file__).parent / "_data"
Points = dict[tuple[str, int, str], Any]
"""(device and tag, time in ns, field) to value."""

FILES: dict[str, tuple[str, str, str | None, list[str]]] = {
    # file: time column, its format, what tells rows of one time apart, options of replay
    "seattle-weather.csv": ("date", "%Y/%m/%d", None, []),
    "sf-temps.csv": ("date", "%Y/%m/%d %H:%M:%S", None, ["--batch", "1000"]),
    "us-employment.csv": ("month", "%Y-%m-%d", None, ["--batch", "7"]),
    "iowa-electricity.csv": ("year", "%Y-%m-%d", "source", ["--tag-column", "source"]),
    "stocks.csv": ("date", "%b %d %Y", None, ["--device-column", "symbol", "--time-format", "%b %d %Y"]),
}
LONG_AGO = {"sqlite": {"retention": "36500d"}, "profiles": {"default": {"allowed_tags": ["source"]}}}


def in_the_file(name: str, device: str) -> Points:
    """What a csv file says, by Python's csv module."""
    time, pattern, tag, _ = FILES[name]
    points: Points = {}
    with (DATA / name).open(newline="") as file:
        for row in csv.DictReader(file):
            moment = datetime.strptime(row.pop(time), pattern).replace(tzinfo=UTC)
            series = f"{device}-{row.pop('symbol')}" if "symbol" in row else device
            series += f"/{row.pop(tag)}" if tag else ""
            for field, value in row.items():
                points[series, int(moment.timestamp()) * 10**9, field] = value if field == "weather" else float(value)
    return points


def replay_all(gateway: RunningGateway, directory: Path, prefix: str, *database: str) -> dict[str, str]:
    """Replay every file as a device of its own and verify it; device by file."""
    devices = {}
    for name, (*_, options) in FILES.items():
        devices[name] = prefix + name.removesuffix(".csv")
        arguments = ["--url", gateway.ws, "--device", devices[name], *options]
        report = str(directory / "report.json")
        command("replay", str(DATA / name), *arguments, "--report", report)
        command("verify", "--report", report, "--database", *database)
    return devices


@contextlib.contextmanager
def told_apart(report: Path, gateway: RunningGateway, influxd: Influxd, database: str) -> Iterator[None]:
    """Readings that are missing: were they late, unreadable until InfluxDB starts again, or are they not there?"""
    verifying = ["verify", "--report", str(report), "--database", influxd.url, "--db", database]
    try:
        yield
    except AssertionError as error:
        later = CliRunner().invoke(main, [*verifying, "--wait", "5s"]).output
        influxd.stop()
        influxd.start()
        restarted = CliRunner().invoke(main, verifying).output
        writes = (gateway.directory / "state/writes.log").read_text()
        text = f"{error}\n5 s later:\n{later}\nafter InfluxDB started again:\n{restarted}\nwrites:\n{writes}"
        raise AssertionError(text) from error


def test_data_sets_into_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "gateway/data.db"
    with running_gateway(tmp_path / "gateway", LONG_AGO) as gateway:
        devices = replay_all(gateway, tmp_path, "", f"sqlite:{path}")
    for name, device in devices.items():
        query = "SELECT device, json_extract(tags, '$.source'), time_ns, field, value FROM readings WHERE device GLOB ?"
        with contextlib.closing(sqlite3.connect(path)) as connection:
            rows = connection.execute(query, (f"{device}*",)).fetchall()
        stored = {(f"{who}/{tag}" if tag else who, time, field): value for who, tag, time, field, value in rows}
        stored = {key: value for key, value in stored.items() if key[2] != "connected" and key[2] != "reason"}
        assert stored == in_the_file(name, device)


def test_data_sets_into_influxdb(tmp_path: Path, influxd: Influxd) -> None:
    database = influxd.create_database()
    over = {**LONG_AGO, "sink": "influxdb", "influxdb": {"url": influxd.url, "api": "v1", "database": database}}
    with (
        running_gateway(tmp_path / "gateway", over) as gateway,
        told_apart(tmp_path / "report.json", gateway, influxd, database),
    ):
        devices = replay_all(gateway, tmp_path, "", influxd.url, "--db", database)
    points = influxd.points(database, "telemetry")
    for name, device in devices.items():
        stored: Points = {}
        for point in (dict(p) for p in points if p["device"].startswith(device)):
            series, time, tag = point.pop("device"), point.pop("time"), point.pop("source")
            key = f"{series}/{tag}" if tag else series
            stored |= {(key, time, field): value for field, value in point.items() if value is not None}
        assert stored == in_the_file(name, device)


def test_data_sets_into_victoria_metrics(tmp_path: Path, victoria_metrics: VictoriaMetrics) -> None:
    influx = {"url": victoria_metrics.url, "api": "v2", "org": "o", "bucket": "b", "token": "token-for-tests"}
    with running_gateway(tmp_path / "gateway", {**LONG_AGO, "sink": "influxdb", "influxdb": influx}) as gateway:
        devices = replay_all(gateway, tmp_path, "vm-", f"victoria-metrics:{victoria_metrics.url}")
    for name, device in devices.items():
        stored: Points = {}
        for series in victoria_metrics.points(f'{{device=~"{device}.*",__name__=~"telemetry_.*"}}'):
            labels = series["metric"]
            key = "/".join(filter(None, (labels["device"], labels.get("source"))))
            field = labels["__name__"].removeprefix("telemetry_")
            pairs = zip(series["timestamps"], series["values"], strict=True)
            stored |= {(key, time * 10**6, field): value for time, value in pairs}
        expected = {key: value for key, value in in_the_file(name, device).items() if not isinstance(value, str)}
        assert {key: value for key, value in stored.items() if key[2] != "weather"} == expected


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


def test_a_rough_fleet_loses_and_doubles_nothing(tmp_path: Path, gateway: RunningGateway) -> None:
    scenario = tmp_path / "rough.yaml"
    scenario.write_text("""
groups:
  - {name: a, kind: climate, count: 20, faults: {disconnect_every: 1s, duplicates: 0.2}}
  - {name: b, kind: machine, count: 5, faults: {bad_values: 0.3}}
  - {name: c, kind: logger, count: 10, faults: {bad_values: 0.3, clock_skew: 3h}}
  - {name: d, kind: tracker, count: 10, faults: {silent_every: 1s, silent_for: 1s, bad_values: 0.3}}
""")
    arguments = ["--url", gateway.ws, "--scenario", str(scenario), "--prefix", "rough-", "--interval", "100ms"]
    with simulate(tmp_path, "run", *arguments, "--duration", "3s") as simulation:
        report = simulation.finish(60)
    verify(tmp_path / "report.json", f"sqlite:{gateway.directory}/data.db")
    summary = report["summary"]
    assert summary["sent"] == summary["acked"] + summary["refused"]
    assert summary["refused"] > 60
    assert set(summary["reject_codes"]) == {"wrong_type", "bad_name", "bad_timestamp"}
    assert summary["reconnects"] > 10
    accounts = [gateway.settled(device["id"]) for device in report["devices"]]
    total = {name: sum(account[name] for account in accounts) for name in accounts[0]}
    assert (total["stored"], total["rejected"], total["dropped"]) == (summary["acked"], summary["refused"], 0)
    assert total["duplicate"] > 20


def test_the_gateways_cpu_is_told(tmp_path: Path, gateway: RunningGateway) -> None:
    with simulate(tmp_path, "run", "--url", gateway.ws, "--prefix", "cpu-", "--duration", "1s") as simulation:
        report = simulation.finish(60)
    cpu = report["summary"]["cpu_us_per_reading"]
    assert 0 < cpu["gateway"] < 100_000
    assert 0 < cpu["simulator"] < 100_000


def test_without_acknowledgements_nothing_is_claimed(tmp_path: Path, gateway: RunningGateway) -> None:
    arguments = ["--url", gateway.ws, "--prefix", "none-", "--duration", "1s", "--ack", "none", "--interval", "100ms"]
    with simulate(tmp_path, "run", *arguments) as simulation:
        summary = simulation.finish(60)["summary"]
    assert summary["sent"] > 50
    assert summary["acked"] == summary["outstanding"] == 0
    verify(tmp_path / "report.json", f"sqlite:{gateway.directory}/data.db")


def test_messages_are_refused_while_the_spool_is_full_and_arrive_later(tmp_path: Path) -> None:
    """A database that is away, and room for little: throttled devices keep their readings until there is room."""
    scenario = tmp_path / "blocks.yaml"
    scenario.write_text("groups: [{name: blocks, kind: machine, count: 8}]")
    with Influxd(tmp_path / "influxd") as server:
        influx = {"url": server.url, "api": "v1", "database": server.create_database("late")}
        spool = {"max_bytes": "1MiB", "segment_bytes": "64KiB", "keep_delivered": "0s"}
        with running_gateway(tmp_path / "gateway", {"sink": "influxdb", "influxdb": influx, "spool": spool}) as gateway:
            server.stop()
            arguments = ["--url", gateway.ws, "--scenario", str(scenario), "--interval", "20ms", "--prefix", "full-"]
            with simulate(tmp_path, "run", *arguments) as simulation:
                full = 'gateway_throttles_total{limit="spool_bytes"}'
                wait_for(lambda: gateway.metric(full) > 0, "a full spool", 60)
                simulation.end_readings()
                server.start()
                summary = simulation.finish(100)["summary"]
            verify(tmp_path / "report.json", server.url, "--db", "late", "--wait", "60s")
    assert summary["throttled"]["spool_bytes"] > 0
    assert summary["resent"] > 0


def test_tokens_over_tls(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    over = {"auth": {"mode": "token"}, "server": {"tls": {"certificate": str(certificate), "key": str(key)}}}
    with running_gateway(tmp_path / "gateway", over) as gateway:
        tokens = tmp_path / "tokens.csv"
        added = [(f"dev-{n}", gateway.cli("devices", "add", f"dev-{n}").stdout.strip()) for n in range(2)]
        tokens.write_text("# device,token\n" + "".join(f"{device},{token}\n" for device, token in added))
    with running_gateway(tmp_path / "gateway", over) as gateway:
        options = ["--url", gateway.url, "--ca", str(certificate), "--duration", "1s", "--interval", "100ms"]
        summary = json.loads(command("run", *options, "--tokens", str(tokens), "--json"))
        assert summary["devices"] == 2
        assert summary["acked"] > 10
        tokens.write_text(f"dev-0,{added[1][1]}\n")
        text = command("run", *options, "--tokens", str(tokens), code=1)
    assert "does not accept its credentials" in text


def command(*arguments: str, code: int = 0) -> str:
    """What a command prints on stdout, run in this process."""
    done = CliRunner().invoke(main, [*arguments, *(["--quiet"] if arguments[0] != "verify" else [])])
    assert done.exit_code == code, done.output
    return done.stdout
