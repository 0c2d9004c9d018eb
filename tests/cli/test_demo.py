from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.cli import in_a_process
from tests.support.gateway import wait_for
from tests.support.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Iterator

DEVICES = 3


@contextmanager
def demo(directory: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A demo in a process group of its own, as a terminal has one for it, and the file with what it prints."""
    output = directory / "output"
    command = [sys.executable, "-m", "gateway", "demo", "--devices", str(DEVICES), "--listen", "127.0.0.1:0"]
    with output.open("wb") as out:
        process = subprocess.Popen(
            [*command, *arguments],
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "TMPDIR": str(directory), "GATEWAY_SINK": "influxdb"},
        )
    try:
        yield process, output
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def printed(process: subprocess.Popen[bytes], output: Path, pattern: str) -> re.Match[str]:
    def look() -> re.Match[str] | None:
        text = output.read_text()
        assert process.poll() is None, text
        return re.search(pattern, text)

    found: re.Match[str] = wait_for(look, f"the demo to print {pattern}", 30)
    return found


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    return json.loads(text) if text.startswith("{") else text


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def delivering(url: str) -> bool:
    devices = get(f"{url}/v1/devices")["devices"]
    return len(devices) == DEVICES and all(device["ledger"]["stored"] > 0 for device in devices)


def days_back(db: sqlite3.Connection) -> float:
    (first,) = db.execute("SELECT MIN(time_ns) FROM readings").fetchone()
    days: float = (time.time() - first / 1e9) / 86_400
    return round(days, 2)


def test_the_past_is_left_out_on_request(tmp_path: Path) -> None:
    with demo(tmp_path, "--history", "0s", "--data", str(tmp_path / "data")) as (process, output):
        url = printed(process, output, r"listens on (\S+) ")[1]
        wait_for(lambda: delivering(url), "all devices to have stored readings")
        assert "begin with" not in output.read_text()
        with closing(sqlite3.connect(tmp_path / "data" / "telemetry.db")) as db:
            assert days_back(db) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_shows_simulated_devices_until_it_is_ended(tmp_path: Path, number: signal.Signals) -> None:
    data = tmp_path / "data"
    with demo(tmp_path, "--data", str(data)) as (process, output):
        url = printed(process, output, r"The gateway listens on (http://127\.0\.0\.1:\d+)")[1]
        query = printed(process, output, r'sqlite3 (\S+) "(SELECT .*)"')
        printed(process, output, r"Ctrl-C ends it")
        for path in re.findall(rf"{url}(/\S+)", output.read_text()):
            assert get(url + path)
        wait_for(lambda: delivering(url), "all devices to have stored readings")
        with closing(sqlite3.connect(query[1])) as db:
            assert len(db.execute(query[2]).fetchall()) == 10
            assert days_back(db) == 3
        assert get(f"{url}/v1/devices")["units"]["default"]["temp"] == "°C"
        (simulator,) = children(process.pid)
        if number is signal.SIGINT:
            os.killpg(process.pid, number)  # what a terminal does
        else:
            process.send_signal(number)
        assert process.wait(20) == 0
        assert not Path(f"/proc/{simulator}").exists()
        assert "exit code" not in output.read_text()
    assert (data / "telemetry.db").exists()


def test_it_leaves_nothing_behind_unless_told_to(tmp_path: Path) -> None:
    with demo(tmp_path) as (process, output):
        directory = Path(printed(process, output, r"Files +(\S+) \(gone when the demo ends")[1])
        assert directory.parent == tmp_path
        assert (directory / "registry.db").exists()
        process.terminate()
        assert process.wait(20) == 0
    assert not directory.exists()


def test_its_page_and_admin_token_are_the_gateways_and_devices_need_none(tmp_path: Path) -> None:
    with demo(tmp_path) as (process, output):
        url = printed(process, output, r"listens on (\S+) ")[1]
        visitor = Visitor(printed(process, output, rf"Page +({url})/\n")[1])
        assert b"<html" in visitor.send("GET", "/").body
        assert visitor.login(printed(process, output, r"Bearer (\S{22})'")[1]).body["role"] == "admin"
        assert visitor.cookies
        request = urllib.request.Request(f"{url}/v1/devices/mine/readings", data=b'{"temp":1}')
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert json.load(answer)["accepted"] == 1


def test_simulated_devices_that_end_are_told_of(tmp_path: Path) -> None:
    with demo(tmp_path) as (process, output):
        printed(process, output, "Ctrl-C ends it")
        (simulator,) = children(process.pid)
        os.kill(simulator, signal.SIGKILL)
        printed(process, output, r"The simulated devices ended with exit code -9; \S+/devices-sim\.log says why\.")


def test_an_address_that_others_can_reach_is_refused(tmp_path: Path) -> None:
    result = in_a_process("demo", "--listen", "0.0.0.0:0", "--data", str(tmp_path))
    assert result.returncode == 2
    assert result.stderr.startswith("auth.mode: open lets every machine that can reach 0.0.0.0:0 ")


def test_a_taken_address_ends_it_at_once(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        result = in_a_process("demo", "--listen", listen, "--data", str(tmp_path))
    assert result.returncode == 1
    assert "Address already in use" in result.stderr
    assert result.stdout == ""
