from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from gateway.cli import cli
from gateway.config.json_schema import json_schema

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.cli import Command


def test_the_values_that_count_are_shown_with_where_they_were_set(gateway: Command, tmp_path: Path) -> None:
    (tmp_path / "viewer_token").write_text("viewer-token-in-a-file")
    gateway.config.write_text("keepalive:\n  timeout: 90s\nauth: {admin_token: admin-token-in-yaml}\n")
    environ = {"GATEWAY_BATCH__MAX_AGE": "2s", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    result = gateway("check-config", environ=environ)
    assert result.exit_code == 0
    rows = {line.split()[0]: line.rstrip().split(maxsplit=2)[1:] for line in result.stdout.splitlines()}
    assert rows["keepalive.timeout"] == ["90s", "config.yaml line 2"]
    assert rows["keepalive.ping_interval"] == ["20s", "default"]
    assert rows["batch.max_age"] == ["2s", "GATEWAY_BATCH__MAX_AGE"]
    assert rows["auth.admin_token"] == ["**********", "config.yaml line 3"]
    assert rows["auth.viewer_token"] == ["**********", "credential viewer_token"]
    assert rows["influxdb.token"] == ["-", "default"]
    assert rows["state.directory"] == [str(tmp_path / "data"), "default"]
    assert "token-in" not in result.output
    assert result.stderr == f"{gateway.config} is good.\n"


def test_the_values_as_json(gateway: Command) -> None:
    gateway.configure({"auth": {"admin_token": "admin-token-in-yaml"}, "spool": {"max_bytes": "2GiB"}})
    values = gateway.json("check-config")
    assert values["auth"]["admin_token"] == "**********"
    assert values["auth"]["viewer_token"] is None
    assert values["spool"]["max_bytes"] == "2GiB"
    assert values["server"]["listen"] == "127.0.0.1:8080"


@pytest.mark.parametrize("command", ["check-config", "devices list", "dead-letters list", "spool status", "run"])
def test_every_command_tells_all_problems_and_exits_with_2(gateway: Command, command: str) -> None:
    gateway.config.write_text("sink: influxdb\nkeepalive: {timeout: 1}\ninfluxdb: {org: ''}\n")
    result = gateway(*command.split())
    assert result.exit_code == 2
    assert result.stdout == ""
    found = [line.split(": ")[0] for line in result.stderr.splitlines()]
    assert found[:2] == ["keepalive.timeout", "influxdb.org"]


@pytest.mark.parametrize("command", ["check-config", "run", "dead-letters replay"])
@pytest.mark.parametrize(
    ("influxdb", "secret"), [({"api": "v2"}, "token"), ({"api": "v1", "username": "writer"}, "password")]
)
def test_who_writes_to_the_database_is_asked_for_its_secrets(
    gateway: Command, command: str, influxdb: dict[str, str], secret: str
) -> None:
    gateway.configure({"sink": "influxdb", "influxdb": influxdb})
    result = gateway(*command.split())
    assert result.exit_code == 2
    assert result.stderr.startswith(f"influxdb.{secret}: needed ")
    assert f"a credential influxdb_{secret}" in result.stderr


@pytest.mark.parametrize(
    "command", ["devices add kiln-7", "devices list", "dead-letters list", "spool status", "types list"]
)
def test_who_does_not_need_not_know_them(gateway: Command, command: str) -> None:
    gateway.configure({"sink": "influxdb", "influxdb": {"api": "v2"}})
    assert gateway(*command.split()).exit_code == 0


@pytest.mark.parametrize("command", ["check-config", "run"])
def test_tls_files_that_are_missing_are_told_with_all_other_problems(gateway: Command, command: str) -> None:
    tls = {"certificate": "nowhere.pem", "key": "nowhere.key"}
    gateway.configure({"server": {"tls": tls}, "keepalive": {"timeout": "1s"}})
    result = gateway(*command.split())
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert [line.split(": ")[0] for line in lines] == ["keepalive.timeout", "server.tls.certificate", "server.tls.key"]
    assert f"{gateway.config.parent}/nowhere.pem cannot be read: No such file or directory" in lines[1]
    assert not list(gateway.config.parent.glob("*/*"))


def test_who_may_not_read_the_key_may_register_devices(gateway: Command) -> None:
    gateway.configure({"server": {"tls": {"certificate": "nowhere.pem", "key": "nowhere.key"}}})
    assert gateway("devices", "add", "kiln-7").exit_code == 0


def test_a_missing_file_is_named(gateway: Command, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["check-config", "--config", str(tmp_path / "nowhere.yaml")])
    assert result.exit_code == 2
    assert result.stderr == f"{tmp_path}/nowhere.yaml: No such file or directory\n"


def test_without_a_file_the_defaults_count_and_that_is_said(gateway: Command) -> None:
    result = CliRunner().invoke(cli, ["check-config"])
    assert result.exit_code == 0
    assert result.stderr.startswith("neither ./config.yaml nor /etc/telemetry-gateway/config.yaml exists")
    gateway.config.write_text("sink: sqlite\n")
    assert CliRunner().invoke(cli, ["check-config"]).stderr == "config.yaml is good.\n"


def test_the_schema_is_printed(gateway: Command) -> None:
    assert json.loads(gateway("config-schema").stdout) == json_schema()
    assert CliRunner().invoke(cli, ["config-schema", "--json"]).stdout == gateway("config-schema").stdout
