from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

import gateway as package
from gateway.cli import cli
from tests.support.cli import in_a_process

if TYPE_CHECKING:
    from collections.abc import Iterator


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, with the words that lead to it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


EVERY = dict(commands(cli))


def test_these_are_the_commands() -> None:
    assert {" ".join(path) for path in EVERY} == {
        "run",
        "demo",
        "check-config",
        "config-schema",
        "devices add",
        "devices list",
        "devices show",
        "devices rotate",
        "devices revoke",
        "devices approve",
        "devices refuse",
        "devices import",
        "devices export",
        "dead-letters list",
        "dead-letters show",
        "dead-letters replay",
        "dead-letters drop",
        "spool status",
        "spool verify",
        "spool dump",
        "backup",
        "restore",
        "types list",
        "types forget",
        "why",
    }


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_every_command_has_an_example_and_the_common_options(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli, [*path, "--help"])
    assert result.exit_code == 0
    assert f"Example:  gateway {' '.join(path)}" in result.stdout
    assert "--config FILE" in result.stdout
    if path[0] not in {"run", "demo"} and path[-1] not in {"import", "export"}:  # those are CSV
        assert "--json" in result.stdout


@pytest.mark.parametrize("group", sorted({path[0] for path in EVERY if len(path) > 1}))
def test_every_group_has_an_example_of_one_of_its_commands(group: str) -> None:
    (line,) = [line for line in CliRunner().invoke(cli, [group, "--help"]).stdout.splitlines() if "Example:" in line]
    words = line.split()
    assert words[:3] == ["Example:", "gateway", group]
    assert (group, words[3]) in EVERY


def test_an_unknown_command_is_wrong_usage() -> None:
    result = CliRunner().invoke(cli, ["devcies"])
    assert result.exit_code == 2
    assert "No such command 'devcies'" in result.stderr


def test_the_module_is_the_command() -> None:
    answer = in_a_process("--version")
    assert answer.stdout == f"gateway, version {package.__version__}\n"


def test_registering_a_device_does_not_wait_for_the_server_and_the_databases() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from gateway.cli import cli;"
        "CliRunner().invoke(cli, ['devices', 'add', '--help']);"
        "print(sorted({'tornado', 'influxdb_client', 'gateway.app', 'gateway.process.run'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert answer.stdout == "[]\n"


def test_a_reader_that_has_seen_enough_causes_no_traceback() -> None:
    command = f"{sys.executable} -m gateway config-schema | head -c 10"
    answer = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30, check=True)
    assert answer.stdout == '{\n  "$defs'
    assert answer.stderr == ""
