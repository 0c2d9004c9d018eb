from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices_sim.table import Columns, TableError, _is_number, read_table

if TYPE_CHECKING:
    from pathlib import Path

DAY = 1_325_376_000 * 10**9


def table(tmp_path: Path, text: str, columns: Columns = Columns()) -> list[tuple[object, ...]]:  # noqa: B008 - frozen
    path = tmp_path / "t.csv"
    path.write_text(text)
    return [(row.device, row.time_ns - DAY, row.tags, row.fields) for row in read_table(path, columns)]


def test_numbers_booleans_and_texts(tmp_path: Path) -> None:
    text = "time,temp,open,weather\n2012-01-01,12.8,true,rain\n2012-01-02,,FALSE,\n"
    assert table(tmp_path, text) == [
        ("", 0, {}, {"temp": 12.8, "open": True, "weather": "rain"}),
        ("", 86400 * 10**9, {}, {"open": False}),
    ]


def test_columns_that_a_float_would_change_stay_texts(tmp_path: Path) -> None:
    text = "time,zip,serial,big,plus,zero\n2012-01-01,01234,9007199254740993,9007199254740992,+5,0\n"
    ((_, _, _, fields),) = table(tmp_path, text)
    assert fields == {"zip": "01234", "serial": "9007199254740993", "big": 2.0**53, "plus": 5.0, "zero": 0.0}


def test_absent_numbers_are_left_out_and_texts_are_not(tmp_path: Path) -> None:
    text = "time,temp,state\n2012-01-01,NaN,NA\n2012-01-02,NA,WA\n2012-01-03,-0.5,\n"
    assert [fields for *_, fields in table(tmp_path, text)] == [{"state": "NA"}, {"state": "WA"}, {"temp": -0.5}]


@pytest.mark.parametrize("word", ["inf", "-Infinity", "1_000", "0x10", "1e999", "five"])
def test_what_json_has_no_number_for_is_a_text(tmp_path: Path, word: str) -> None:
    ((*_, fields),) = table(tmp_path, f"time,v\n2012-01-01,{word}\n")
    assert fields == {"v": word}


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53))
def test_every_number_json_has_is_one(number: float) -> None:
    assert _is_number(repr(number))
    assert float(repr(number)) == number


def test_quotes_commas_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes('\ufeffdate,"city, state"\r\n2012-01-01,"Bay ""St"", Louis"\r\n\r\n'.encode())
    (row,) = read_table(path, Columns())
    assert row.fields == {"city, state": 'Bay "St", Louis'}


def test_rows_are_put_in_order_of_time_and_remember_their_line(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("v,Date\n1,2012-01-03\n2,2012-01-01\n")
    assert [(row.line, row.fields["v"]) for row in read_table(path, Columns())] == [(3, 2.0), (2, 1.0)]


def test_a_time_column_without_a_usual_name_is_found_by_its_values(tmp_path: Path) -> None:
    assert table(tmp_path, "n,month\n5,2012-01-01\n") == [("", 0, {}, {"n": 5.0})]


def test_the_time_column_can_be_named(tmp_path: Path) -> None:
    assert table(tmp_path, "date,at\nx,1325376000\n", Columns(time="at")) == [("", 0, {}, {"date": "x"})]


def test_tags_and_devices_are_no_fields(tmp_path: Path) -> None:
    text = "time,place,unit,v\n2012-01-01,a,1,1\n2012-01-01,b,1,2\n2012-01-01,,1,3\n"
    assert table(tmp_path, text, Columns(tags=("place",), device="unit")) == [
        ("1", 0, {"place": "a"}, {"v": 1.0}),
        ("1", 0, {"place": "b"}, {"v": 2.0}),
        ("1", 0, {}, {"v": 3.0}),
    ]


def test_rows_that_would_overwrite_each_other_are_refused_with_a_way_out(tmp_path: Path) -> None:
    text = "time,place,v\n2012-01-01,a,1\n2012-01-01,b,2\n"
    with pytest.raises(TableError, match=r"lines 2 and 3 .*candidates: place"):
        table(tmp_path, text)
    assert len(table(tmp_path, text, Columns(tags=("place",)))) == 2
    assert len(table(tmp_path, text, Columns(device="place"))) == 2


def test_rows_at_one_time_with_different_fields_do_not_overwrite(tmp_path: Path) -> None:
    assert len(table(tmp_path, "time,a,b\n2012-01-01,1,\n2012-01-01,,2\n")) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rows"),
        ("time,v\n", "no rows"),
        ("time,v\n2012-01-01\n", "t.csv:2: 1 values under 2 column names"),
        ("time,v,v\n2012-01-01,1,2\n", "must differ"),
        ("a,b\n1,2\n", "--time-column"),
        ("time,v\nnoon,1\n", "t.csv:2: .*--time-format"),
        ("time,_v\n2012-01-01,1\n", "'_v' cannot be a field name"),
        ("date,Time\n2012-01-01,12:00\n", "2: not a time"),
        (f"time,{'x' * 65}\n2012-01-01,1\n", "cannot be a field name"),
    ],
)
def test_what_cannot_be_replayed_says_why(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TableError, match=message):
        table(tmp_path, text)


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no column 'unit'; there are time, v"):
        table(tmp_path, "time,v\n2012-01-01,1\n", Columns(device="unit"))
