from __future__ import annotations

from typing import Any

import pytest

from gateway.config import load
from gateway.config.checks import conflicts, missing_secrets
from gateway.config.model import Config

INFLUX = {"token": "t"}


def found(**sections: Any) -> list[str]:
    config = Config(**sections)
    return [f"{'.'.join(found.paths[0])}: {found.text}" for found in (*conflicts(config), *missing_secrets(config))]


def test_the_defaults_have_none() -> None:
    assert found() == []


def test_open_mode_is_for_this_machine_unless_it_is_meant() -> None:
    mode = {"mode": "open"}
    assert found(auth=mode) == []
    assert found(auth=mode, server={"listen": "[::1]:1"}) == []
    (problem,) = found(auth=mode, server={"listen": "0.0.0.0:8080"})
    assert problem.startswith("auth.mode: open lets every machine that can reach 0.0.0.0:8080")
    assert "server.allow_open_network: true" in problem
    assert found(auth=mode, server={"listen": "0.0.0.0:8080", "allow_open_network": True}) == []
    assert found(server={"listen": "0.0.0.0:8080"}) == []


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        ({"server": {"tls": {"certificate": "c"}}}, "server.tls.key: needed together with server.tls.certificate"),
        ({"server": {"tls": {"key": "k"}}}, "server.tls.certificate: needed together with server.tls.key"),
        ({"server": {"tls": {"client_ca": "a"}}}, "server.tls.certificate: needed together with server.tls.client_ca"),
        (
            {"profiles": {"kiln": {"client_ca": "a"}}},
            "server.tls.certificate: needed together with profiles.kiln.client_ca: without TLS no device can show",
        ),
        ({"auth": {"enrol": "approve", "mode": "open"}}, "auth.enrol: with auth.mode: open every device may connect"),
        ({"keepalive": {"timeout": "20s"}}, "keepalive.timeout: must be longer than keepalive.ping_interval (20s)"),
        (
            {"auth": {"admin_token": "the-same-for-both", "viewer_token": "the-same-for-both"}},
            "auth.viewer_token: equals the admin token",
        ),
        ({"sink": "influxdb"}, "influxdb.token: needed for sink: influxdb with api: v2, as GATEWAY_INFLUXDB__TOKEN"),
        ({"sink": "influxdb", "influxdb": {"token": ""}}, "influxdb.token: needed"),
        ({"sink": "influxdb", "influxdb": {**INFLUX, "bucket": None}}, "influxdb.bucket: needed"),
        ({"sink": "influxdb", "influxdb": {**INFLUX, "org": ""}}, "influxdb.org: needed"),
        ({"sink": "influxdb", "influxdb": {**INFLUX, "url": None}}, "influxdb.url: needed"),
        ({"sink": "influxdb", "influxdb": {"api": "v1", "database": ""}}, "influxdb.database: needed"),
        (
            {"sink": "influxdb", "influxdb": {"api": "v1", "username": "u"}},
            "influxdb.password: needed together with influxdb.username",
        ),
        (
            {"sink": "influxdb", "influxdb": {"api": "v1", "password": "p"}},
            "influxdb.username: needed together with influxdb.password",
        ),
    ],
)
def test_each_conflict_is_told_at_the_setting_to_change(sections: dict[str, Any], problem: str) -> None:
    (text,) = found(**sections)
    assert text.startswith(problem)


def test_influxdb_is_one_or_two_settings_away() -> None:
    assert load(None, {"GATEWAY_SINK": "influxdb", "GATEWAY_INFLUXDB__TOKEN": "t"}).influxdb.bucket == "telemetry"
    assert load(None, {"GATEWAY_SINK": "influxdb", "GATEWAY_INFLUXDB__API": "v1"}).influxdb.database == "telemetry"
