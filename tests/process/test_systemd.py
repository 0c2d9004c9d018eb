from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.errors import GatewayError
from gateway.process import systemd as service
from gateway.process.systemd import ServiceManager, Watchdog, inherited_sockets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WAIT = 10.0


@pytest.fixture(params=["path", "abstract"])
def heard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """What ``NOTIFY_SOCKET`` says, and the socket behind it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(WAIT)
        name = f"{tmp_path}/notify"
        sock.bind(name if request.param == "path" else f"\0{name}")
        yield (name if request.param == "path" else f"@{name}"), sock


def test_a_notice_is_one_datagram_of_lines(heard: tuple[str, socket.socket]) -> None:
    environ = {"NOTIFY_SOCKET": heard[0], "OTHER": "1"}
    manager = ServiceManager(environ)
    manager.notify("READY=1", "STATUS=well")
    assert heard[1].recv(1000) == b"READY=1\nSTATUS=well"
    assert environ == {"OTHER": "1"}, "children are not meant to notify"


def test_without_a_manager_there_is_no_message_and_no_watchdog() -> None:
    async def main() -> None:
        manager = ServiceManager({})
        manager.notify("READY=1")
        watchdog = Watchdog(manager, lambda: pytest.fail("looked"), str)
        watchdog.start()
        watchdog.stop()

    asyncio.run(main())


def test_a_manager_that_is_gone_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).notify("READY=1")
    assert "cannot be told READY=1" in caplog.text


def test_a_full_queue_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(service, "PATIENCE", 0.01)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(f"{tmp_path}/notify")
        manager = ServiceManager({"NOTIFY_SOCKET": f"{tmp_path}/notify"})
        for _ in range(int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text()) + 3):
            manager.notify("STATUS=well")
        assert "cannot be told STATUS=well" in caplog.text


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({}, 0.0),
    ],
)
def test_the_watchdog_is_that_of_this_process(environ: dict[str, str], seconds: float) -> None:
    assert ServiceManager(environ).watchdog == seconds


def watched(heard: tuple[str, socket.socket], commit_seconds: Callable[[], float], looks: int) -> list[bytes]:
    """What a watchdog says until it has looked ``looks`` times."""

    async def main() -> None:
        enough = asyncio.Event()

        def looked() -> float:
            nonlocal looks
            looks -= 1
            if not looks:
                enough.set()
            return commit_seconds()

        watchdog = Watchdog(ServiceManager({"NOTIFY_SOCKET": heard[0], "WATCHDOG_USEC": "40000"}), looked, str)
        watchdog.start()
        await enough.wait()
        watchdog.stop()

    asyncio.run(asyncio.wait_for(main(), WAIT))
    heard[1].settimeout(0)
    said = []
    while True:
        try:
            said.append(heard[1].recv(1000).splitlines()[0])
        except BlockingIOError:
            return said


def test_signs_of_life_come_at_half_time_as_long_as_commits_end(heard: tuple[str, socket.socket]) -> None:
    assert watched(heard, lambda: 0.0, 5) == [b"WATCHDOG=1"] * 5
    assert watched(heard, lambda: 0.019, 5) == [b"WATCHDOG=1"] * 5


def test_they_end_with_a_commit_that_does_not_and_come_back_when_it_has(
    heard: tuple[str, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    commits = iter([0.0, 0.01, 0.03, 0.05, 0.07, 0.0, 0.0])
    assert watched(heard, lambda: next(commits), 7) == [b"WATCHDOG=1"] * 4
    assert caplog.text.count("no more signs of life") == 1


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[socket.socket], dict[str, str]]]:
    """Hands a socket over as a service manager does, at a number of this process's own; what the environment says."""
    fds: list[int] = []

    def hand_over(sock: socket.socket, pid: int | None = None) -> dict[str, str]:
        fds.append(os.dup(sock.fileno()))
        monkeypatch.setattr(service, "FIRST_FD", fds[-1])
        return {"LISTEN_PID": str(pid or os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "a.socket"}

    yield hand_over
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            assert fd  # the socket object that was made of it has closed it


def test_a_socket_that_was_handed_over_is_taken(given: Callable[..., dict[str, str]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        environ = given(held)
        (taken,) = inherited_sockets(environ)
        with taken:
            assert taken.getsockname() == held.getsockname()
            assert (taken.getblocking(), taken.get_inheritable()) == (False, False)
    assert environ == {}
    assert inherited_sockets(environ) == []


def test_a_socket_for_another_process_is_left(given: Callable[..., dict[str, str]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        assert inherited_sockets(given(held, pid=1)) == []


def test_what_cannot_be_served_is_refused_by_its_name(given: Callable[..., dict[str, str]]) -> None:
    with socket.socket() as connected, pytest.raises(GatewayError, match=r"a\.socket.*Accept=no"):
        inherited_sockets(given(connected))
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams, pytest.raises(GatewayError, match=r"a\.socket.*TCP"):
        inherited_sockets(given(datagrams))
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": ""}
    with open(os.devnull) as file, pytest.MonkeyPatch.context() as patch:  # noqa: PTH123 - a file, not a path
        patch.setattr(service, "FIRST_FD", file.fileno())
        with pytest.raises(GatewayError, match="not a socket"):
            inherited_sockets(environ)
