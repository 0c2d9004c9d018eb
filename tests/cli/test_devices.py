from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gateway.state.registry import Registry
from tests.support.cli import in_a_process
from tests.support.sqlite_file import failing_transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.cli import Command


@pytest.fixture
def kilns(gateway: Command) -> Command:
    gateway.configure({"profiles": {"kiln": {"measurement": "kiln"}}})
    return gateway


@pytest.fixture
def registry(gateway: Command) -> Iterator[Registry]:
    """What a gateway that runs has open."""
    registry = Registry(gateway.directory / "registry.db")
    registry.refresh()
    yield registry
    registry.close()


def test_add_prints_the_token_and_nothing_else(kilns: Command, registry: Registry) -> None:
    result = kilns("devices", "add", "kiln-7", "--profile", "kiln", "--tag", "site=north", "--tag", "hall=a=b, c")
    assert result.exit_code == 0
    assert result.stderr == ""
    token = result.stdout.removesuffix("\n")
    registry.refresh()
    device = registry.devices.authenticate("kiln-7", token)
    assert device is not None
    assert (device.profile, device.tags) == ("kiln", {"site": "north", "hall": "a=b, c"})


@pytest.mark.parametrize("name", [".", "registry.db"])
def test_a_registry_of_somebody_else_is_named_with_its_owner(gateway: Command, name: str) -> None:
    assert gateway("devices", "add", "a").exit_code == 0
    place = gateway.directory / name
    before = place.stat()
    place.chmod(0o111)
    result = in_a_process("devices", "add", "b", "--config", str(gateway.config), as_others=True)
    place.chmod(before.st_mode)
    assert (result.returncode, result.stdout) == (1, "")
    owner = f"{place} belongs to {place.owner()} (user {before.st_uid}), and this process runs as user {os.geteuid()}\n"
    assert result.stderr.endswith(owner)
    assert result.stderr.startswith(f"gateway: registry {gateway.directory}/registry.db: ")


def test_the_first_device_makes_the_registry_where_the_gateway_looks(gateway: Command) -> None:
    gateway.config.write_text("state: {directory: some/where}\n")
    assert gateway("devices", "add", "a").exit_code == 0
    assert (gateway.directory / "some/where/registry.db").exists()


def test_rotate_prints_the_new_token_and_ends_the_old(gateway: Command, registry: Registry) -> None:
    old = gateway.json("devices", "add", "a")
    assert old == {"id": "a", "token": old["token"]}
    registry.refresh()
    new = gateway("devices", "rotate", "a").stdout.strip()
    assert registry.refresh() == {"a"}
    assert registry.devices.authenticate("a", old["token"]) is None
    assert registry.devices.authenticate("a", new) is not None


def full_disk() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def broken_pipe() -> int:
    reads, writes = os.pipe()
    os.close(reads)
    return writes


@pytest.mark.parametrize(("output", "why"), [(full_disk, "No space left on device"), (broken_pipe, "Broken pipe")])
def test_who_cannot_be_shown_a_token_has_no_new_one_and_is_told(
    gateway: Command, registry: Registry, output: Callable[[], int], why: str
) -> None:
    old = gateway("devices", "add", "a").stdout.strip()
    for arguments in (["add", "b"], ["rotate", "a"]):
        command = [sys.executable, "-m", "gateway", "devices", *arguments, "--config", str(gateway.config)]
        with os.fdopen(output(), "wb") as target:
            done = subprocess.run(command, stdout=target, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert done.stderr == f"gateway: a new token cannot be shown ({why}); nothing was changed\n"
    registry.refresh()
    assert list(registry.devices.ids()) == ["a"]
    assert registry.devices.authenticate("a", old) is not None


def test_a_token_that_was_shown_before_the_registry_failed_is_said_to_be_none(
    gateway: Command, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = gateway("devices", "add", "a").stdout.strip()
    monkeypatch.setattr("gateway.state.registry.transaction", failing_transaction)
    for arguments in (["add", "b"], ["rotate", "a"]):
        result = gateway("devices", *arguments)
        assert result.exit_code == 1
        assert result.stderr.endswith("registry.db: the disk is full; nothing was changed\n")
    monkeypatch.undo()
    registry.refresh()
    assert list(registry.devices.ids()) == ["a"]
    assert registry.devices.authenticate("a", old) is not None


def test_rotate_with_an_overlap_lets_the_old_token_count_for_a_while(gateway: Command, registry: Registry) -> None:
    old = gateway("devices", "add", "a").stdout.strip()
    registry.refresh()
    new = gateway("devices", "rotate", "a", "--overlap", "1h").stdout.strip()
    assert registry.refresh() == frozenset()
    assert gateway.json("devices", "show", "a")["old_token_until"] is not None
    assert registry.devices.authenticate("a", old) is not None
    assert registry.devices.authenticate("a", new) is not None
    for wrong in ("1", "31d", "-1h"):
        assert gateway("devices", "rotate", "a", "--overlap", wrong).exit_code == 2


def test_revoke_ends_access(gateway: Command, registry: Registry) -> None:
    token = gateway("devices", "add", "a").stdout.strip()
    registry.refresh()
    result = gateway("devices", "revoke", "a")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "a is revoked\n")
    assert registry.refresh() == {"a"}
    assert registry.devices.authenticate("a", token) is None
    assert gateway.json("devices", "revoke", "a")["state"] == "revoked"


def test_list_and_show(kilns: Command) -> None:
    kilns("devices", "add", "b", "--profile", "kiln", "--tag", "site=north", "--tag", "x=[red]y")
    kilns("devices", "add", "a")
    kilns("devices", "revoke", "a")
    header, *rows = [line.split() for line in kilns("devices", "list").stdout.splitlines()]
    assert header == ["ID", "PROFILE", "TAGS", "STATE", "REGISTERED"]
    assert [row[:-2] for row in rows] == [
        ["a", "default", "-", "revoked"],
        ["b", "kiln", "site=north", "x=[red]y", "active"],
    ]
    listed = kilns.json("devices", "list")
    assert [device["id"] for device in listed] == ["a", "b"]
    shown = kilns.json("devices", "show", "b")
    assert shown == listed[1]
    assert (shown["tags"], shown["state"]) == ({"site": "north", "x": "[red]y"}, "active")
    assert "tag site" in kilns("devices", "show", "b").stdout
    assert "token_sha" not in kilns("devices", "show", "b").stdout


def test_looking_makes_no_registry(gateway: Command) -> None:
    assert gateway.json("devices", "list") == []
    for command in ("show", "rotate", "revoke"):
        result = gateway("devices", command, "a")
        assert result.exit_code == 1
        assert result.stderr.startswith("gateway: no device is registered yet: there is no ")
    assert not (gateway.directory / "registry.db").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["add", "a"], 1, "gateway: the device a is registered already; rotate gives it a new token"),
        (["add", "b", "--profile", "kilm"], 1, "gateway: the configuration has no profile kilm; it has default, kiln"),
        (["add", "b c"], 1, "gateway: a device id is 1 to 128 of"),
        (["add", "b", "--tag", "device=x"], 1, "gateway: the tag device is written by the gateway"),
        (["add", "b", "--tag", "x"], 2, "expected NAME=VALUE"),
        (["add", "b", "--tag", "x=1", "--tag", "x=2"], 2, "expected NAME=VALUE, each name once"),
        (["add"], 2, "Missing argument 'ID'"),
        (["show", "b"], 1, "gateway: there is no device b"),
        (["rotate", "b"], 1, "gateway: there is no device b"),
        (["revoke", "b"], 1, "gateway: there is no device b"),
    ],
)
def test_what_cannot_be_done_is_said(kilns: Command, arguments: list[str], code: int, words: str) -> None:
    kilns("devices", "add", "a")
    result = kilns("devices", *arguments)
    assert result.exit_code == code
    assert result.stdout == ""
    assert words in result.stderr
    assert [device["id"] for device in kilns.json("devices", "list")] == ["a"]


def test_a_registry_that_is_none_is_said(gateway: Command) -> None:
    (gateway.directory / "registry.db").write_text("x" * 4096)
    for command in (["list"], ["show", "a"], ["add", "a"]):
        result = gateway("devices", *command)
        assert result.exit_code == 1
        assert "file is not a database" in result.stderr
