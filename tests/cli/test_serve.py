from __future__ import annotations

import signal
import socket
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import in_a_process
from tests.support.gateway import running_gateway, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.cli import Command

READING = b'{"temp":1.5}'


def test_run_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as running:
        assert running.request("/healthz")[0] == 200
        assert running.stop(signal.SIGTERM) == 0
        assert f"INFO     gateway.app: listening on {running.url}" in running.log


def test_a_gateway_that_runs_sees_what_the_commands_change(tmp_path: Path) -> None:
    with running_gateway(tmp_path, {"auth": {"mode": "token"}}) as running:
        added = running.cli("devices", "add", "kiln-7")
        assert (added.returncode, added.stderr) == (0, "")
        token = added.stdout.strip()

        def answer() -> int:
            return running.request("/v1/devices/kiln-7/readings", body=READING, token=token)[0]

        wait_for(lambda: answer() == 200, "the new device to be known", 3)
        assert running.cli("devices", "revoke", "kiln-7").returncode == 0
        wait_for(lambda: answer() == 401, "the revoked device to be refused", 3)
        new = running.cli("devices", "rotate", "kiln-7").stdout.strip()
        assert answer() == 401
        token = new
        wait_for(lambda: answer() == 200, "the device to be let in again", 3)
        assert running.cli("spool", "verify").returncode == 0
        assert running.stop(signal.SIGINT) == 0


def test_an_address_that_is_taken_is_said_in_one_line(gateway: Command) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        gateway.configure({"server": {"listen": listen}})
        result = in_a_process("run", "--config", str(gateway.config))
    assert result.returncode == 1
    assert f"cannot serve: server.listen: {listen}: Address already in use; stop what listens there" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("setting", ["state", "spool"])
def test_a_directory_that_cannot_be_made_is_said_with_its_setting(
    gateway: Command, tmp_path: Path, setting: str
) -> None:
    file = tmp_path / "file"
    file.touch()
    for path, reason in ((file, "is no directory"), (file / "below", "cannot be made: Not a directory")):
        gateway.configure({"server": {"listen": "127.0.0.1:0"}, setting: {"directory": str(path)}})
        result = in_a_process("run", "--config", str(gateway.config))
        assert result.returncode == 1
        assert f"cannot serve: {setting}.directory: {path} {reason}" in result.stderr
