"""Devices as CSV: what is wrong is told by line, and what is written is read back the same and is no formula."""

from __future__ import annotations

import csv
import io
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.names import DEVICE_ID
from gateway.errors import RegistryError
from gateway.state.device_csv import DeviceTable, write_devices, write_table
from gateway.state.registered_device import Device, check_device

PROFILES = ("default", "kiln")
TOKEN = "a-token-of-32-printable-letters!"


def table(text: str, known: tuple[str, ...] = ()) -> DeviceTable:
    return DeviceTable(io.StringIO(text, newline=""), PROFILES, known)


def test_a_table_is_read_by_its_headings() -> None:
    found = table(
        "id,tag:site,profile,token,state,registered\n"
        f"kiln-1,north,kiln,{TOKEN},active,2026-01-01\n"
        "\n"
        'kiln-2,"a ""b"", c",,,revoked\n'
        " kiln-3 , x ,,,\n"
    )
    assert found.problems == []
    first, second, third = found.devices
    assert (first.id, first.profile, first.tags, first.token, first.revoked) == (
        "kiln-1",
        "kiln",
        {"site": "north"},
        TOKEN,
        False,
    )
    assert (second.profile, second.tags, second.token, second.revoked) == ("default", {"site": 'a "b", c'}, None, True)
    assert (third.id, third.tags) == ("kiln-3", {"site": " x "})
    assert TOKEN not in repr(first)


def test_every_problem_is_told_with_its_line() -> None:
    text = (
        "id,profile,tag:site,token,state\n"
        "a b,oven,x,,\n"
        "good,,,,\n"
        "good,,,,\n"
        "there,,,,gone\n"
        f"one,,,{TOKEN},\n"
        f"two,,,{TOKEN},\n"
        f"three,,,{TOKEN[:31]},\n"
        'four,,"a\nb",,\n'
        "five,,,,,,\n"
        ",,x,,\n"
    )
    found = table(text, ("there",))
    assert [problem.partition(":")[0] for problem in found.problems] == [
        *["line 2"] * 2,
        "line 4",
        *["line 5"] * 2,
        *["line 7", "line 8", "line 10", "line 11", "line 12"],
    ]
    told = "\n".join(found.problems)
    for words in (
        "line 2: a device id is 1 to 128 of",
        "line 2: the configuration has no profile oven",
        "line 4: the device good is in line 3 already",
        "line 5: a state is active or revoked, not 'gone'",
        "line 5: the device there is registered already",
        "line 7: its token is also the token of line 6",
        "line 8: a token has 32 to 512",
        "line 10: a tag's value has no control characters",
        "line 11: 7 cells, but 5 columns",
        "line 12: a device id",
    ):
        assert words in told
    assert TOKEN not in told


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: the first line must name the columns, and one of them must be id"),
        ("kiln-1\n", "line 1: unknown column 'kiln-1'"),
        ("id,site\n", "line 1: unknown column 'site'; known columns: id, profile, state, token"),
        ("id,id\n", "line 1: the column id occurs more than once"),
        ("id\na\0b\n", "line 2: a device id is 1 to 128"),
        ('id\n"a\n', "line 2: unexpected end of data"),
        ("id,tag:device\na,b\n", "line 2: the tag device is written by the gateway"),
    ],
)
def test_a_table_that_is_none_is_told(text: str, words: str) -> None:
    found = table(text)
    assert words in found.problems[0]
    assert found.devices == []


def test_bytes_that_are_no_text_are_told() -> None:
    lines = io.TextIOWrapper(io.BytesIO(b"id\ngood\n\xff\n"), encoding="utf-8", newline="")
    assert "not UTF-8" in DeviceTable(lines, PROFILES, ()).problems[0]


def possible(tags: dict[str, str]) -> bool:
    try:
        check_device("any", tags)
    except RegistryError:
        return False
    return True


TEXT = st.text(st.sampled_from("=+-@'\t ,\";x\u00e9\\") | st.characters(), min_size=1, max_size=12)
TAGS = st.dictionaries(TEXT, TEXT, max_size=3).filter(possible)
IDS = st.text(string.ascii_letters + string.digits + "._:-", min_size=1, max_size=8).filter(DEVICE_ID.fullmatch)


@settings(max_examples=50)
@given(st.dictionaries(IDS, TAGS, max_size=5))
def test_what_is_written_is_read_back_and_no_cell_is_a_formula(fleet: dict[str, dict[str, str]]) -> None:
    devices = [Device(name, "kiln", tags, revoked=len(name) % 2 == 0) for name, tags in fleet.items()]
    file = io.StringIO(newline="")
    cells = [(d.id, d.profile, "revoked" if d.revoked else "active", "2026-01-01 00:00:00Z", "") for d in devices]
    write_devices(file, devices, cells)
    file.seek(0)
    for row in csv.reader(file):
        assert not [cell for cell in row if cell.startswith(tuple("=+-@\t\r"))]
    file.seek(0)
    found = DeviceTable(file, PROFILES, ())
    assert found.problems == []
    assert [(d.id, dict(d.tags), d.revoked) for d in found.devices] == [(d.id, d.tags, d.revoked) for d in devices]


@pytest.mark.parametrize("cell", ['=HYPERLINK("http://x")', "+1", "-1", "@SUM(A1)", "\tx", "\rx", "'=1", "''x"])
def test_a_formula_is_written_as_text(cell: str) -> None:
    file = io.StringIO(newline="")
    write_table(file, ("id",), [(cell,)])
    assert file.getvalue().removeprefix("id\n").lstrip('"').startswith("'")
