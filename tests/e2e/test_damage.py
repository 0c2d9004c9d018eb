"""Files that are damaged while the gateway is stopped: it starts, reports them, and delivers everything else.

tests/spool/test_damage.py tries every bit and every length; here are a few, each with a real process.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from gateway.state.command_log import Command, CommandLog
from tests.e2e.test_disk_faults import AWAY, into, numbers
from tests.support.gateway import RunningGateway, launched_gateway, merged, running_gateway, wait_for
from tests.support.scripted import Reply, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TS = 1_700_000_000_000
MESSAGES, READINGS = 60, 100
DELIVERED = 10
"""Messages that the database takes before it is gone."""


def send(gateway: RunningGateway, message: int) -> None:
    first = message * READINGS
    rows = [{"ts": TS + n, "values": {"n": n}} for n in range(first, first + READINGS)]
    status, answer = gateway.request(f"/v1/devices/d-{message % 3}/readings", body=json.dumps(rows).encode())
    assert (status, answer["accepted"]) == (200, READINGS)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of a killed gateway: several segments, the first one delivered in part."""
    directory = tmp_path_factory.mktemp("killed") / "gateway"
    with ScriptedServer(Reply(204)) as script, running_gateway(directory, into(script)) as gateway:
        for message in range(DELIVERED):
            send(gateway, message)
        for device in range(3):
            gateway.settled(f"d-{device}")
        script.says(AWAY)
        for message in range(DELIVERED, MESSAGES):
            send(gateway, message)
        wait_for((directory / "state/ledger.json").exists, "a checkpoint")
        gateway.stop(signal.SIGKILL)
    return directory


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x04
    path.write_bytes(data)


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def segments(directory: Path) -> list[Path]:
    return sorted((directory / "spool").glob("*.seg"))


def half(path: Path) -> int:
    return path.stat().st_size // 2


def restart(directory: Path, killed: Path, damage: Callable[[Path], object]) -> tuple[set[int], dict[str, Any], str]:
    """Damage a copy and start a gateway on it; the readings that then reach the database, /readyz, and the log."""
    shutil.copytree(killed, directory)
    damage(directory)
    with ScriptedServer(Reply(204)) as script, running_gateway(directory, into(script)) as gateway:
        send(gateway, MESSAGES)  # so that the ledger sees that everything before has ended
        for device in range(3):
            gateway.settled(f"d-{device}")
        status, state = gateway.request("/readyz")
        assert (status, state["ready"]) == (200, True)
        places = gateway.metric("gateway_spool_damaged_places")
        assert bool(places) == any("damaged" in warning for warning in state["warnings"]), state
        state["places"] = places
        assert gateway.stop() == 0
        return numbers(script), state, gateway.log


ALL = set(range((MESSAGES + 1) * READINGS))
WAITING = set(range(DELIVERED * READINGS, (MESSAGES + 1) * READINGS))

IN_THE_SPOOL: dict[str, tuple[Callable[[Path], object], int]] = {
    "bit-in-a-record": (lambda d: flip(s := segments(d)[2], half(s)), 1),
    "bit-in-a-header": (lambda d: flip(segments(d)[2], 3), 1),
    "segment-cut-short": (lambda d: cut(s := segments(d)[2], half(s)), 12),
    "segment-gone": (lambda d: segments(d)[2].unlink(), 24),
}
"""The damage, and how many messages of 6 KB in segments of 64 KiB it may cost at most."""


@pytest.mark.parametrize("kind", IN_THE_SPOOL)
def test_damage_in_the_spool_costs_only_the_damaged_records(tmp_path: Path, killed: Path, kind: str) -> None:
    damage, most = IN_THE_SPOOL[kind]
    stored, state, log = restart(tmp_path / "gateway", killed, damage)
    lost = WAITING - stored
    assert len(lost) <= most * READINGS
    assert state["places"] >= 1
    assert "spool: damaged" in log
    if kind in {"bit-in-a-record", "bit-in-a-header"}:
        assert list((tmp_path / "gateway/spool/quarantine").iterdir()), "a copy is kept"
    if lost:
        assert re.search(rf"{len(lost)} readings were in damaged places", log), "the ledger counts them"


@pytest.mark.parametrize("by", [1, 3000])
def test_a_newest_segment_that_was_cut_is_taken_for_an_unfinished_write(tmp_path: Path, killed: Path, by: int) -> None:
    """A record that is cut at the very end looks like a crash during its write, and is left out as after a crash."""
    newest = segments(killed)[-1]
    size = newest.stat().st_size - by
    stored, state, log = restart(tmp_path / "gateway", killed, lambda d: cut(d / "spool" / newest.name, size))
    assert WAITING - stored == set(range((MESSAGES - 1) * READINGS, MESSAGES * READINGS))
    assert state["places"] == 0
    assert "left out the end of an unfinished write" in log


def test_a_damaged_cursor_costs_nothing(tmp_path: Path, killed: Path) -> None:
    """The checkpoint, or at worst the oldest segment, says where to go on; a point written twice overwrites itself."""
    stored, _, _ = restart(tmp_path / "gateway", killed, lambda d: (d / "spool/cursor").write_bytes(b"\xa5" * 9000))
    assert WAITING <= stored <= ALL


def with_another_mark(path: Path) -> None:
    """One digit changed: the file can be read, and says that everything was delivered."""
    data = path.read_bytes()
    path.write_bytes(re.sub(rb'"delivered_to":(\d+)', rb'"delivered_to":9\1', data))


@pytest.mark.parametrize("damage", [lambda p: cut(p, half(p)), with_another_mark], ids=["cut", "another-mark"])
def test_a_damaged_checkpoint_is_counted_again(tmp_path: Path, killed: Path, damage: Callable[[Path], object]) -> None:
    stored, _, log = restart(tmp_path / "gateway", killed, lambda d: damage(d / "state/ledger.json"))
    assert stored >= WAITING
    assert "ledger.json cannot be used" in log


def without_its_log(database: Path) -> None:
    """The file is no database any more, and has no log to repair it from."""
    for suffix in ("-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    database.write_bytes(b"no database" * 1000)


def test_damaged_dead_letters_are_set_aside(tmp_path: Path, killed: Path) -> None:
    stored, _, log = restart(tmp_path / "gateway", killed, lambda d: without_its_log(d / "state/dead_letters.db"))
    assert stored >= WAITING
    assert "set aside as dead_letters.db.damaged-" in log


def test_a_damaged_registry_refuses_the_start_and_names_the_file(tmp_path: Path, killed: Path) -> None:
    """Without it every device would be refused as unknown, some for good. No file is changed meanwhile."""
    directory = tmp_path / "gateway"
    shutil.copytree(killed, directory)
    registry = directory / "state/registry.db"
    whole = registry.read_bytes()
    without_its_log(registry)
    with ScriptedServer(Reply(204)) as script:
        with launched_gateway(directory, into(script)) as process:
            assert process.wait(20) == 1
        assert f"cannot serve: registry {registry}" in (directory / "gateway.log").read_text()
        registry.write_bytes(whole)
        with running_gateway(directory, into(script)) as gateway:
            for device in range(3):
                gateway.settled(f"d-{device}")
        assert numbers(script) == set(range(DELIVERED * READINGS, MESSAGES * READINGS))


def middle_zeroed(database: Path) -> None:
    """It can be opened and has its tables, but their content cannot be read."""
    with closing(sqlite3.connect(database)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        size: int = db.execute("PRAGMA page_size").fetchone()[0]
    data = database.read_bytes()
    database.write_bytes(data[:size] + bytes(len(data) - size))


@pytest.mark.parametrize("damage", [without_its_log, middle_zeroed])
@pytest.mark.parametrize("store", ["commands", "settings", "enrolments"])
def test_damaged_files_with_decisions_of_people_refuse_the_start(
    tmp_path: Path, killed: Path, store: str, damage: Callable[[Path], None]
) -> None:
    directory = tmp_path / "gateway"
    shutil.copytree(killed, directory)
    path = directory / f"state/{store}.db"
    damage(path)
    with ScriptedServer(AWAY) as script:
        with launched_gateway(directory, into(script)) as process:
            assert process.wait(20) == 1
        said = (directory / "gateway.log").read_text()
        assert f"cannot serve: {store} {path}" in said
        assert f"move it away ({store}.db-wal and -shm, too)" in said
        for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            path.with_name(name).unlink(missing_ok=True)
        with running_gateway(directory, into(script)):
            assert path.exists()


def test_a_second_gateway_changes_no_file_of_the_first(tmp_path: Path) -> None:
    """It ends before it could take the open commands for those of a stopped gateway."""
    with ScriptedServer(AWAY) as script, running_gateway(tmp_path, into(script)):
        commands = CommandLog(tmp_path / "state/commands.db")
        commands.add(Command("c-1", "d-1", "open", b"{}", False, "admin", "", time.time_ns(), time.time_ns()))
        over = merged(into(script), {name: {"directory": str(tmp_path / name)} for name in ("spool", "state")})
        with launched_gateway(tmp_path / "second", over) as process:
            assert process.wait(20) == 1
        assert "is in use by another gateway" in (tmp_path / "second/gateway.log").read_text()
        (command,) = commands.history("d-1", 9)
        commands.close()
    assert command["state"] == "waiting"
