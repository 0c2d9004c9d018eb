"""A backup of everything that a gateway keeps, made while it runs, and how it is restored on this or another machine.

The order of copying makes the files of a backup fit together:

* The ledger's checkpoint counts the records of deleted segments. So a backup needs every segment that is newer than its
  checkpoint. A segment is deleted only after a newer checkpoint was written. So the checkpoint is read, all segments
  are opened (an open file can be read after its name is deleted), and the checkpoint is read again. If it is the same,
  they fit together; otherwise all of this is repeated. There may be many segments: the soft limit of open files is
  raised.
* Dead letters are deleted only after a checkpoint that counts them, and written before their record is acknowledged. So
  they are copied between the two readings of the checkpoint.
* The cursor is read first. If it is too old, readings are delivered a second time, which overwrites the same points; if
  it were too new, records would be skipped. The embedded database is copied last, so it has all that the cursor passed.
* The end of the newest segment may be in the middle of a write. Recovery ignores an unfinished end.

So a backup has every reading that was acknowledged before it began. The manifest is written last: a directory without
it is no finished backup.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from gateway import __version__
from gateway.errors import GatewayError
from gateway.process.file_limit import raise_file_limit
from gateway.spool import cursor
from gateway.spool.files import NEW, Files
from gateway.state.file_names import DEAD_LETTERS, LEDGER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gateway.config import Config

MANIFEST = "backup.json"
BACKUP_VERSION = 1
STATE, SPOOL, DATABASE = "state", "spool", "database.db"
SEGMENTS = "*.seg"
MAX_TRIES = 50
_SQLITE = b"SQLite format 3\x00"
_BESIDE = ("-wal", "-shm", "-journal", NEW)
"""Endings of files that are not copied: unfinished writes, and the files that SQLite keeps beside a database."""


@dataclass(frozen=True, slots=True)
class BackupManifest:
    """The contents of a finished backup."""

    made_ns: int
    """In ns since 1970."""
    files: dict[str, int]
    """The size in bytes of each file, by its name below the directory."""

    @property
    def bytes(self) -> int:
        """The size of all files together."""
        return sum(self.files.values())


def backup(config: Config, target: Path, *, database: bool = True) -> BackupManifest:
    """Copy state and spool, and the embedded database if that is the sink and ``database`` is true, into ``target``.

    Raises:
        GatewayError: ``target`` is not empty, there is nothing to copy, or the gateway writes checkpoints too fast.
        OSError, sqlite3.Error: a file cannot be read or written.
    """
    state, spool = config.state.directory, config.spool.directory
    if not state.is_dir():
        raise GatewayError(f"there is no state in {state}: has a gateway run with this configuration?")
    raise_file_limit()
    _begin(target)
    for part in (STATE, SPOOL):
        (target / part).mkdir(mode=0o700)
    _copy_spool(state, spool, target)
    apart = {LEDGER, DEAD_LETTERS, config.sqlite.path.name if config.sqlite.path.parent == state else ""}
    for path in _files(state):
        if path.name not in apart:
            _copy_file(path, target / STATE / path.name)
    if database and config.sink == "sqlite" and config.sqlite.path.exists():
        _copy_sqlite(config.sqlite.path, target / DATABASE)
    return _finish(target)


def restore(config: Config, source: Path) -> BackupManifest:
    """Copy the backup in ``source`` into the directories of ``config``, which must be empty.

    Raises:
        GatewayError: the backup is incomplete or of a newer version, or a directory is not empty.
        OSError: a file cannot be read or written.
    """
    copied = read_manifest(source)
    places = {STATE: config.state.directory, SPOOL: config.spool.directory}
    for place in places.values():
        if place.is_dir() and any(path.is_file() for path in place.iterdir()):
            raise GatewayError(f"{place} is not empty: a backup is restored into empty directories only")
    if DATABASE in copied.files and config.sqlite.path.exists():
        raise GatewayError(f"{config.sqlite.path} exists: a backup does not replace a database")
    for name in copied.files:
        part, _, rest = name.partition("/")
        path = config.sqlite.path if name == DATABASE else places[part] / rest
        _make_directory(path.parent)
        with (source / name).open("rb") as file:
            _write(file, copied.files[name], path)
        _give_to_owner(path)
    for place in {*places.values(), config.sqlite.path.parent}:
        if place.is_dir():
            Files().sync_dir(place)
    return copied


def _make_directory(directory: Path) -> None:
    if not directory.is_dir():
        _make_directory(directory.parent)
        directory.mkdir(mode=0o700)
        _give_to_owner(directory)


def _give_to_owner(path: Path) -> None:
    """As root, give ``path`` to the owner of the directory around it: the service runs as a user of its own."""
    if os.geteuid() == 0:
        around = path.parent.stat()
        os.chown(path, around.st_uid, around.st_gid)


def read_manifest(source: Path) -> BackupManifest:
    """What the backup in ``source`` has.

    Raises:
        GatewayError: as `restore`.
    """
    try:
        found = json.loads((source / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise GatewayError(f"{source} has no finished backup: there is no {MANIFEST}") from None
    if found["version"] > BACKUP_VERSION:
        raise GatewayError(
            f"the backup in {source} was made by gateway {found['gateway']} in format {found['version']}, this gateway "
            f"reads up to {BACKUP_VERSION}: restore it with that gateway or a later one"
        )
    for name, size in found["files"].items():
        path = source / name
        if not path.is_file() or path.stat().st_size != size:
            raise GatewayError(f"the backup in {source} is incomplete: {name} should have {size} bytes")
    return BackupManifest(found["made_ns"], found["files"])


def _begin(target: Path) -> None:
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(target.iterdir()):
        raise GatewayError(f"{target} is not empty: a backup needs a directory of its own")


def _finish(target: Path) -> BackupManifest:
    files = {str(path.relative_to(target)): path.stat().st_size for path in sorted(target.rglob("*")) if path.is_file()}
    copied = BackupManifest(time.time_ns(), files)
    document = {"version": BACKUP_VERSION, "gateway": __version__, "made_ns": copied.made_ns, "files": files}
    disk = Files()
    for directory in {(target / name).parent for name in files}:
        disk.sync_dir(directory)
    disk.replace(target / MANIFEST, json.dumps(document, indent=1).encode())
    disk.sync_dir(target.parent)
    return copied


def _copy_spool(state: Path, spool: Path, target: Path) -> None:
    with contextlib.ExitStack() as stack:
        ledger, position, segments = _together(state, spool, target, stack)
        for name, data in ((f"{STATE}/{LEDGER}", ledger), (f"{SPOOL}/{cursor.NAME}", position)):
            if data is not None:
                Files().replace(target / name, data)
        for name, (file, size) in segments.items():
            _write(file, size, target / SPOOL / name)


def _together(
    state: Path, spool: Path, target: Path, stack: contextlib.ExitStack
) -> tuple[bytes | None, bytes | None, dict[str, tuple[BinaryIO, int]]]:
    """The checkpoint, the cursor and the open segments of one moment; the dead letters are copied meanwhile."""
    for _ in range(MAX_TRIES):
        with contextlib.ExitStack() as opened:
            position, ledger = _content(spool / cursor.NAME), _content(state / LEDGER)
            segments = _opened(spool, opened)
            if (state / DEAD_LETTERS).exists():
                _copy_sqlite(state / DEAD_LETTERS, target / STATE / DEAD_LETTERS)
            if _content(state / LEDGER) == ledger:
                stack.push(opened.pop_all())
                return ledger, position, segments
    raise GatewayError("the gateway wrote checkpoints faster than its dead letters could be copied: try again later")


def _opened(spool: Path, stack: contextlib.ExitStack) -> dict[str, tuple[BinaryIO, int]]:
    found: dict[str, tuple[BinaryIO, int]] = {}
    for path in sorted(spool.glob(SEGMENTS)):
        with contextlib.suppress(FileNotFoundError):  # delivered and deleted: then the checkpoint has changed, too
            file = stack.enter_context(path.open("rb"))
            found[path.name] = file, os.fstat(file.fileno()).st_size
    return found


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _files(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.iterdir()):
        if path.is_file() and not path.name.endswith(_BESIDE):
            yield path


def _copy_file(path: Path, copy: Path) -> None:
    """Copy a file of the state; one of SQLite by SQLite, because its newest pages may be in the log beside it."""
    with path.open("rb") as file:
        if file.read(len(_SQLITE)) == _SQLITE:
            _copy_sqlite(path, copy)
            return
        file.seek(0)
        _write(file, os.fstat(file.fileno()).st_size, copy)


def _copy_sqlite(path: Path, copy: Path) -> None:
    """Copy in one read transaction, for which no writer waits (https://sqlite.org/backup.html)."""
    copy.unlink(missing_ok=True)
    with (
        contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=10)) as source,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
        target.execute(
            "PRAGMA journal_mode = DELETE"
        )  # so that the copy is one file, not three; a store sets WAL when it opens it
    copy.chmod(0o600)


def _write(source: BinaryIO, size: int, path: Path) -> None:
    """Write the first ``size`` bytes durably, with the original's time: a start judges the clock by it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        left = size
        while left and (data := source.read(min(left, 1 << 20))):
            file.write(data)
            left -= len(data)
        file.flush()
        written = os.fstat(source.fileno())
        os.utime(file.fileno(), ns=(written.st_atime_ns, written.st_mtime_ns))
        os.fsync(file.fileno())
