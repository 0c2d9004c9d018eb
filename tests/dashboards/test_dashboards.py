"""The files for Prometheus and Grafana pass promtool's checks, and every metric and query in them exists."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.support.device import device
from tests.support.gateway import running_gateway
from tests.support.servers import Influxd, binary

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2] / "dashboards"
ALERT_TESTS = Path(__file__).with_name("alerts_test.yml")
NAME = re.compile(r"\b(?:gateway|process)[_:][a-z0-9_:]+")
MADE_BY_PROMETHEUS = {"up"}
APPEAR_WITH_A_LABEL = {"gateway_write_errors_total"}
VARIABLES = {
    "$__interval": "1m",
    "$timeFilter": "time > 0",
    "$measurement": "telemetry",
    "$field": "temp",
    "$device": ".*",
}


def rules(file: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((ROOT / file).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def targets(file: str) -> Iterator[dict[str, Any]]:
    for panel in json.loads((ROOT / file).read_text())["panels"]:
        yield from panel["targets"]


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Every sample name that a gateway shows, or would show with its first label."""
    with running_gateway(tmp_path_factory.mktemp("metrics")) as gateway:
        _, text = gateway.request("/metrics")
    found = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    assert {"gateway_ready", "gateway_ack_seconds_bucket"} <= found
    return found | APPEAR_WITH_A_LABEL


@pytest.mark.server
def test_promtool_finds_no_fault() -> None:
    done = subprocess.run(
        [binary("promtool", "prometheus"), "check", "rules", *map(str, ROOT.glob("*.yml"))],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.server
def test_each_alert_comes_when_it_should_and_not_before() -> None:
    command = [binary("promtool", "prometheus"), "test", "rules", str(ALERT_TESTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_tested() -> None:
    """Each alert has a gateway of its own that raises it, beside a healthy one that does not."""
    (group,) = yaml.safe_load(ALERT_TESTS.read_text())["tests"]
    found = {test["alertname"]: test["exp_alerts"] for test in group["alert_rule_test"]}
    assert found.keys() == {rule["alert"] for rule in rules("alerts.yml")}
    instances = [alert["exp_labels"]["instance"] for alerts in found.values() for alert in alerts]
    assert len(set(instances)) == len(instances) == len(found)
    healthy = [each["series"] for each in group["input_series"] if 'instance="gw:8080"' in each["series"]]
    assert {name.partition("{")[0] for name in healthy} >= {"up", "gateway_ready", "gateway_spool_bytes"}


def test_each_alert_says_how_bad_it_is_and_what_to_do() -> None:
    for rule in rules("alerts.yml"):
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert all(len(rule["annotations"][name]) > 15 for name in ("summary", "description"))


def test_every_metric_in_rules_alerts_and_the_dashboard_exists(metrics: set[str]) -> None:
    recorded = {rule["record"] for rule in rules("rules.yml")}
    expressions = [rule["expr"] for file in ("rules.yml", "alerts.yml") for rule in rules(file)]
    expressions += [target["expr"] for target in targets("gateway.json")]
    used = {name for expression in expressions for name in NAME.findall(expression)}
    assert len(used) > 25
    assert used - metrics - recorded - MADE_BY_PROMETHEUS == set()


@pytest.mark.server
def test_the_dashboards_expressions_are_promql(tmp_path: Path) -> None:
    expressions = [target["expr"] for target in targets("gateway.json")]
    made = [
        {"record": f"panel:{n}", "expr": expression.replace("$__rate_interval", "5m").replace("$instance", ".*")}
        for n, expression in enumerate(expressions)
    ]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": made}]}))
    command = [binary("promtool", "prometheus"), "check", "rules", str(tmp_path / "panels.yml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_panel_of_the_devices_shows_what_a_gateway_wrote(tmp_path: Path, influxd: Influxd) -> None:
    database = influxd.create_database()
    influx = {"url": influxd.url, "api": "v1", "database": database}
    with running_gateway(tmp_path, {"sink": "influxdb", "influxdb": influx}) as gateway:
        with device(gateway, "kiln-1") as socket:
            socket.send('{"seq":1,"temp":21.5}')
            socket.recv(timeout=10)
        gateway.settled("kiln-1")
        assert gateway.stop() == 0
    queries = [target["query"] for target in targets("devices.json")]
    variables = json.loads((ROOT / "devices.json").read_text())["templating"]["list"]
    queries += [variable["query"] for variable in variables if variable["type"] == "query"]
    for query in queries:
        for name, value in VARIABLES.items():
            query = query.replace(name, value)  # noqa: PLW2901
        if "fill(" in query or "GROUP BY time" in query:
            query = query.replace("time > 0", "time > now() - 10m")  # noqa: PLW2901
        assert influxd.query(query, database), query


@pytest.mark.parametrize("file", ["gateway.json", "devices.json", "fleet.json"])
def test_a_dashboard_can_be_imported(file: str) -> None:
    dashboard = json.loads((ROOT / file).read_text())
    assert dashboard["uid"]
    assert dashboard["title"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids) > 4
    names = {variable["name"] for variable in dashboard["templating"]["list"]}
    sources = {panel["datasource"]["uid"] for panel in dashboard["panels"]}
    assert {source.strip("${}") for source in sources} <= names
    taken = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in dashboard["panels"]]
    assert len(set(taken)) == len(taken)
    assert all(p["gridPos"]["x"] + p["gridPos"]["w"] <= 24 for p in dashboard["panels"])
