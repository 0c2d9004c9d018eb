from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import string
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config.names import DEVICE_ID
from gateway.errors import DeviceExists, RegistryError, UnknownDevice
from gateway.state import registry_schema
from gateway.state.registered_device import NewDevice
from gateway.state.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.db"


@pytest.fixture
def registry(path: Path) -> Iterator[Registry]:
    registry = Registry(path)
    yield registry
    registry.close()


@pytest.fixture
def other(registry: Registry, path: Path) -> Iterator[Registry]:
    """The same file, opened again: what another process would hold."""
    other = Registry(path)
    other.refresh()
    registry.refresh()
    yield other
    other.close()


def test_a_device_is_let_in_by_its_own_token_only(registry: Registry) -> None:
    token, others = registry.add("kiln-1", "kiln", {"site": "north"}), registry.add("kiln-2")
    device = registry.devices.authenticate("kiln-1", token)
    assert device is not None
    assert (device.id, device.profile, device.tags, device.revoked) == ("kiln-1", "kiln", {"site": "north"}, False)
    assert abs(device.created_ns - time.time_ns()) < 60e9
    for wrong in (others, "", token[:-1], token + " ", token.swapcase(), "ü" * 43, "\ud800"):
        assert registry.devices.authenticate("kiln-1", wrong) is None
    assert registry.devices.authenticate("kiln-3", token) is None
    assert registry.devices.authenticate("KILN-1", token) is None


def test_tokens_are_256_random_bits_and_are_never_on_disk(registry: Registry, path: Path) -> None:
    tokens = [registry.add(f"d{n}") for n in range(20)] + [registry.rotate("d1")]
    assert len(set(tokens)) == 21
    assert {len(token) for token in tokens} == {43}
    assert set("".join(tokens)) <= set(string.ascii_letters + string.digits + "-_")
    everything = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"d19" in everything
    assert not [token for token in tokens if token.encode() in everything]


def test_rotating_ends_the_old_token(registry: Registry) -> None:
    old = registry.add("kiln-1", tags={"site": "north"})
    new = registry.rotate("kiln-1")
    assert new != old
    assert registry.devices.authenticate("kiln-1", old) is None
    device = registry.devices.authenticate("kiln-1", new)
    assert device is not None
    assert device.tags == {"site": "north"}
    assert device.changed_ns > device.created_ns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The registry's time in ns, to be set."""
    now = [time.time_ns()]
    monkeypatch.setattr(time, "time_ns", lambda: now[0])
    return now


def test_with_an_overlap_the_old_token_counts_until_its_time(registry: Registry, clock: list[int]) -> None:
    old = registry.add("kiln-1")
    registry.refresh()
    before = registry.devices.authenticate("kiln-1", old)
    new = registry.rotate("kiln-1", 3600)
    assert registry.refresh() == frozenset()
    assert before is not None
    assert registry.devices.holds(before)
    assert registry.devices.authenticate("kiln-1", old) is not None
    assert registry.devices.show("kiln-1").old_until_ns == clock[0] + 3600 * 10**9
    clock[0] += 3600 * 10**9
    assert registry.devices.authenticate("kiln-1", old) is None
    assert not registry.devices.holds(before)
    assert registry.refresh() == {"kiln-1"}
    assert registry.devices.show("kiln-1").old_until_ns == 0
    assert registry.devices.authenticate("kiln-1", new) is not None


def test_the_first_use_of_the_new_token_ends_the_old_one(registry: Registry, other: Registry) -> None:
    old = registry.add("kiln-1")
    other.refresh()
    by_old = other.devices.authenticate("kiln-1", old)
    new = registry.rotate("kiln-1", 3600)
    other.refresh()
    by_new = other.devices.authenticate("kiln-1", new)
    assert by_old is not None
    assert by_new is not None
    assert other.devices.authenticate("kiln-1", old) is None
    assert (other.devices.holds(by_old), other.devices.holds(by_new)) == (False, True)
    assert other.refresh() == {"kiln-1"}
    assert other.refresh() == frozenset()
    registry.refresh()
    assert registry.devices.authenticate("kiln-1", old) is None
    assert registry.devices.show("kiln-1").old_until_ns == 0


def test_a_token_that_was_replaced_before_its_use_was_written_down_keeps_its_own_overlap(
    registry: Registry, other: Registry
) -> None:
    registry.add("kiln-1")
    second = registry.rotate("kiln-1", 3600)
    other.refresh()
    assert other.devices.authenticate("kiln-1", second) is not None
    third = registry.rotate("kiln-1", 3600)
    other.refresh()
    other.refresh()
    assert other.devices.authenticate("kiln-1", second) is not None
    assert other.devices.authenticate("kiln-1", third) is not None
    assert other.devices.authenticate("kiln-1", second) is None


@pytest.mark.parametrize("how", ["revoke", "rotate"])
def test_revoking_and_rotating_without_an_overlap_end_both_tokens(registry: Registry, how: str) -> None:
    tokens = [registry.add("kiln-1"), registry.rotate("kiln-1", 3600)]
    registry.refresh()
    getattr(registry, how)("kiln-1")
    assert registry.refresh() == {"kiln-1"}
    assert [registry.devices.authenticate("kiln-1", token) for token in tokens] == [None, None]


def test_a_revoked_device_has_no_old_token_to_overlap(registry: Registry) -> None:
    old = registry.add("kiln-1")
    registry.revoke("kiln-1")
    new = registry.rotate("kiln-1", 3600)
    assert registry.devices.show("kiln-1").old_until_ns == 0
    assert registry.devices.authenticate("kiln-1", old) is None
    assert registry.devices.authenticate("kiln-1", new) is not None


def test_no_token_begins_like_an_option_or_a_formula(monkeypatch: pytest.MonkeyPatch, registry: Registry) -> None:
    made = iter(["-abc", "-def", "good"])
    monkeypatch.setattr("gateway.state.registered_device.secrets.token_urlsafe", lambda _n: next(made))
    assert registry.add("kiln-1") == "good"


FIRST_LAYOUT = """
CREATE TABLE devices (
    id TEXT PRIMARY KEY, profile TEXT NOT NULL, tags TEXT NOT NULL, token_sha256 BLOB, created_ns INTEGER NOT NULL,
    changed_ns INTEGER NOT NULL, version INTEGER NOT NULL UNIQUE
) WITHOUT ROWID;
PRAGMA user_version = 1;
"""


def test_a_registry_of_the_first_layout_is_opened_and_goes_on(path: Path) -> None:
    db = sqlite3.connect(path)
    db.executescript(FIRST_LAYOUT)
    hashed = hashlib.sha256(b"its token").digest()
    db.execute("INSERT INTO devices VALUES ('kiln-1', 'kiln', '{\"site\": \"north\"}', ?, 5, 6, 1)", (hashed,))
    db.execute("INSERT INTO devices VALUES ('kiln-2', 'default', '{}', NULL, 5, 6, 2)")
    db.commit()
    db.close()
    registry = Registry(path)
    device = registry.devices.authenticate("kiln-1", "its token")
    assert device is not None
    assert (device.profile, device.tags, device.created_ns, device.old_until_ns) == ("kiln", {"site": "north"}, 5, 0)
    assert registry.devices.show("kiln-2").revoked
    new = registry.rotate("kiln-1", 3600)
    registry.close()
    again = Registry(path)
    assert again.devices.authenticate("kiln-1", "its token") is not None
    assert again.devices.authenticate("kiln-1", new) is not None
    again.close()


def test_a_revoked_device_is_remembered_and_can_have_a_new_token(registry: Registry) -> None:
    token = registry.add("kiln-1", "kiln")
    registry.revoke("kiln-1")
    registry.revoke("kiln-1")
    for wrong in (token, "", "x"):
        assert registry.devices.authenticate("kiln-1", wrong) is None
    assert registry.devices.show("kiln-1").revoked
    with pytest.raises(DeviceExists, match="kiln-1 is revoked; rotate gives it a new token"):
        registry.add("kiln-1")
    device = registry.devices.authenticate("kiln-1", registry.rotate("kiln-1"))
    assert device is not None
    assert (device.profile, device.revoked) == ("kiln", False)


def test_what_is_not_there_or_there_twice_is_said(registry: Registry) -> None:
    token = registry.add("kiln-1")
    with pytest.raises(DeviceExists, match="kiln-1 is registered already"):
        registry.add("kiln-1")
    assert registry.devices.authenticate("kiln-1", token) is not None
    for act in (registry.devices.show, registry.rotate, registry.revoke):
        with pytest.raises(UnknownDevice, match="no device kiln-2"):
            act("kiln-2")
    assert registry.devices.lookup("kiln-2") is None
    assert [device.id for device in registry.devices.list()] == ["kiln-1"]


def test_an_impossible_device_is_not_registered(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="a device id is 1 to 128 of"):
        registry.add("a b")
    with pytest.raises(RegistryError, match="belong to the database"):
        registry.add("kiln-1", tags={"time": "x"})
    assert registry.devices.list() == []


@given(st.text(string.ascii_letters + string.digits + "._:-", min_size=1, max_size=128).filter(DEVICE_ID.fullmatch))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_possible_device_id_can_be_registered(registry: Registry, device: str) -> None:
    if registry.devices.lookup(device) is None:
        assert registry.devices.authenticate(device, registry.add(device)) is not None


def test_devices_survive_the_process(registry: Registry, path: Path) -> None:
    token = registry.add("kiln-1", "kiln", {"site": "Nörd, Ost"})
    registry.add("kiln-0")
    registry.revoke("kiln-0")
    registry.close()
    again = Registry(path)
    assert again.devices.list() == registry.devices.list()
    assert [device.id for device in again.devices.list()] == ["kiln-0", "kiln-1"]
    assert again.devices.authenticate("kiln-1", token) is not None
    again.close()


def test_changes_of_another_process_are_taken_in_and_ended_tokens_named(registry: Registry, path: Path) -> None:
    tokens = {name: registry.add(name) for name in ("kept", "rotated", "revoked")}
    registry.refresh()
    code = (
        "import sys, pathlib; from gateway.state.registry import Registry; r = Registry(pathlib.Path(sys.argv[1]));"
        "print(r.rotate('rotated'), r.add('new', 'kiln')); r.revoke('revoked'); r.close()"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True, timeout=30, env=os.environ
    ).stdout.split()
    assert registry.devices.authenticate("new", printed[1]) is None
    assert registry.refresh() == {"rotated", "revoked"}
    assert registry.refresh() == frozenset()
    assert registry.devices.authenticate("kept", tokens["kept"]) is not None
    assert registry.devices.authenticate("rotated", tokens["rotated"]) is None
    assert registry.devices.authenticate("rotated", printed[0]) is not None
    assert registry.devices.authenticate("revoked", tokens["revoked"]) is None
    assert registry.devices.authenticate("new", printed[1]) is not None


def test_what_another_process_changed_is_in_the_log(
    registry: Registry, other: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    other.add("kiln-1")
    token = other.rotate("kiln-1")
    registry.refresh()
    other.rotate("kiln-1")
    registry.refresh()
    other.revoke("kiln-1")
    registry.refresh()
    registry.rotate("kiln-1")
    registry.refresh()
    assert [record.message for record in caplog.records] == [
        "device kiln-1 was registered, by another process",
        "device kiln-1 got a new token, by another process",
        "device kiln-1 was revoked, by another process",
    ]
    caplog.clear()
    other.add_all([NewDevice(f"d{n}", "default", {}) for n in range(25)], lambda _tokens: None)
    registry.refresh()
    assert len(caplog.records) == 21
    assert caplog.records[-1].message == "5 more devices were registered or changed by another process"
    assert token not in caplog.text


def test_an_ended_token_is_named_even_when_a_change_of_ones_own_came_first(registry: Registry, other: Registry) -> None:
    other.add("theirs")
    registry.refresh()
    other.revoke("theirs")
    registry.add("mine")
    assert registry.refresh() == {"theirs"}
    registry.rotate("mine")
    assert registry.refresh() == {"mine"}


def test_refresh_reads_only_what_is_new(registry: Registry, other: Registry) -> None:
    for n in range(50):
        registry.add(f"d{n}")
    other.refresh()
    statements: list[str] = []
    other._db.set_trace_callback(statements.append)
    assert other.refresh() == frozenset()
    assert statements == ["PRAGMA data_version"]
    registry.revoke("d7")
    assert other.refresh() == {"d7"}
    assert statements[-1].startswith("SELECT * FROM devices WHERE version > 50")


def test_reading_goes_on_while_another_thread_takes_changes_in(registry: Registry, other: Registry) -> None:
    token = registry.add("kept")
    failures: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                assert registry.devices.authenticate("kept", token) is not None
                assert registry.devices.list()
        except BaseException as error:  # noqa: BLE001 - handed to the test
            failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for n in range(20):
            other.add(f"d{n}")
            registry.refresh()
    finally:
        done.set()
        reader.join(10)
    assert not failures
    assert len(registry.devices.list()) == 21


def test_two_that_make_the_file_at_once_share_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Registry(path)
    token = first.add("a")
    first.close()
    original = registry_schema._version
    answers = [0]
    monkeypatch.setattr(registry_schema, "_version", lambda *given: answers.pop() if answers else original(*given))
    second = Registry(path)
    assert second.devices.authenticate("a", token) is not None
    second.close()


def test_a_file_of_a_newer_gateway_is_left_alone(path: Path) -> None:
    Registry(path).close()
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {registry_schema.LAYOUT_VERSION + 1}")
    db.close()
    before = path.read_bytes()
    with pytest.raises(
        RegistryError, match=f"written by a newer gateway .*version {registry_schema.LAYOUT_VERSION + 1}"
    ):
        Registry(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_registry_is_named(path: Path, tmp_path: Path) -> None:
    path.write_text("this is not a database, and long enough to be sure of it" * 20)
    with pytest.raises(RegistryError, match=r"registry\.db: file is not a database"):
        Registry(path)
    with pytest.raises(RegistryError, match="unable to open"):
        Registry(tmp_path / "missing" / "registry.db")


def test_a_registry_that_cannot_be_read_keeps_the_devices_known(
    registry: Registry, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = registry.add("kiln-1")
    registry.refresh()
    good = path.read_bytes()
    path.write_bytes(b"x" * len(good))
    with caplog.at_level(logging.WARNING):
        assert registry.refresh() == frozenset()
        assert registry.refresh() == frozenset()
    assert [record.message.count("cannot be read") for record in caplog.records] == [1]
    assert registry.devices.authenticate("kiln-1", token) is not None
    path.write_bytes(good)
    registry.revoke("kiln-1")
    assert registry.refresh() == {"kiln-1"}


def test_a_hundred_thousand_devices_are_opened_and_refreshed_in_moderate_time(path: Path, registry: Registry) -> None:
    db = sqlite3.connect(path)
    with db:
        db.executemany(
            "INSERT INTO devices VALUES (?, 'default', '{}', ?, 0, 0, ?, NULL, NULL)",
            ((f"device-{n}", n.to_bytes(32, "big"), n) for n in range(1, 100_001)),
        )
    db.close()
    begin = time.process_time()
    registry.refresh()
    assert len(registry.devices.list()) == 100_000
    assert time.process_time() - begin < 10
