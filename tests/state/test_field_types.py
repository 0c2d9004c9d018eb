from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from gateway.state.field_types import FieldTypeStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

A, B = ("m", "a"), ("m", "b")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "field_types.db"


@pytest.fixture
def store(path: Path) -> Iterator[FieldTypeStore]:
    made = FieldTypeStore(path)
    yield made
    made.close()


def test_what_is_new_is_kept_and_the_first_type_counts(store: FieldTypeStore, path: Path) -> None:
    assert store.refresh({A: "float"}, []) == {A: "float"}
    assert store.refresh({A: "string", B: "bool"}, []) is None, "nobody else changed it"
    other = FieldTypeStore(path)
    assert other.refresh({}, []) == {A: "float", B: "bool"}
    assert [row[:3] for row in other.list("m")] == [("m", "a", "float"), ("m", "b", "bool")]
    assert other.list("n") == []
    other.close()


def test_what_another_process_forgets_is_seen(store: FieldTypeStore, path: Path) -> None:
    store.refresh({A: "float", B: "bool"}, [])
    other = FieldTypeStore(path)
    assert other.forget("m", "a")
    assert not other.forget("m", "a")
    other.close()
    assert store.refresh({}, []) == {B: "bool"}


def test_what_is_doubted_goes_before_what_is_new_comes(store: FieldTypeStore, path: Path) -> None:
    store.refresh({A: "string", B: "bool"}, [])
    store.refresh({A: "float"}, [A, B])
    other = FieldTypeStore(path)
    assert other.refresh({}, []) == {A: "float"}
    other.close()


def test_a_damaged_file_is_begun_anew(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_bytes(b"nonsense" * 1000)
    store = FieldTypeStore(path)
    assert store.refresh({A: "float"}, []) == {A: "float"}
    store.close()
    assert "is damaged" in caplog.text


def test_a_file_that_fails_is_told_once_and_is_no_error(
    store: FieldTypeStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE types")
    db.close()
    for _ in range(2):
        assert store.refresh({A: "float"}, []) is None
    assert len([record for record in caplog.records if "will be learned again" in record.message]) == 1
