"""Simulated devices, a real gateway and each of the three databases: everything acknowledged arrives, once.

The number of devices and the duration are small enough for every change; the full size is one command away:
``GATEWAY_E2E_DEVICES=1000 GATEWAY_E2E_SECONDS=60 pytest tests/e2e/test_whole_path.py -s``.
"""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.gateway import RunningGateway, running_gateway, wait_for
from tests.support.servers import Influxd, VictoriaMetrics
from tests.support.simulator import Simulation, simulate, verify

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

DEVICES = int(os.environ.get("GATEWAY_E2E_DEVICES", "300"))
SECONDS = int(os.environ.get("GATEWAY_E2E_SECONDS", "8"))
DRAIN_SECONDS = 60


def assert_ledger_is_exact(gateway: RunningGateway, report: dict[str, Any]) -> None:
    """Nothing pends, not in the accounts and not in the spool, and together they are what the simulator had acked."""
    accounts = list(gateway.accounts().values())
    total = {name: sum(sums[name] for sums in accounts) for name in accounts[0]}
    print(json.dumps({"devices": len(accounts), "ledger": total, "simulator": summary(report)}))
    assert total["pending"] == total["dropped"] == total["rejected"] == 0
    assert total["stored"] == summary(report)["acked"]


def summary(report: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in report["summary"].items() if not isinstance(value, list | dict)}


def run_fleet(gateway: RunningGateway, directory: Path, *arguments: str) -> dict[str, Any]:
    options = ("--devices", str(DEVICES), "--interval", "1s", "--duration", f"{SECONDS}s", *arguments)
    with simulate(directory, "run", "--url", gateway.ws, *options) as simulation:
        report = simulation.finish(SECONDS + DRAIN_SECONDS)
    wait_for(lambda: gateway.pending() == 0, "everything to be delivered", DRAIN_SECONDS)
    return report


@pytest.mark.parametrize("ack", ["durable", "stored"])
def test_a_fleet_into_sqlite(tmp_path: Path, ack: str) -> None:
    with running_gateway(tmp_path / "gateway") as gateway:
        report = run_fleet(gateway, tmp_path, "--ack", ack)
        assert_ledger_is_exact(gateway, report)
        assert gateway.stop() == 0
    verify(tmp_path / "report.json", f"sqlite:{tmp_path}/gateway/data.db")


def influxdb(server: Influxd, database: str) -> dict[str, Any]:
    return {"sink": "influxdb", "influxdb": {"url": server.url, "api": "v1", "database": database}}


def test_a_fleet_into_influxdb(tmp_path: Path, influxd: Influxd) -> None:
    database = influxd.create_database()
    with running_gateway(tmp_path / "gateway", influxdb(influxd, database)) as gateway:
        report = run_fleet(gateway, tmp_path)
        assert_ledger_is_exact(gateway, report)
    verify(tmp_path / "report.json", influxd.url, "--db", database)


def test_a_fleet_into_victoria_metrics(tmp_path: Path, victoria_metrics: VictoriaMetrics) -> None:
    influx = {"url": victoria_metrics.url, "api": "v2", "org": "o", "bucket": "b", "token": "t"}
    with running_gateway(tmp_path / "gateway", {"sink": "influxdb", "influxdb": influx}) as gateway:
        report = run_fleet(gateway, tmp_path, "--prefix", "vm-fleet-")
        assert_ledger_is_exact(gateway, report)
    verify(tmp_path / "report.json", f"victoria-metrics:{victoria_metrics.url}")


def fleet(gateway: RunningGateway, directory: Path, devices: int, interval: str) -> AbstractContextManager[Simulation]:
    options = ("--devices", str(devices), "--interval", interval, "--duration", f"{SECONDS}s")
    return simulate(directory, "run", "--url", gateway.ws, *options)


def test_the_database_goes_away_in_the_middle_of_a_run(tmp_path: Path) -> None:
    """Devices are acknowledged all the same, the operator is told why nothing arrives, and it all arrives later."""
    with (
        Influxd(tmp_path / "influxd") as server,
        running_gateway(tmp_path / "gateway", influxdb(server, server.create_database("telemetry"))) as gateway,
        fleet(gateway, tmp_path, 50, "200ms") as simulation,
    ):
        wait_for(lambda: server.query("SHOW MEASUREMENTS", "telemetry"), "the first points")
        server.stop()
        state = wait_for(lambda: (s := gateway.request("/readyz"))[1]["warnings"] and s, "the outage to be noticed")
        assert state[0] == 200, "readings are still taken"
        assert "InfluxDB" in state[1]["warnings"][0]
        assert state[1]["database"]["state"] == "retrying"
        assert "WARNING" in gateway.log
        report = simulation.finish(SECONDS + DRAIN_SECONDS)
        assert gateway.pending() > 0
        server.start()
        wait_for(lambda: gateway.pending() == 0, "everything to be delivered", DRAIN_SECONDS)
        assert gateway.request("/readyz")[1]["warnings"] == []
        assert_ledger_is_exact(gateway, report)
        verify(tmp_path / "report.json", server.url, "--db", "telemetry")


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_the_gateway_goes_away_in_the_middle_of_a_run(tmp_path: Path, ending: signal.Signals) -> None:
    """The devices go on with the next process; what was acknowledged by the first is there, once."""
    with running_gateway(tmp_path / "gateway") as first, fleet(first, tmp_path, 100, "100ms") as simulation:
        wait_for(lambda: first.request("/v1/devices?limit=1")[1]["total"] == 100, "all devices to connect")
        wait_for(lambda: first.pending() > 0, "readings on their way")
        ended = first.stop(ending)
        if ending == signal.SIGTERM:
            assert ended == 0, "a clean stop within the grace time"
            assert "Traceback" not in first.log
        port = first.url.rpartition(":")[2]
        with running_gateway(tmp_path / "gateway", {"server": {"listen": f"127.0.0.1:{port}"}}) as second:
            report = simulation.finish(SECONDS + DRAIN_SECONDS)
            assert summary(report)["reconnects"] >= 100
            wait_for(lambda: second.pending() == 0, "everything to be delivered")
            assert_ledger_is_exact(second, report)
    verify(tmp_path / "report.json", f"sqlite:{tmp_path}/gateway/data.db")
