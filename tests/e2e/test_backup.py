"""A copy made under load, and another gateway that goes on from it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from gateway.config import load
from gateway.errors import GatewayError
from gateway.state import backup as copies
from tests.support.cli import in_a_process
from tests.support.device import answer, device, hello
from tests.support.gateway import RunningGateway, config_for, running_gateway, wait_for
from tests.support.servers import free_port

if TYPE_CHECKING:
    from pathlib import Path

SMALL = {"spool": {"segment_bytes": "64KiB", "max_bytes": "64MiB", "keep_delivered": "0s"}}
WORDS = "a reading long enough to fill segments quickly, and to have them go while the copy is made " * 4


class Load:
    """A device that sends as fast as it is acknowledged; ``acked`` is the last number that is safe."""

    def __init__(self, gateway: RunningGateway) -> None:
        self.acked = -1
        self._gateway = gateway
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        sent = 0
        with device(self._gateway, "d") as socket:
            hello(socket, "b1")
            while not self._stop.is_set():
                values = {"n": sent, "words": WORDS}
                socket.send(json.dumps({"seq": sent, "ts": 1_700_000_000_000 + sent, "values": values}))
                sent += 1
                while sent - self.acked > 200:
                    self.acked = answer(socket)["seq"]

    def more(self, readings: int) -> None:
        """Wait until so many more are acknowledged."""
        target = self.acked + readings
        wait_for(lambda: self.acked >= target, "more readings")

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)


def stored(path: Path) -> set[float]:
    with closing(sqlite3.connect(path)) as db:
        return {value for (value,) in db.execute("SELECT value FROM readings WHERE field = 'n'")}


def elsewhere(directory: Path, over: dict[str, Any]) -> Path:
    """The configuration of another machine."""
    directory.mkdir()
    path = directory / "config.yaml"
    path.write_text(yaml.safe_dump(config_for(directory, over)))
    return path


def restored(copy: Path, directory: Path, over: dict[str, Any]) -> None:
    done = in_a_process("restore", str(copy), "--config", str(elsewhere(directory, over)))
    assert done.returncode == 0, done.stderr


def test_a_copy_under_load_has_every_reading_that_was_acknowledged_before(tmp_path: Path) -> None:
    """Segments come and go with every few hundred readings, so checkpoint and segments change under the copy."""
    copy, new = tmp_path / "copy", tmp_path / "new"
    with running_gateway(tmp_path / "old", SMALL) as gateway:
        assert gateway.cli("devices", "add", "registered").returncode == 0
        with Load(gateway) as load_:
            load_.more(700)
            acked = load_.acked
            done = gateway.cli("backup", str(copy))
            assert done.returncode == 0, done.stderr
    restored(copy, new, SMALL)
    with running_gateway(new, SMALL) as gateway:
        sums = gateway.settled("d")
        assert sums["stored"] == sums["received"] > acked
        assert sums["dropped"] == 0
        assert gateway.request("/v1/devices/registered")[0] == 200
        assert gateway.request("/readyz")[1]["warnings"] == []
        with device(gateway, "d") as socket:
            last = hello(socket, "b1")
        assert last is not None
        assert last >= acked
        assert gateway.stop() == 0
    assert stored(new / "data.db") >= set(range(acked + 1))


def test_readings_that_wait_for_a_database_go_to_that_of_the_other_machine(tmp_path: Path) -> None:
    influx = {"url": f"http://127.0.0.1:{free_port()}", "api": "v1", "database": "d"}
    with running_gateway(tmp_path / "old", {**SMALL, "sink": "influxdb", "influxdb": influx}) as gateway:
        with Load(gateway) as load_:
            load_.more(300)
            acked = load_.acked
            copy = tmp_path / "copy"
            assert gateway.cli("backup", str(copy)).returncode == 0
        assert gateway.stop() == 0
    assert not (copy / copies.DATABASE).exists()
    restored(copy, tmp_path / "new", SMALL)
    with running_gateway(tmp_path / "new", SMALL) as gateway:
        assert gateway.settled("d")["stored"] > acked
        assert gateway.stop() == 0
    assert stored(tmp_path / "new/data.db") >= set(range(acked + 1))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    with running_gateway(tmp_path / "old", {}) as gateway:
        assert gateway.request("/v1/devices/d/readings", body=b'{"n":1}')[0] == 200
        gateway.settled("d")
        assert gateway.cli("backup", str(tmp_path / "copy")).returncode == 0
    return tmp_path / "copy"


def test_a_copy_goes_into_an_empty_place_and_is_whole(copy: Path, tmp_path: Path) -> None:
    new, used = load(elsewhere(tmp_path / "new", {}), {}), load(tmp_path / "old/config.yaml", {})
    with pytest.raises(GatewayError, match="is not empty"):
        copies.backup(used, copy)
    with pytest.raises(GatewayError, match="is not empty"):
        copies.restore(used, copy)
    with pytest.raises(GatewayError, match="no finished backup"):
        copies.restore(new, tmp_path)
    shutil.copytree(copy, tmp_path / "cut")
    segment = next((tmp_path / "cut/spool").glob("*.seg"))
    segment.write_bytes(segment.read_bytes()[:-1])
    with pytest.raises(GatewayError, match="is incomplete: spool/"):
        copies.restore(new, tmp_path / "cut")
    assert not list(new.state.directory.glob("*"))
    assert copies.restore(new, copy).files.keys() >= {"state/registry.db", "state/ledger.json", "spool/cursor"}
    assert stored(new.sqlite.path) == {1}
