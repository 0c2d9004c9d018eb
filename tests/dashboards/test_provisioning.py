"""The files that Grafana reads at its start: the data sources of the dashboards, and where the dashboards are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2] / "dashboards"
SOURCES = sorted((ROOT / "provisioning" / "datasources").glob("*.yaml"))
PROVIDERS = sorted((ROOT / "provisioning" / "dashboards").glob("*.yaml"))
DASHBOARDS = {path.name: json.loads(path.read_text()) for path in ROOT.glob("*.json")}


def sources(path: Path) -> list[dict[str, Any]]:
    document = yaml.safe_load(path.read_text())
    assert document["apiVersion"] == 1
    return list(document["datasources"])


def named(dashboard: dict[str, Any]) -> set[tuple[str, str]]:
    """Type and uid of the data sources that a dashboard opens with."""
    variables = dashboard["templating"]["list"]
    return {(v["query"], v["current"]["value"]) for v in variables if v["type"] == "datasource"}


def test_every_data_source_of_a_dashboard_is_there_and_each_is_used() -> None:
    given = {(source["type"], source["uid"]) for path in SOURCES for source in sources(path)}
    assert set().union(*map(named, DASHBOARDS.values())) == given
    assert all(map(named, DASHBOARDS.values()))


def test_panels_and_variables_use_the_variable_that_names_the_source() -> None:
    for dashboard in DASHBOARDS.values():
        variables = dashboard["templating"]["list"]
        names = {(v["query"], f"${{{v['name']}}}") for v in variables if v["type"] == "datasource"}
        users = [*dashboard["panels"], *(v for v in variables if v["type"] == "query")]
        users += [target for panel in dashboard["panels"] for target in panel["targets"] if "datasource" in target]
        assert {(user["datasource"]["type"], user["datasource"]["uid"]) for user in users} == names


@pytest.mark.parametrize("version", [1, 2, 3])
def test_each_influxdb_is_queried_in_influxql(version: int) -> None:
    (source,) = sources(ROOT / "provisioning" / "datasources" / f"influxdb{version}.yaml")
    assert source["uid"] == "telemetry-influxdb"
    assert source["jsonData"]["version"] == "InfluxQL"
    assert source["jsonData"]["dbName"]
    header = source["jsonData"].get("httpHeaderName1")
    assert (header, "user" in source) == ((None, True) if version == 1 else ("Authorization", False))
    secret = source["secureJsonData"]
    scheme = {1: "", 2: "Token ", 3: "Bearer "}[version]
    assert secret == (
        {"password": "${INFLUXDB_PASSWORD}"} if version == 1 else {"httpHeaderValue1": scheme + "${INFLUXDB_TOKEN}"}
    )


def test_grafana_looks_for_dashboards_where_the_readme_puts_them() -> None:
    (path,) = PROVIDERS
    (provider,) = yaml.safe_load(path.read_text())["providers"]
    assert provider["type"] == "file"
    readme = (ROOT / "README.md").read_text()
    assert f":{provider['options']['path']}:ro" in readme
    for variable in re.findall(r"\$\{(\w+)\}", "".join(source.read_text() for source in SOURCES)):
        assert variable in readme


def test_no_uid_and_no_panel_is_there_twice() -> None:
    uids = [dashboard["uid"] for dashboard in DASHBOARDS.values()]
    assert len(set(uids)) == len(uids) == 3
    for dashboard in DASHBOARDS.values():
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert len(set(ids)) == len(ids)
        for panel in dashboard["panels"]:
            refs = [target.get("refId") for target in panel["targets"]]
            assert len(set(refs)) == len(refs)
