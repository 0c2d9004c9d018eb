from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING

import pytest

from gateway.delivery.dead_letters import DeadLetter, DeadLetters

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.cli import Command

COMMITTED_NS = 1_700_000_000_000_000_000


def letter(record_id: int, data: bytes, kind: str = "malformed", reason: str = "unable to parse") -> DeadLetter:
    return DeadLetter(
        record_id=record_id,
        line=0,
        committed_ns=COMMITTED_NS,
        device=f"kiln-{record_id}",
        counted=True,
        refused_ns=COMMITTED_NS + 10**9,
        kind=kind,
        reason=reason,
        data=data,
    )


@pytest.fixture
def letters(gateway: Command) -> Path:
    """Three refused points, of which SQLite takes two; the third is no line protocol."""
    gateway.configure({"sqlite": {"retention": None}})
    path = gateway.directory / "dead_letters.db"
    store = DeadLetters(path)
    store.add(letter(1, b'kiln,device=kiln-1 note="two\nlines" 1700000000000000000\n'))
    store.add(letter(2, b"kiln,device=kiln-2 temp=1.5 1700000000000000001\n", "type_conflict", "a \x1b[2J [b]"))
    store.add(letter(3, b"nonsense\n"))
    store.close()
    return path


@pytest.mark.usefixtures("letters")
def test_list_shows_the_oldest_first(gateway: Command) -> None:
    result = gateway("dead-letters", "list")
    header, *rows = result.stdout.splitlines()
    assert header.split() == ["N", "REFUSED", "DEVICE", "KIND", "REASON", "POINT"]
    assert [row.split()[:5] for row in rows] == [
        ["1", "2023-11-14", "22:13:21Z", "kiln-1", "malformed"],
        ["2", "2023-11-14", "22:13:21Z", "kiln-2", "type_conflict"],
        ["3", "2023-11-14", "22:13:21Z", "kiln-3", "malformed"],
    ]
    assert 'note="two\\nlines"' in rows[0]
    assert "a \\x1b[2J [b]" in rows[1]
    assert result.stderr == "3 of 3 shown\n"


@pytest.mark.usefixtures("letters")
@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        ([], [1, 2, 3]),
        (["--reason", "malformed"], [1, 3]),
        (["--device", "kiln-2"], [2]),
        (["--device", "kiln-2", "--reason", "malformed"], []),
        (["--after", "1", "--limit", "1"], [2]),
        (["--device", "nobody"], []),
    ],
)
def test_list_takes_filters(gateway: Command, arguments: list[str], numbers: list[int]) -> None:
    assert [found["n"] for found in gateway.json("dead-letters", "list", *arguments)] == numbers


def test_a_table_is_short_and_json_is_complete(gateway: Command) -> None:
    store = DeadLetters(gateway.directory / "dead_letters.db")
    for n in range(102):
        store.add(letter(n, b"m f=1 1\n"))
    store.close()
    result = gateway("dead-letters", "list")
    assert len(result.stdout.splitlines()) == 101
    assert result.stderr == "100 of 102 shown\n"
    assert len(gateway.json("dead-letters", "list")) == 102


@pytest.mark.usefixtures("letters")
def test_show_has_everything(gateway: Command) -> None:
    assert gateway.json("dead-letters", "show", "2") == {
        "n": 2,
        "device": "kiln-2",
        "measurement": "kiln",
        "refused": "2023-11-14 22:13:21Z",
        "committed": "2023-11-14 22:13:20Z",
        "record": 2,
        "line": 0,
        "kind": "type_conflict",
        "reason": "a \x1b[2J [b]",
        "point": "kiln,device=kiln-2 temp=1.5 1700000000000000001",
    }
    assert "kiln,device=kiln-2 temp=1.5" in gateway("dead-letters", "show", "2").stdout
    result = gateway("dead-letters", "show", "4")
    assert (result.exit_code, result.stderr) == (1, "gateway: there is no dead letter 4\n")


def stored(gateway: Command) -> list[tuple[str, str, object]]:
    with sqlite3.connect(gateway.directory / "telemetry.db") as db:
        rows = db.execute("SELECT device, field, value FROM readings ORDER BY time_ns").fetchall()
    db.close()
    return rows


@pytest.mark.usefixtures("letters")
def test_replay_stores_what_the_database_takes_now(gateway: Command) -> None:
    result = gateway("dead-letters", "replay")
    assert (result.exit_code, result.stdout) == (1, "2 stored, 1 refused again, 1 left\n")
    assert stored(gateway) == [("kiln-1", "note", "two\nlines"), ("kiln-2", "temp", 1.5)]
    assert [found["n"] for found in gateway.json("dead-letters", "list")] == [3]


@pytest.mark.usefixtures("letters")
def test_replay_takes_filters(gateway: Command) -> None:
    result = gateway("dead-letters", "replay", "--device", "kiln-1", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"stored": 1, "refused": 0, "left": 2, "stopped": None}
    assert gateway("dead-letters", "replay", "--reason", "type_conflict").exit_code == 0
    assert [found["n"] for found in gateway.json("dead-letters", "list")] == [3]


@pytest.mark.usefixtures("letters")
def test_replay_into_a_database_that_is_away_keeps_everything(gateway: Command) -> None:
    # Port 9 (discard) of this machine has no server.
    influxdb = {"api": "v1", "url": "http://127.0.0.1:9", "timeout": "1s"}
    gateway.configure({"sink": "influxdb", "influxdb": influxdb})
    result = gateway("dead-letters", "replay")
    assert result.exit_code == 1
    assert result.stdout == "0 stored, 0 refused again, 3 left\n"
    assert result.stderr.startswith("gateway: the database cannot take points now: ")
    assert len(gateway.json("dead-letters", "list")) == 3


@pytest.mark.usefixtures("letters")
def test_drop_deletes_for_good(gateway: Command) -> None:
    assert gateway("dead-letters", "drop", "--reason", "type_conflict").stdout == "1 dropped\n"
    assert gateway.json("dead-letters", "drop") == {"dropped": 2}
    assert gateway.json("dead-letters", "list") == []


@pytest.mark.usefixtures("letters")
def test_drop_asks_a_person_first(gateway: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True)
    result = gateway("dead-letters", "drop", "--device", "kiln-2")
    assert result.exit_code == 1
    assert "Delete the refused points of device kiln-2 for good? [y/N]" in result.stderr
    monkeypatch.undo()
    assert len(gateway.json("dead-letters", "list")) == 3


def test_where_nothing_was_refused_nothing_is_made(gateway: Command) -> None:
    assert gateway.json("dead-letters", "list") == []
    assert gateway("dead-letters", "replay").stdout == "0 stored, 0 refused again, 0 left\n"
    assert gateway("dead-letters", "drop").stdout == "0 dropped\n"
    assert gateway("dead-letters", "show", "1").exit_code == 1
    assert [path.name for path in gateway.directory.iterdir()] == ["config.yaml"]
