"""The gateway goes on while it is copied: what is in a copy belongs together all the same."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from gateway.config import Config
from gateway.errors import GatewayError
from gateway.state import backup as copies

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FIRST, SECOND, THIRD = (f"{n:020d}.seg" for n in (1, 2, 3))


class Disk:
    """State and spool of a gateway; as it goes on, a segment is delivered, counted and removed, and one is new."""

    def __init__(self, directory: Path) -> None:
        self.state, self.spool = directory / "state", directory / "state/spool"
        self.spool.mkdir(parents=True)
        self.config = Config(state={"directory": str(self.state)})  # type: ignore[arg-type]
        self.write(ledger="counts 1", cursor="1", segments=(FIRST, SECOND))
        with closing(sqlite3.connect(self.state / "dead_letters.db")) as db:
            db.execute("CREATE TABLE letters (n)")

    def write(self, *, ledger: str, cursor: str, segments: tuple[str, ...]) -> None:
        (self.state / "ledger.json").write_text(ledger)
        (self.spool / "cursor").write_text(cursor)
        for path in self.spool.glob("*.seg"):
            if path.name not in segments:
                path.unlink()
        for name in segments:
            (self.spool / name).write_text(name)

    def goes_on(self) -> None:
        self.write(ledger="counts 2", cursor="2", segments=(SECOND, THIRD))


def during(monkeypatch: pytest.MonkeyPatch, step: str, event: Callable[[], None], *, times: int = 1) -> None:
    """Let ``event`` happen after the first ``times`` calls of a step of the copy."""
    real, left = getattr(copies, step), [times]

    def wrapped(*arguments: Any) -> Any:
        found = real(*arguments)
        if left[0] > 0:
            left[0] -= 1
            event()
        return found

    monkeypatch.setattr(copies, step, wrapped)


def content(copy: Path) -> tuple[str, str, set[str]]:
    segments = {path.name for path in (copy / "spool").glob("*.seg")}
    assert all((copy / "spool" / name).read_text() == name for name in segments)
    return (copy / "state/ledger.json").read_text(), (copy / "spool/cursor").read_text(), segments


@pytest.mark.parametrize("step", ["_content", "_opened", "_copy_sqlite"])
def test_checkpoint_and_segments_belong_together_whenever_the_gateway_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    disk = Disk(tmp_path)
    during(monkeypatch, step, disk.goes_on)
    copies.backup(disk.config, tmp_path / "copy")
    ledger, cursor, segments = content(tmp_path / "copy")
    assert ledger == "counts 2"
    assert segments == {SECOND, THIRD}
    assert cursor in {"1", "2"}


def test_the_cursor_is_not_newer_than_what_it_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(tmp_path)
    during(monkeypatch, "_opened", lambda: disk.write(ledger="counts 1", cursor="9", segments=(FIRST, SECOND)))
    copies.backup(disk.config, tmp_path / "copy")
    assert content(tmp_path / "copy")[1] == "1"


def test_a_gateway_that_never_holds_still_is_given_up_and_leaves_no_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, writes = Disk(tmp_path), iter(range(10_000))
    during(monkeypatch, "_opened", lambda: disk.write(ledger=f"{next(writes)}", cursor="1", segments=()), times=10_000)
    with pytest.raises(GatewayError, match="try again later"):
        copies.backup(disk.config, tmp_path / "copy")
    with pytest.raises(GatewayError, match="no finished backup"):
        copies.read_manifest(tmp_path / "copy")


def test_a_segment_that_is_delivered_while_it_is_copied_is_in_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(tmp_path)
    during(monkeypatch, "_together", disk.goes_on)
    copies.backup(disk.config, tmp_path / "copy")
    assert content(tmp_path / "copy") == ("counts 1", "1", {FIRST, SECOND})
    assert json.loads((tmp_path / "copy/backup.json").read_text())["files"][f"spool/{FIRST}"] == len(FIRST)


def test_there_may_be_more_segments_than_files_open_by_the_soft_limit(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    names = tuple(f"{n:020d}.seg" for n in range(1, 101))
    disk.write(ledger="counts 1", cursor="1", segments=names)
    program = (
        "import resource, sys; from pathlib import Path; from gateway.config import Config;"
        "from gateway.state import backup;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 500));"
        "backup.backup(Config(state={'directory': sys.argv[1]}), Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", program, str(disk.state), str(tmp_path / "copy")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert content(tmp_path / "copy") == ("counts 1", "1", set(names))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_restores_belongs_to_the_user_of_the_service(tmp_path: Path) -> None:
    old, home = Disk(tmp_path / "old"), tmp_path / "new"
    copies.backup(old.config, tmp_path / "copy")
    home.mkdir()
    os.chown(home, 61_234, 61_235)
    new = Config(
        state={"directory": str(home / "state")},  # type: ignore[arg-type]
        spool={"directory": str(home / "spool")},  # type: ignore[arg-type]
    )
    copies.restore(new, tmp_path / "copy")
    made = {(path.name, path.stat().st_uid, path.stat().st_gid) for path in home.rglob("*")}
    assert {name for name, *_ in made} >= {"state", "spool", "ledger.json", FIRST}
    assert {(user, group) for _, user, group in made} == {(61_234, 61_235)}
