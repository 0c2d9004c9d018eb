"""Options in, exit code and text out; what the commands do is tested where it is done."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import signal
import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from devices_sim.__main__ import main
from devices_sim.cli import execution
from devices_sim.cli.options import read_tokens
from devices_sim.report import DeviceReport, Report
from tests.support.peer import Peer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from click.testing import Result


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@contextmanager
def peer() -> Iterator[Peer]:
    """A peer on a loop and a thread of its own, because a command has the main thread for itself."""
    served, ready, loop = Peer(), threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with served.serving():
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield served
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


@contextmanager
def ended_by(condition: Callable[[], bool]) -> Iterator[None]:
    """End the readings of the run in this block, as Ctrl-C does, once ``condition`` holds."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            if condition():
                os.kill(os.getpid(), signal.SIGINT)
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(10)


@pytest.mark.parametrize("command", ["run", "replay", "verify"])
def test_help_has_an_example_and_every_option_a_text(command: str) -> None:
    done = call(command, "--help")
    assert done.exit_code == 0
    assert "Examples:" in done.output
    assert f"devices-sim {command} " in done.output
    for parameter in main.commands[command].params:
        assert getattr(parameter, "help", "") or parameter.param_type_name == "argument", parameter.name


def test_run_sends_and_reports(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    with peer() as served:
        done = call("run", "--url", served.url, "--devices", "7", "--interval", "50ms", "--duration", "1s",
                    "--prefix", "x-", "--seed", "3", "--report", str(report))  # fmt: skip
    assert done.exit_code == 0, done.output
    document = json.loads(report.read_text())
    assert [device["id"] for device in document["devices"]] == [f"x-{n}" for n in range(7)]
    assert document["run"]["seed"] == 3
    assert document["run"]["boot"] == document["devices"][0]["boot"] == next(iter(served.taken))[1]
    acked = re.search(r"^acked +(\d+)", done.stdout, re.MULTILINE)
    assert acked is not None
    assert int(acked[1]) == document["summary"]["acked"] > 0


def test_the_summary_as_json() -> None:
    with peer() as served:
        done = call("run", "--url", served.url, "--devices", "1", "--duration", "500ms", "--interval", "20ms", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["acked"] > 0


def test_run_ends_with_1_when_something_has_no_verdict() -> None:
    done = call("run", "--url", "ws://127.0.0.1:9", "--duration", "100ms", "--grace", "100ms")
    assert done.exit_code == 1
    assert "no device ever connected" in done.stdout


def test_devices_come_from_the_tokens_file(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.csv"
    tokens.write_text("# who, what\n\ndoor-1,secret\n dock 7 , other \n")
    assert read_tokens(tokens) == {"door-1": "secret", "dock 7": "other"}
    with peer() as served:
        done = call("run", "--url", served.url, "--tokens", str(tokens), "--devices", "1", "--duration", "500ms",
                    "--interval", "20ms")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert {talk.device for talk in served.connections} == {"door-1"}


def test_a_scenario_decides_how_many_there_are(tmp_path: Path) -> None:
    scenario = tmp_path / "s.yaml"
    scenario.write_text("groups: [{name: a, kind: climate, count: 3, interval: 20ms}]")
    with peer() as served:
        call("run", "--url", served.url, "--scenario", str(scenario), "--duration", "500ms")
        assert len(served.connections) == 3
        call("run", "--url", served.url, "--scenario", str(scenario), "--duration", "500ms", "--devices", "5")
        assert len(served.connections) == 8


def test_a_scenario_that_comes_along_goes_by_its_name() -> None:
    def devices() -> set[str]:
        return {talk.device for talk in served.connections}

    with peer() as served, ended_by(lambda: len(devices()) == 20):
        call("run", "--url", served.url, "--scenario", "demo", "--duration", "60s", "--history", "2m")
    assert devices() == {
        *(f"room-{n}" for n in range(1, 10)), *(f"truck-{n}" for n in range(1, 6)),
        *(f"field-{n}" for n in range(1, 4)), *(f"press-{n}" for n in range(1, 4)),
    }  # fmt: skip
    assert call("run", "--scenario", "demos").exit_code == 2


def test_replay_sends_the_file(tmp_path: Path) -> None:
    table, report = tmp_path / "t.csv", tmp_path / "r.json"
    table.write_text("when,place,v\n2020-01-01,a,1\n2020-01-01,b,2\n")
    with peer() as served:
        done = call("replay", str(table), "--url", served.url, "--device", "d", "--token", "t", "--time-column", "when",
                    "--tag-column", "place", "--measurement", "m", "--report", str(report))  # fmt: skip
    assert done.exit_code == 0, done.output
    ((device, message),) = served.stored
    assert (device, message["m"]) == ("d", "m")
    assert [reading["tags"]["place"] for reading in message["readings"]] == ["a", "b"]
    assert json.loads(report.read_text())["run"]["rows"] == 2


def sqlite_with(tmp_path: Path, report: Path) -> Path:
    """A database as the gateway's, with what the report says."""
    path = tmp_path / "data.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE readings (device, measurement, field, tags, time_ns, value)")
        for device in Report.read(report).devices:
            for point in device.acked():
                rows = [
                    (device.id, "telemetry", name, "{}", point.time_ns, value) for name, value in point.fields.items()
                ]
                connection.executemany("INSERT INTO readings VALUES (?, ?, ?, ?, ?, ?)", rows)
    connection.close()
    return path


def test_verify_says_yes_and_no(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    with peer() as served:
        call(
            "run",
            "--url",
            served.url,
            "--devices",
            "1",
            "--duration",
            "500ms",
            "--interval",
            "20ms",
            "--report",
            str(report),
        )
    database = sqlite_with(tmp_path, report)
    options = ["--report", str(report), "--database", f"sqlite:{database}", "--wait", "1ms"]
    done = call("verify", *options)
    assert done.exit_code == 0, done.output
    assert "missing  0" in re.sub(" +", "  ", done.stdout)
    database.unlink()
    sqlite_with(tmp_path, report)
    with sqlite3.connect(database) as connection:
        connection.execute("DELETE FROM readings WHERE rowid = 1")
    connection.close()
    done = call("verify", *options, "--json")
    assert done.exit_code == 1
    verdict = json.loads(done.stdout)
    assert verdict["missing"] == 1
    assert verdict["examples"][0].startswith("missing: sim-0 {'temp'")


WRONG: list[tuple[list[str], str]] = [
    (["run", "--url", "ftp://h"], "not the address of a gateway"),
    (["run", "--interval", "5"], "not a duration"),
    (["run", "--devices", "0"], "0 is not in the range"),
    (["run", "--scenario", "{dir}/bad.yaml"], "groups[0].kind: must be one of"),
    (["run", "--tokens", "{dir}/bad.yaml"], "bad.yaml:1: not `device,token`"),
    (["run", "--tokens", "{dir}/one.csv", "--devices", "2"], "has 1 devices, not 2"),
    (["run", "--tokens", "{dir}/empty.csv"], "has no devices"),
    (["run", "--ca", "{dir}/bad.yaml"], "no certificates in it"),
    (["run", "--url", "wss://h", "--certificates", "{dir}"], "bad.pem: no certificate with its key"),
    (["run", "--url", "wss://h", "--certificates", "{dir}/unreadable"], "one.pem: no certificate with its key"),
    (["run", "--url", "wss://h", "--certificates", "{dir}/empty"], "has no devices"),
    (["run", "--certificates", "{dir}"], "--url is wss://"),
    (["run", "--certificates", "{dir}", "--tokens", "{dir}/one.csv"], "both say which devices there are"),
    (["run", "--format", "senml", "--history", "1h"], "SenML has none"),
    (["replay", "{dir}/none.csv", "--device", "d"], "does not exist"),
    (["replay", "{dir}/one.csv", "--device", "d"], "no rows"),
    (["replay", "{dir}/one.csv"], "Missing option '--device'"),
    (["replay", "{dir}/one.csv", "--device", "d", "--speed", "fast"], "not a speed such as 10x or max"),
    (["replay", "{dir}/one.csv", "--device", "d", "--speed", "0x"], "not a speed"),
    (["verify", "--report", "{dir}/bad.yaml", "--database", "sqlite:x"], "not a report of devices-sim"),
    (["verify", "--report", "{dir}/bad.yaml", "--database", "x"], "not sqlite:PATH"),
]


@pytest.mark.parametrize(("arguments", "text"), WRONG, ids=[" ".join(arguments) for arguments, _ in WRONG])
def test_wrong_usage_is_told_and_ends_with_2(tmp_path: Path, arguments: list[str], text: str) -> None:
    (tmp_path / "bad.yaml").write_text("groups: [{name: a, kind: x, count: 1}]")
    (tmp_path / "bad.pem").write_text("no certificate")
    (tmp_path / "empty").mkdir()
    (tmp_path / "unreadable" / "one.pem").mkdir(parents=True)
    (tmp_path / "one.csv").write_text("door,secret\n")
    (tmp_path / "empty.csv").write_text("\n")
    done = call(*(argument.replace("{dir}", str(tmp_path)) for argument in arguments))
    assert done.exit_code == 2
    assert text in re.sub(r"\s+", " ", done.output)


def test_a_database_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    points: list[Any] = [[(1, {}, {"v": 1.0})]]
    Report({}, {}, [DeviceReport("d", "b", 0, 0, points=points)]).write(report)
    done = call("verify", "--report", str(report), "--database", f"sqlite:{tmp_path}/none.db", "--wait", "300ms")
    assert done.exit_code == 1
    assert "Error: " in done.output
    assert done.output.count("trying again") == 1


def test_as_many_files_as_devices_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [100, 1000]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.__setitem__(slice(None), new))
    execution._allow_sockets(20)
    assert limits == [100, 1000]
    execution._allow_sockets(500)
    assert limits == [564, 1000]
    done = CliRunner().invoke(main, ["run", "--devices", "5000"])
    assert done.exit_code == 1
    assert "5000 devices need 5064 open files, 1000 are allowed" in done.output
