from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from gateway.errors import GatewayError
from gateway.state.sqlite_file import open_naming_file, open_store, transaction

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

SCHEMA = "CREATE TABLE IF NOT EXISTS t (n INTEGER)"


def rows(db: sqlite3.Connection) -> list[int]:
    return [n for (n,) in db.execute("SELECT n FROM t ORDER BY n")]


@pytest.mark.parametrize(("synchronous", "level"), [("FULL", 2), ("NORMAL", 1)])
def test_a_store_is_made_kept_and_synced_as_asked(tmp_path: Path, synchronous: str, level: int) -> None:
    for seen in ([], [1]):
        with closing(open_store(tmp_path / "s.db", "things", 3, SCHEMA, synchronous)) as db:  # type: ignore[arg-type]
            assert rows(db) == seen
            assert db.execute("PRAGMA synchronous").fetchone() == (level,)
            assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert db.execute("PRAGMA user_version").fetchone() == (3,)
            with transaction(db):
                db.execute("INSERT INTO t VALUES (1)")


def test_a_store_that_is_there_is_opened_without_a_write(tmp_path: Path) -> None:
    written = tmp_path / "s.db-wal"
    with closing(open_store(tmp_path / "s.db", "things", 3, SCHEMA)) as db:
        with transaction(db):
            db.execute("INSERT INTO t VALUES (1)")
        before = written.stat().st_size
        with closing(open_store(tmp_path / "s.db", "things", 3, SCHEMA)) as again:
            assert rows(again) == [1]
        assert written.stat().st_size == before > 0
        with closing(open_store(tmp_path / "s.db", "things", 4, SCHEMA)) as newer:
            assert newer.execute("PRAGMA user_version").fetchone() == (4,)
        assert written.stat().st_size > before


def test_a_transaction_is_done_whole_or_not_at_all(tmp_path: Path) -> None:
    with closing(open_store(tmp_path / "s.db", "things", 1, SCHEMA)) as db:
        with pytest.raises(ZeroDivisionError), transaction(db):
            db.execute("INSERT INTO t VALUES (1)")
            raise ZeroDivisionError
        assert (rows(db), db.in_transaction) == ([], False)


def test_a_file_that_cannot_be_used_is_let_go(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    open_store(path, "things", 2, SCHEMA).close()
    with pytest.raises(GatewayError, match=r"things .*s\.db was written by a newer gateway"):
        open_store(path, "things", 1, SCHEMA)
    path.unlink()  # and nothing is left that holds a lock or a log of it
    assert list(tmp_path.iterdir()) == []


def test_an_error_names_the_store_and_says_what_to_do_where_the_file_is_damaged(tmp_path: Path) -> None:
    def store(path: Path) -> sqlite3.Connection:
        return open_store(path, "things", 1, SCHEMA)

    path = tmp_path / "s.db"
    open_naming_file("things", store, path).close()
    path.write_bytes(b"no database " * 500)
    with pytest.raises(GatewayError, match=r"things .*s\.db: file is not a database; restore it .*s\.db-wal and -shm"):
        open_naming_file("things", store, path)
    with pytest.raises(GatewayError, match=r"things .*missing/s\.db: unable to open database file$"):
        open_naming_file("things", store, tmp_path / "missing/s.db")
