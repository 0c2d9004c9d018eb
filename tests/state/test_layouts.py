"""What is on disk has a version: an older one is read, a newer one is refused in words and left as it is."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from google_crc32c import value as crc32c

from gateway.delivery.dead_letters import DeadLetters
from gateway.errors import GatewayError
from gateway.ledger import Entry, Ledger
from gateway.spool.files import Files
from gateway.spool.segment import _CRC, _OPENING, SegmentHeader, SegmentWriter, path_of, read_header
from gateway.state import backup, checkpoint
from gateway.state.command_log import CommandLog
from gateway.state.device_settings import DeviceSettingsStore
from gateway.state.enrolments import Enrolments
from gateway.state.field_types import FieldTypeStore
from gateway.state.registry import Registry
from tests.support.delivery import line

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STORES = [CommandLog, DeadLetters, Enrolments, FieldTypeStore, Registry, DeviceSettingsStore]


def set_version(path: Path, version: int) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {version}")
        db.commit()


@pytest.mark.parametrize("store", STORES)
def test_a_newer_store_is_refused_in_words_and_not_touched(
    tmp_path: Path,
    store: Callable[[Path], CommandLog | DeadLetters | Enrolments | FieldTypeStore | Registry | DeviceSettingsStore],
) -> None:
    path = tmp_path / "store.db"
    store(path).close()
    set_version(path, 99)
    before = path.read_bytes()
    with pytest.raises(GatewayError, match=r"written by a newer gateway .*version 99.*run that gateway"):
        store(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("store", [DeadLetters, FieldTypeStore])
def test_a_store_from_before_it_had_a_version_is_read(
    tmp_path: Path, store: Callable[[Path], DeadLetters | FieldTypeStore]
) -> None:
    path = tmp_path / "store.db"
    first = store(path)
    if isinstance(first, FieldTypeStore):
        first.refresh({("kiln", "temp"): "float"}, ())
    first.close()
    set_version(path, 0)
    again = store(path)
    assert not isinstance(again, FieldTypeStore) or again.list()[0][:3] == ("kiln", "temp", "float")
    again.close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)


def rewrite(path: Path, version: int | None) -> None:
    """Give a checkpoint another version, or none, and the checksum that fits."""
    document = json.loads(path.read_bytes().rpartition(b"\n")[0])
    document.pop("version", None)
    if version is not None:
        document["version"] = version
    data = json.dumps(document).encode()
    path.write_bytes(data + b"\n" + checkpoint._checksum(data))


def test_the_checkpoint_of_an_older_gateway_is_read_and_of_a_newer_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    ledger = Ledger()
    ledger.committed(7, [Entry("d", lines=3, payload=line("d", 1))])
    checkpoint.writer(ledger, path, Files())()
    rewrite(path, None)
    assert checkpoint.load(path).accounts["d"].received == 3
    rewrite(path, 2)
    with pytest.raises(GatewayError, match=r"written by a newer gateway .*version 2"):
        checkpoint.load(path)


def test_a_segment_of_a_newer_gateway_is_refused(tmp_path: Path) -> None:
    files = Files()
    SegmentWriter(files, tmp_path, SegmentHeader(1)).seal()
    path = path_of(tmp_path, 1)
    assert read_header(files, path) == SegmentHeader(1)
    data = bytearray(path.read_bytes())
    magic, version = _OPENING.unpack_from(data)
    opening = _OPENING.pack(magic, version + 1)
    data[: len(opening) + _CRC.size] = opening + _CRC.pack(crc32c(opening))
    path.write_bytes(data)
    with pytest.raises(GatewayError, match="run the version that wrote it"):
        read_header(files, path)


def test_a_copy_of_a_newer_gateway_is_refused(tmp_path: Path) -> None:
    manifest = {"version": backup.BACKUP_VERSION + 1, "gateway": "9.0", "made_ns": 0, "files": {}}
    (tmp_path / backup.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(GatewayError, match=r"made by gateway 9\.0 in format 2"):
        backup.read_manifest(tmp_path)
