from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gateway.cli.output import moment, number, print_json, print_json_line, print_table, printable, span

if TYPE_CHECKING:
    import pytest


def test_a_table_for_a_pipe_is_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "what is it"), [("a", "x" * 5000), ("b", None), ("[red]c", 3)])
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["NAME", "WHAT", "IS", "IT"]
    assert [row.split() for row in rows] == [["a", "x" * 5000], ["b", "-"], ["[red]c", "3"]]


def test_foreign_text_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("reason",), [("a\x1b[2Jb\nc\u202ed °",)])
    assert capsys.readouterr().out.splitlines()[1].strip() == "a\\x1b[2Jb\\nc\\u202ed °"
    assert printable("ü°C ok") == "ü°C ok"


def test_json_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"a": ["°C", None, 1.5, "\x1b"]}
    print_json(value)
    document = capsys.readouterr().out
    print_json_line(value)
    line = capsys.readouterr().out
    assert json.loads(document) == json.loads(line) == value
    assert line.count("\n") == 1
    assert "\x1b" not in document + line


def test_moments_are_utc_and_numbers_readable() -> None:
    assert moment(1_700_000_000_999_999_999) == "2023-11-14 22:13:20Z"
    assert moment(None) is None
    assert number(1234567.8) == "1 234 568"


def test_spans_are_short() -> None:
    assert [span(minutes) for minutes in (None, 0.04, 119, 121, 3000, 3_650_901)] == [
        None,
        "0.0 minutes",
        "119.0 minutes",
        "2.0 hours",
        "2 days",
        "2 535 days",
    ]
