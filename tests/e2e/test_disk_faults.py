"""What a failing disk does to a gateway that runs: nothing unsafe is acknowledged, and it goes on after it."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.device import answer, device, hello
from tests.support.disk import failing_calls, remount, small_disk
from tests.support.gateway import RunningGateway, launched_gateway, merged, running_gateway, wait_for
from tests.support.scripted import Reply, ScriptedServer

if TYPE_CHECKING:
    from pathlib import Path

    from websockets.sync.client import ClientConnection

TS = 1_700_000_000_000
READINGS = 200
"""In a message."""
AWAY = Reply(503, {"Retry-After": "1"})
PIECES = {"spool": {"segment_bytes": "64KiB", "max_bytes": "64MiB", "min_free": "0B"}, "batch": {"max_age": "50ms"}}


def into(script: ScriptedServer) -> dict[str, Any]:
    influx = {"url": script.url, "api": "v1", "database": "d"}
    return merged(PIECES, {"sink": "influxdb", "influxdb": influx})


def send(socket: ClientConnection, seq: int, readings: int = READINGS) -> None:
    rows = [{"ts": TS + seq * READINGS + n, "values": {"n": seq * READINGS + n}} for n in range(readings)]
    socket.send(json.dumps({"seq": seq, "readings": rows}))


def acked(socket: ClientConnection, seq: int) -> None:
    send(socket, seq)
    assert answer(socket) == {"type": "ack", "seq": seq}


def resent_until_acked(socket: ClientConnection, seq: int) -> None:
    """As a device does: wait as told, send again from the number that was named."""
    for _ in range(30):
        send(socket, seq)
        said = answer(socket)
        if said == {"type": "ack", "seq": seq}:
            return
        assert (said["type"], said["from_seq"]) == ("throttle", seq), said
        with pytest.raises(TimeoutError):  # nothing else comes while the device waits
            socket.recv(timeout=said["retry_after_ms"] / 1000)
    raise AssertionError("never acknowledged")


def numbers(script: ScriptedServer) -> set[int]:
    """Readings in the writes that the scripted database took."""
    lines = b"".join(request.body for request in script.taken).splitlines()
    return {int(float(line.split(b" n=")[1].split()[0])) for line in lines if b" n=" in line}


def blocked(gateway: RunningGateway, words: str) -> None:
    """It says that it cannot take readings, and why; and it still runs."""
    status, state = gateway.request("/readyz")
    assert (status, state["ready"]) == (503, False)
    assert words in state["blocking"][0], state
    assert gateway.metric("gateway_commit_failures_total") >= 1
    assert gateway.request("/healthz")[0] == 200


def assert_good_again(gateway: RunningGateway, name: str, readings: int) -> None:
    sums = gateway.settled(name)
    assert (sums["received"], sums["stored"]) == (readings, readings), sums
    status, state = gateway.request("/readyz")
    assert (status, state["blocking"]) == (200, []), state
    warnings = []

    def none_left() -> bool:
        warnings[:] = gateway.request("/readyz")[1]["warnings"]
        return not warnings

    try:
        wait_for(none_left, "the warnings to end")
    except AssertionError as error:
        raise AssertionError(f"{error}: {warnings}") from None


def test_a_full_disk_stops_acks_and_frees_itself_when_the_database_is_back(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "disk", "4m") as disk,
        ScriptedServer(AWAY) as script,
        running_gateway(disk, into(script)) as gateway,
        device(gateway, "full") as socket,
    ):
        said, seq = {"type": "ack"}, -1
        while said["type"] == "ack":
            seq += 1
            assert seq < 1000, "4 MiB take more than 4 MiB"
            send(socket, seq)
            said = answer(socket)
        assert (said["type"], said["limit"], said["from_seq"]) == ("throttle", "spool_write", seq), said
        blocked(gateway, "No space left on device")
        assert gateway.ledger("full")["pending"] == seq * READINGS
        script.says(Reply(204))
        resent_until_acked(socket, seq)
        assert_good_again(gateway, "full", (seq + 1) * READINGS)
        assert numbers(script) == set(range((seq + 1) * READINGS))
        assert gateway.stop() == 0


@pytest.mark.parametrize(
    ("calls", "error", "words"),
    [
        ("fdatasync", "EIO", "Input/output error"),
        ("pwrite64", "EIO", "Input/output error"),
        ("pwrite64,ftruncate,fallocate,rename,unlink", "EROFS", "Read-only file system"),
    ],
    ids=["sync-fails", "write-fails", "read-only"],
)
def test_nothing_is_acknowledged_while_the_disk_fails(tmp_path: Path, calls: str, error: str, words: str) -> None:
    """The failure lasts for a while; then the devices send again, and a kill right behind the ack loses nothing."""
    with ScriptedServer(AWAY) as script:
        with running_gateway(tmp_path / "gateway", into(script)) as gateway, device(gateway, "d") as socket:
            assert hello(socket, "b") is None
            acked(socket, 0)
            segments = set((tmp_path / "gateway/spool").glob("*.seg"))
            with failing_calls(gateway.process.pid, calls, error, tmp_path):
                for _ in range(2):
                    send(socket, 1)
                    said = answer(socket)
                    assert (said["type"], said["from_seq"]) == ("throttle", 1), said
                    blocked(gateway, words)
            resent_until_acked(socket, 1)
            acked(socket, 2)
            wait_for(lambda: gateway.request("/readyz")[0] == 200, "the gateway to be ready")
            assert set((tmp_path / "gateway/spool").glob("*.seg")) > segments, "the failed file is not written again"
            assert gateway.ledger("d")["received"] == 3 * READINGS
            gateway.stop(signal.SIGKILL)
        script.says(Reply(204))
        with running_gateway(tmp_path / "gateway", into(script)) as gateway, device(gateway, "d") as socket:
            assert hello(socket, "b") == 2
            assert_good_again(gateway, "d", 3 * READINGS)
        assert numbers(script) == set(range(3 * READINGS))


def test_it_is_ready_again_even_if_no_device_sends(tmp_path: Path) -> None:
    """As behind a load balancer, which sends nothing to a gateway that is not ready."""
    with (
        ScriptedServer(Reply(204)) as script,
        running_gateway(tmp_path / "gateway", into(script)) as gateway,
        device(gateway, "d") as socket,
    ):
        with failing_calls(gateway.process.pid, "fdatasync", "EIO", tmp_path):
            send(socket, 0)
            assert answer(socket)["type"] == "throttle"
            blocked(gateway, "Input/output error")
        wait_for(lambda: gateway.request("/readyz")[0] == 200, "the gateway to be ready")
        acked(socket, 0)
        assert_good_again(gateway, "d", READINGS)


def test_one_failed_sync_is_not_repeated_on_the_same_file(tmp_path: Path) -> None:
    """Linux reports a lost write once: the second fdatasync of that file would succeed, and mean nothing."""
    with (
        ScriptedServer(Reply(204)) as script,
        running_gateway(tmp_path / "gateway", into(script)) as gateway,
        device(gateway, "d") as socket,
    ):
        acked(socket, 0)
        gateway.settled("d")
        with failing_calls(gateway.process.pid, "fdatasync", "EIO", tmp_path, when="1"):
            send(socket, 1)
            said = answer(socket)
            assert (said["type"], said["from_seq"]) == ("throttle", 1), said
            resent_until_acked(socket, 1)
        assert_good_again(gateway, "d", 2 * READINGS)
        assert gateway.metric("gateway_commit_failures_total") == 1


def test_a_disk_that_is_read_only_at_the_start_is_said_and_nothing_is_lost(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "8m") as disk, ScriptedServer(AWAY) as script:
        with running_gateway(disk, into(script)) as gateway, device(gateway, "d") as socket:
            acked(socket, 0)
            gateway.stop(signal.SIGKILL)
        script.says(Reply(204))
        remount(disk, "ro")
        over = merged(into(script), {name: {"directory": str(disk / name)} for name in ("spool", "state")})
        with launched_gateway(tmp_path / "elsewhere", over) as process:
            assert process.wait(20) == 1
        assert f"cannot serve: dead letters {disk}" in (tmp_path / "elsewhere/gateway.log").read_text()
        remount(disk, "rw")
        with running_gateway(disk, into(script)) as gateway:
            assert_good_again(gateway, "d", READINGS)
        assert numbers(script) == set(range(READINGS))
