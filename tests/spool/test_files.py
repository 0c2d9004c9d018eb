from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gateway.spool.files import NEW, File, Files

if TYPE_CHECKING:
    from pathlib import Path

FILES = Files()


def test_bytes_are_written_and_read_at_offsets(tmp_path: Path) -> None:
    file = FILES.create(tmp_path / "a")
    file.write(0, b"0123456789")
    file.write(4, b"xy")
    file.sync()
    assert file.read(3, 4) == b"3xy6"
    assert file.read(8, 100) == b"89"
    file.truncate(3)
    file.close()
    assert FILES.size(tmp_path / "a") == 3
    reader = FILES.open(tmp_path / "a")
    assert reader.read(0, 9) == b"012"
    reader.close()


def test_create_empties_and_edit_does_not(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    FILES.edit(path).close()
    assert path.read_bytes() == b"old"
    FILES.create(path).close()
    assert path.read_bytes() == b""
    FILES.edit(tmp_path / "b").close()
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o600


def test_a_short_read_is_continued_to_the_error_or_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def before_the_bad_sector(descriptor: int, size: int, offset: int) -> bytes:
        if offset >= 6:
            raise OSError(errno.EIO, "bad sector")
        return real(descriptor, min(size, 6 - offset, 4), offset)

    real = os.pread
    file = FILES.create(tmp_path / "a")
    file.write(0, b"0123456789")
    monkeypatch.setattr(os, "pread", before_the_bad_sector)
    assert file.read(0, 6) == b"012345"
    with pytest.raises(OSError, match="bad sector"):
        file.read(0, 7)
    monkeypatch.setattr(os, "pread", lambda descriptor, size, offset: real(descriptor, min(size, 3), offset))
    assert file.read(1, 99) == b"123456789"
    file.close()


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: real(descriptor, bytes(data)[:3], offset))
    file = FILES.create(tmp_path / "a")
    file.write(2, b"0123456789")
    assert file.read(0, 99) == b"\0\0" + b"0123456789"
    monkeypatch.setattr(os, "pwrite", lambda *_: 0)
    with pytest.raises(OSError, match="takes no more bytes"):
        file.write(0, b"x")
    file.close()


def test_room_is_taken_on_the_disk(tmp_path: Path) -> None:
    file = FILES.create(tmp_path / "a")
    file.allocate(100_000)
    file.close()
    assert (tmp_path / "a").stat().st_blocks * 512 >= 100_000


def test_names(tmp_path: Path) -> None:
    assert FILES.names(tmp_path / "nothing") == []
    FILES.make_dir(tmp_path / "x" / "y")
    FILES.make_dir(tmp_path / "x" / "y")
    for name in "b", "a":
        FILES.create(tmp_path / "x" / name).close()
    FILES.rename(tmp_path / "x" / "b", tmp_path / "x" / "c")
    FILES.unlink(tmp_path / "x" / "a")
    FILES.sync_dir(tmp_path / "x")
    assert FILES.names(tmp_path / "x") == ["c", "y"]
    with pytest.raises(FileNotFoundError):
        FILES.unlink(tmp_path / "x" / "a")


def test_replace_puts_the_new_content_in_the_place_of_the_old(tmp_path: Path) -> None:
    path = tmp_path / "a"
    FILES.replace(path, b"one")
    FILES.replace(path, b"two")
    assert path.read_bytes() == b"two"
    assert FILES.names(tmp_path) == ["a"]


@pytest.mark.parametrize("failing", ["write", "sync"])
def test_a_replacement_that_fails_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    path = tmp_path / "a"
    FILES.replace(path, b"one")
    monkeypatch.setattr(File, failing, fail)
    with pytest.raises(OSError, match="full"):
        FILES.replace(path, b"two")
    assert path.read_bytes() == b"one"
    assert FILES.names(tmp_path) == ["a"], f"{path.name + NEW} still takes room"


def test_only_one_process_has_the_lock_and_it_ends_with_the_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    hold = (
        "import sys, pathlib; from gateway.spool.files import Files;"
        "file = Files().edit(pathlib.Path(sys.argv[1])); print(file.try_lock(), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        file = FILES.edit(path)
        assert not file.try_lock()
        other.kill()
        other.wait(timeout=10)
    assert file.try_lock()
    file.close()
