"""Commands to a real gateway over HTTP, and what comes of them at devices that PyPI websockets connects."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gateway.devices import commands
from gateway.protocol.reports import Result
from gateway.state.command_log import Command, CommandLog, CommandProgress
from tests.support.gateway import RunningGateway, running_gateway, wait_for
from tests.support.simulator import simulate
from tests.support.visitor import Answer, Visitor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Future
    from pathlib import Path

    from websockets.sync.client import ClientConnection

VIEWER, ADMIN = "viewer-token-0123456789", "admin-token-for-tests-0123456789"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), {"auth": {"viewer_token": VIEWER}}) as running:
        yield running


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


@contextmanager
def device(gateway: RunningGateway, name: str) -> Iterator[ClientConnection]:
    """Connected and welcomed."""
    with connect(f"{gateway.ws}/v1/devices/{name}/stream") as socket:
        assert hear(socket)["type"] == "welcome"
        yield socket


def hear(socket: ClientConnection) -> dict[str, Any]:
    return dict(json.loads(socket.recv(timeout=10)))


def say(socket: ClientConnection, **message: Any) -> None:
    socket.send(json.dumps(message))


def ask(gateway: RunningGateway, name: str, /, **body: Any) -> Answer:
    return Visitor(gateway.url).send("POST", path(name), body, Authorization=f"Bearer {ADMIN}")


def look(gateway: RunningGateway, name: str, command: str = "") -> Any:
    answer = Visitor(gateway.url).send("GET", path(name) + command, Authorization=f"Bearer {ADMIN}")
    return answer.body


def path(name: str) -> str:
    return f"/v1/devices/{name}/commands"


def ended(gateway: RunningGateway, name: str, command: str, state: str) -> dict[str, Any]:
    """The command as the history has it, once it is in ``state``."""
    found = wait_for(
        lambda: [c for c in look(gateway, name)["commands"] if (c["id"], c["state"]) == (command, state)], state
    )
    assert look(gateway, name, f"/{command}") == found[0]
    return dict(found[0])


def test_a_command_goes_down_and_is_answered_by_the_device(gateway: RunningGateway, pool: ThreadPoolExecutor) -> None:
    with device(gateway, "answers") as socket:
        waiting = pool.submit(ask, gateway, "answers", name="blink", params={"times": 3}, timeout_ms=5000)
        command = hear(socket)
        assert command.pop("type") == "command"
        assert 0 < command.pop("expires_in_ms") <= 5000
        assert command == {"id": command["id"], "name": "blink", "params": {"times": 3}}
        assert not waiting.done()
        say(socket, type="result", id=command["id"], ok=True, value={"blinked": 3})
        answer = waiting.result(10)
        assert (answer.status, answer.body) == (200, {"id": command["id"], "ok": True, "value": {"blinked": 3}})
    kept = ended(gateway, "answers", command["id"], "answered")
    assert (kept["by"], kept["sends"], kept["ok"]) == ({"role": "admin", "address": "127.0.0.1"}, 1, True)
    assert (kept["value"], kept["params"], kept["error"]) == ({"blinked": 3}, {"times": 3}, None)
    assert kept["created_at"] <= kept["sent_at"] <= kept["ended_at"] <= kept["expires_at"]
    assert f"device answers: command blink ({command['id']}), by admin at 127.0.0.1" in gateway.log
    assert f"device answers: command blink ({command['id']}) answered, ok: True" in gateway.log


def test_a_device_may_say_no(gateway: RunningGateway, pool: ThreadPoolExecutor) -> None:
    with device(gateway, "refuses") as socket:
        waiting = pool.submit(ask, gateway, "refuses", name="open")
        command = hear(socket)
        assert command["params"] == {}
        say(socket, type="result", id=command["id"], ok=False, error="the valve is stuck")
        expected = {"id": command["id"], "ok": False, "error": "the valve is stuck"}
        assert (waiting.result(10).status, waiting.result(10).body) == (200, expected)
    assert ended(gateway, "refuses", command["id"], "answered")["error"] == "the valve is stuck"
    assert "the valve is stuck" not in gateway.log


def test_silence_is_not_taken_for_an_answer_and_a_late_one_is_kept(
    gateway: RunningGateway, pool: ThreadPoolExecutor
) -> None:
    with device(gateway, "silent") as socket:
        answer = ask(gateway, "silent", name="reboot", timeout_ms=500)
        assert (answer.status, answer.code) == (504, "no_answer")
        assert "whether the command was carried out is not known" in answer.body["error"]["message"]
        command = hear(socket)
        assert answer.body["error"]["id"] == command["id"]
        assert ended(gateway, "silent", command["id"], "expired")["error"] == "no_answer"
        say(socket, type="result", id=command["id"], ok=True)
        late = ended(gateway, "silent", command["id"], "answered")
        assert late["ok"] is True
        assert late["ended_at"] > late["expires_at"]


def test_a_connection_that_closes_first_is_no_answer(gateway: RunningGateway, pool: ThreadPoolExecutor) -> None:
    with device(gateway, "leaves") as socket:
        waiting = pool.submit(ask, gateway, "leaves", name="reboot", timeout_ms=60_000)
        command = hear(socket)
    answer = waiting.result(10)
    assert (answer.status, answer.code) == (504, "connection_lost")
    assert ended(gateway, "leaves", command["id"], "failed")["error"] == "connection_lost"
    with device(gateway, "leaves") as socket:  # it did do it
        say(socket, type="result", id=command["id"], ok=True)
        ended(gateway, "leaves", command["id"], "answered")


def test_an_unexpected_result_is_refused(gateway: RunningGateway, pool: ThreadPoolExecutor) -> None:
    with device(gateway, "twice") as socket, device(gateway, "other") as other:
        waiting = pool.submit(ask, gateway, "twice", name="x")
        command = hear(socket)["id"]
        say(other, type="result", id=command, ok=True)
        assert hear(other)["code"] == "unknown_command"  # not its own
        say(socket, type="result", id=command, ok=True, value=1)
        assert waiting.result(10).body["value"] == 1
        for answer in (command, "c0"):
            say(socket, type="result", id=answer, ok=True, value=2)
            told = hear(socket)
            assert (told["type"], told["code"]) == ("error", "unknown_command")
        assert ended(gateway, "twice", command, "answered")["value"] == 1


@pytest.mark.parametrize(
    "result",
    [
        {"id": 7, "ok": True},
        {"id": "", "ok": True},
        {"ok": True},
        {"id": "c1"},
        {"id": "c1", "ok": 1},
        {"id": "c1", "ok": False, "error": 5},
        {"id": "c1", "ok": True, "error": "but"},
        {"id": "c1", "ok": False, "error": "x" * 1025},
        {"id": "c1", "ok": True, "value": "x" * 8192},
        {"id": "c1", "ok": True, "value": [[[[[[[[[1]]]]]]]]]},
    ],
)
def test_what_is_no_result_is_told_and_the_session_goes_on(gateway: RunningGateway, result: dict[str, Any]) -> None:
    with device(gateway, "odd") as socket:
        say(socket, type="result", **result)
        assert hear(socket)["code"] == "bad_message"
        say(socket, seq=1, a=1)
        assert hear(socket) == {"type": "ack", "seq": 1}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "x" * 65},
        {"name": "a\nb"},
        {"name": 5},
        {"name": "x", "params": []},
        {"name": "x", "params": {"a": "x" * 4096}},
        {"name": "x", "timeout_ms": 0},
        {"name": "x", "timeout_ms": True},
        {"name": "x", "timeout_ms": 120_001},
        {"name": "x", "timeout_ms": 1.5},
        {"name": "x", "keep": True, "timeout_ms": 7 * 86_400_000 + 1},
        {"name": "x", "keep": "yes"},
        {"name": "x", "to": "y"},
    ],
)
def test_what_is_no_command_is_told(gateway: RunningGateway, body: dict[str, Any]) -> None:
    with device(gateway, "picky"):
        answer = ask(gateway, "picky", **body)
        assert (answer.status, answer.code) == (400, "bad_request")
    assert look(gateway, "picky") == {"commands": []}


def test_who_may_command_and_whom(gateway: RunningGateway) -> None:
    visitor = Visitor(gateway.url)
    with device(gateway, "guarded") as socket:
        for method, where in (("POST", ""), ("GET", ""), ("GET", "/c1")):
            target = path("guarded") + where
            assert visitor.send(method, target, {"name": "x"}).status == 401
            assert visitor.send(method, target, {"name": "x"}, Authorization=f"Bearer {VIEWER}").status == 403
        visitor.login(ADMIN)
        assert visitor.send("POST", path("guarded"), {"name": "x"}).code == "bad_csrf_token"
        with pytest.raises(TimeoutError):
            socket.recv(timeout=0.1)
    assert (ask(gateway, "nobody", name="x").status, ask(gateway, "nobody", name="x").code) == (404, "unknown_device")
    answer = wait_for(lambda: (a := ask(gateway, "guarded", name="x", timeout_ms=1)).status == 409 and a, "it to leave")
    assert answer.code == "not_connected"
    assert visitor.send("GET", path("guarded") + "/c1").code == "unknown_command"


def test_a_command_is_kept_for_a_sleeping_device_until_it_has_answered(gateway: RunningGateway) -> None:
    with device(gateway, "sleeps"):
        pass
    wait_for(lambda: not gateway_device(gateway, "sleeps")["connected"], "it to sleep")
    answers = [ask(gateway, "sleeps", name=name, keep=True, timeout_ms=60_000) for name in ("first", "second")]
    assert [answer.status for answer in answers] == [202, 202]
    ids = [answer.body["id"] for answer in answers]
    assert [c["state"] for c in look(gateway, "sleeps")["commands"]] == ["waiting", "waiting"]
    with device(gateway, "sleeps") as socket:
        commands = [hear(socket), hear(socket)]
        assert [command["id"] for command in commands] == ids
        say(socket, type="result", id=ids[0], ok=True)
        ended(gateway, "sleeps", ids[0], "answered")
        assert ended(gateway, "sleeps", ids[1], "sent")["sends"] == 1
    assert ended(gateway, "sleeps", ids[1], "waiting")["sends"] == 1
    with device(gateway, "sleeps") as socket:  # only what has no answer yet, and under the same id
        again = hear(socket)
        assert (again["id"], again["name"]) == (ids[1], "second")
        assert again["expires_in_ms"] < commands[1]["expires_in_ms"]
        say(socket, type="result", id=ids[1], ok=False, error="no")
        assert ended(gateway, "sleeps", ids[1], "answered")["sends"] == 2


def gateway_device(gateway: RunningGateway, name: str) -> dict[str, Any]:
    return dict(Visitor(gateway.url).send("GET", f"/v1/devices/{name}", Authorization=f"Bearer {ADMIN}").body)


def test_a_kept_command_goes_to_a_newer_connection_while_the_older_one_still_closes(gateway: RunningGateway) -> None:
    with device(gateway, "fast") as old:
        command = ask(gateway, "fast", name="x", keep=True).body["id"]
        assert hear(old)["id"] == command
        with device(gateway, "fast") as new:
            with pytest.raises(ConnectionClosed):
                hear(old)
            assert hear(new)["id"] == command


def test_a_kept_command_ends_at_its_deadline_and_is_not_sent_after_it(gateway: RunningGateway) -> None:
    with device(gateway, "late"):
        pass
    wait_for(lambda: not gateway_device(gateway, "late")["connected"], "it to sleep")
    answers = {ms: ask(gateway, "late", name="x", keep=True, timeout_ms=ms).body["id"] for ms in (60_000, 150, 50)}
    for ms in (50, 150):
        assert ended(gateway, "late", answers[ms], "expired")["error"] == "not_sent"
    with device(gateway, "late") as socket:
        assert hear(socket)["id"] == answers[60_000]
        with pytest.raises(TimeoutError):
            socket.recv(timeout=0.1)


def test_the_newest_hundred_and_no_more_are_kept(gateway: RunningGateway, pool: ThreadPoolExecutor) -> None:
    with device(gateway, "full"):
        pass
    many = [pool.submit(ask, gateway, "full", name="x", keep=True) for _ in range(commands.MAX_OF_DEVICE + 3)]
    refused = [answer for future in many if (answer := future.result(20)).status != 202]
    assert [answer.code for answer in refused] == ["too_many_commands"] * 3
    with device(gateway, "full") as socket:
        ids = {hear(socket)["id"] for _ in range(commands.MAX_OF_DEVICE)}
        for command in ids:
            say(socket, type="result", id=command, ok=True)
        shown = Visitor(gateway.url).send("GET", f"{path('full')}?limit=300", Authorization=f"Bearer {ADMIN}")
        assert {command["id"] for command in shown.body["commands"]} == ids
        assert len(look(gateway, "full")["commands"]) == 50


def test_who_leaves_takes_nothing_back(gateway: RunningGateway) -> None:
    with device(gateway, "left") as socket:
        caller = gateway.keep_alive()
        caller.request("POST", path("left"), json.dumps({"name": "x"}), {"Authorization": f"Bearer {ADMIN}"})
        command = hear(socket)["id"]
        caller.close()
        say(socket, type="result", id=command, ok=True)
        ended(gateway, "left", command, "answered")
    assert "Traceback" not in gateway.log


def test_metrics_count_how_commands_ended(gateway: RunningGateway, pool: ThreadPoolExecutor) -> None:
    def counts() -> list[float]:
        return [gateway.metric(f'gateway_commands_total{{state="{state}"}}') for state in ("expired", "answered")]

    expired, answered = counts()
    with device(gateway, "counted") as socket:
        assert ask(gateway, "counted", name="x", timeout_ms=1).status == 504
        waiting = pool.submit(ask, gateway, "counted", name="y")
        while (command := hear(socket))["name"] != "y":
            pass
        assert gateway.metric("gateway_commands_open") >= 1
        say(socket, type="result", id=command["id"], ok=True)
        waiting.result(10)
    assert counts() == [expired + 1, answered + 1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_is_kept_survives_a_restart_and_what_is_waited_for_fails(tmp_path: Path, number: int) -> None:
    with running_gateway(tmp_path) as gateway, device(gateway, "dev") as socket:
        waiting: list[Future[Answer]] = []
        with ThreadPoolExecutor(1) as pool:
            waiting.append(pool.submit(_ask_or_none, gateway))
            direct = hear(socket)["id"]
            kept = ask(gateway, "dev", name="kept", keep=True).body["id"]
            assert hear(socket)["id"] == kept
            ended(gateway, "dev", kept, "sent")
            gateway.stop(number)
    if number == signal.SIGTERM:
        assert (waiting[0].result().status, waiting[0].result().code) == (504, "connection_lost")
    with running_gateway(tmp_path) as gateway:
        wait_for(lambda: look(gateway, "dev", f"/{kept}").get("state") == "waiting", "the kept one")
        error = ended(gateway, "dev", direct, "failed")["error"]
        assert error == ("connection_lost" if number == signal.SIGTERM else "restart")
        with device(gateway, "dev") as socket:
            assert hear(socket)["id"] == kept
            say(socket, type="result", id=kept, ok=True)
            ended(gateway, "dev", kept, "answered")
            with ThreadPoolExecutor(1) as pool:
                other = pool.submit(ask, gateway, "dev", name="next")
                new = hear(socket)["id"]
                assert new not in {kept, direct}
                say(socket, type="result", id=new, ok=True)
                assert other.result(10).status == 200


def _ask_or_none(gateway: RunningGateway) -> Any:
    try:
        return ask(gateway, "dev", name="direct", timeout_ms=60_000)
    except OSError:  # it was killed
        return None


def test_what_cannot_be_written_down_is_not_sent(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway, device(gateway, "dev") as socket:
        with closing(sqlite3.connect(tmp_path / "state/commands.db", isolation_level=None)) as db:
            db.execute("DROP TABLE commands")
        answer = ask(gateway, "dev", name="x")
        assert (answer.status, answer.code) == (503, "commands")
        with pytest.raises(TimeoutError):
            socket.recv(timeout=0.2)
        assert gateway.metric("gateway_commands_open") == 0


class Socket:
    """Of a device that sends back nothing."""

    def command(self, command: Command, expires_in_ms: int) -> bool:
        return True


def test_a_device_that_comes_and_goes_leaves_one_note_of_each_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, goes_on = CommandLog(tmp_path / "commands.db"), threading.Event()
    write, written = log.write, list[int]()

    def slow(notes: Mapping[str, CommandProgress]) -> None:
        assert goes_on.wait(20)
        written.append(len(notes))
        write(notes)

    async def main() -> None:
        monkeypatch.setattr(log, "write", slow)
        here: list[Socket] = []
        link = commands.Commands(log, lambda _device: here[0] if here else None, lambda _state: None)
        for name, seconds in (("waits", 1000), ("answers", 1000), ("is late", 0.5)):
            last = await link.submit(Command(name, "d", "x", b"{}", True, "admin", "::1", 1, 2), seconds)
        for _ in range(50):
            here.append(socket := Socket())
            link.connected("d")
            here.clear()
            link.disconnected("d", socket)
        assert link.answered("d", Result("answers", ok=True, value=b"1", error=None))
        assert (await asyncio.wait_for(last.ended, 10)).state == "expired"
        assert link.answered("d", Result("is late", ok=True, value=b"2", error=None))
        goes_on.set()
        await link.close()

    asyncio.run(main())
    assert written == [1, 3]  # the first had gone to the writer alone
    with closing(CommandLog(tmp_path / "commands.db")) as found:
        told = [(c["id"], c["state"], c["sends"], c["value"]) for c in found.history("d", 3)]
    assert told == [("is late", "answered", 50, 2), ("answers", "answered", 50, 1), ("waits", "waiting", 50, None)]


SCENARIO = """
groups:
  - {name: a, kind: climate, count: 1, interval: 100ms,
     commands: {slow: {value: 5, delay: 100ms}, stuck: {error: jammed}, lost: {silent: true}}}
"""


def test_simulated_devices_answer_as_their_scenario_says(gateway: RunningGateway, tmp_path: Path) -> None:
    (tmp_path / "scenario.yaml").write_text(SCENARIO)
    arguments = ("--url", gateway.ws, "--devices", "1", "--scenario", str(tmp_path / "scenario.yaml"))
    with simulate(tmp_path, "run", *arguments) as simulation:
        wait_for(lambda: gateway_device(gateway, "sim-0").get("connected"), "the device")
        assert ask(gateway, "sim-0", name="ping").body["value"] == "pong"
        assert ask(gateway, "sim-0", name="slow").body["value"] == 5
        assert ask(gateway, "sim-0", name="stuck").body["error"] == "jammed"
        assert ask(gateway, "sim-0", name="other").body["error"] == "unknown command other"
        assert ask(gateway, "sim-0", name="lost", timeout_ms=1000).code == "no_answer"
        simulation.end_readings()
        summary = simulation.finish(20)["summary"]
    assert summary["commands"] == {"ping": 1, "slow": 1, "stuck": 1, "other": 1, "lost": 1}
    assert summary["violations"] == 0
