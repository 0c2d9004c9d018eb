from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from devices_sim.cli.options import read_tokens
from gateway.state.registry import Registry
from tests.support.sqlite_file import failing_transaction

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.cli import Command

TOKEN = "a-token-of-32-printable-letters!"


@pytest.fixture
def kilns(gateway: Command) -> Command:
    gateway.configure({"profiles": {"kiln": {"measurement": "kiln"}}})
    return gateway


def let_in(directory: Path, device: str, token: str) -> bool:
    registry = Registry(directory / "registry.db")
    try:
        return registry.devices.authenticate(device, token) is not None
    finally:
        registry.close()


def test_a_table_is_registered_and_its_new_tokens_are_written_once_for_their_owner(
    kilns: Command, tmp_path: Path
) -> None:
    (tmp_path / "fleet.csv").write_text(
        f"id,profile,tag:site,token,state\na,kiln,north,,\nb,,,{TOKEN},\nc,,,,revoked\n"
    )
    result = kilns("devices", "import", "fleet.csv", "--output", "tokens.csv")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "3 devices are registered, 1 of them with a new token\n"
    assert (tmp_path / "tokens.csv").stat().st_mode & 0o777 == 0o600
    tokens = read_tokens(tmp_path / "tokens.csv")
    assert list(tokens) == ["a"]
    assert let_in(tmp_path, "a", tokens["a"])
    assert let_in(tmp_path, "b", TOKEN)
    shown = {device["id"]: (device["profile"], device["state"]) for device in kilns.json("devices", "list")}
    assert shown == {"a": ("kiln", "active"), "b": ("default", "active"), "c": ("default", "revoked")}
    everything = b"".join(file.read_bytes() for file in tmp_path.glob("registry.db*"))
    assert TOKEN.encode() not in everything


def test_without_an_output_tokens_are_printed(kilns: Command, tmp_path: Path) -> None:
    (tmp_path / "fleet.csv").write_text("id\na\nb\n")
    header, *rows = csv.reader(kilns("devices", "import", "fleet.csv").stdout.splitlines())
    assert header == ["id", "token"]
    assert [let_in(tmp_path, *row) for row in rows] == [True, True]


def test_who_cannot_be_told_the_tokens_has_no_devices(kilns: Command, tmp_path: Path) -> None:
    (tmp_path / "fleet.csv").write_text("id\na\nb\n")
    kilns("devices", "list")
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "-m", "gateway", "devices", "import", "fleet.csv", "--config", str(kilns.config)]
    result = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(writes)
    assert result.returncode == 1
    assert result.stderr == "gateway: a new token cannot be shown (Broken pipe); nothing was changed\n"
    assert kilns.json("devices", "list") == []


def test_a_table_with_a_problem_registers_nothing(kilns: Command, tmp_path: Path) -> None:
    kilns("devices", "add", "there")
    (tmp_path / "fleet.csv").write_text("id,profile\na,kiln\nthere,\nb c,oven\n")
    result = kilns("devices", "import", "fleet.csv", "--output", "tokens.csv")
    assert (result.exit_code, result.stdout) == (1, "")
    assert [line.partition(": ")[0] for line in result.stderr.splitlines()] == [
        "fleet.csv, line 3",
        *["fleet.csv, line 4"] * 2,
        "nothing was imported",
    ]
    assert [device["id"] for device in kilns.json("devices", "list")] == ["there"]
    assert not (tmp_path / "tokens.csv").exists()


def test_an_output_that_is_there_is_left_alone_and_nothing_registered(kilns: Command, tmp_path: Path) -> None:
    (tmp_path / "fleet.csv").write_text("id\na\n")
    (tmp_path / "tokens.csv").write_text("precious")
    result = kilns("devices", "import", "fleet.csv", "--output", "tokens.csv")
    assert result.exit_code == 1
    assert (tmp_path / "tokens.csv").read_text() == "precious"
    assert kilns.json("devices", "list") == []


def test_a_registry_that_fails_at_the_end_leaves_no_tokens_behind(
    kilns: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fleet.csv").write_text("id\na\n")
    monkeypatch.setattr("gateway.state.registry.transaction", failing_transaction)
    result = kilns("devices", "import", "fleet.csv", "--output", "tokens.csv")
    assert result.exit_code == 1
    assert "the disk is full" in result.stderr
    monkeypatch.undo()
    assert not (tmp_path / "tokens.csv").exists()
    assert kilns.json("devices", "list") == []


def test_what_is_exported_can_be_imported_elsewhere_and_holds_no_token(kilns: Command, tmp_path: Path) -> None:
    token = kilns("devices", "add", "a", "--profile", "kiln", "--tag", "site==1+1").stdout.strip()
    kilns("devices", "add", "--", "-b")
    kilns("devices", "revoke", "--", "-b")
    assert kilns("devices", "export", "--output", "fleet.csv").exit_code == 0
    text = (tmp_path / "fleet.csv").read_text()
    assert text == kilns("devices", "export").stdout
    assert token not in text
    assert ",'=1+1" in text
    before = kilns.json("devices", "list")
    (tmp_path / "registry.db").unlink()
    assert kilns("devices", "import", "fleet.csv").exit_code == 0
    after = kilns.json("devices", "list")
    assert [(d["id"], d["profile"], d["tags"], d["state"]) for d in after] == [
        (d["id"], d["profile"], d["tags"], d["state"]) for d in before
    ]


def test_a_hundred_thousand_devices_are_imported(kilns: Command, tmp_path: Path) -> None:
    with (tmp_path / "fleet.csv").open("w") as file:
        file.write("id,profile,tag:site\n")
        file.writelines(f"device-{n},kiln,north\n" for n in range(100_000))
    begun = time.process_time()
    result = kilns("devices", "import", "fleet.csv", "--output", "tokens.csv")
    print(f"{time.process_time() - begun:.1f} s of CPU for 100,000 devices")
    assert result.exit_code == 0
    assert (tmp_path / "tokens.csv").read_text().count("\n") == 100_001
