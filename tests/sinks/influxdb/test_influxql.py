from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.delivery.sink import Bucket, SeriesQuery
from gateway.errors import QueryError
from gateway.sinks.influxdb import influxql

QUERY = SeriesQuery("d1", "temp", 1_000, 2_000, 4)


def series(name: str, columns: list[str], *values: list[Any]) -> dict[str, Any]:
    return {"series": [{"name": name, "columns": columns, "values": list(values)}]}


def test_names_and_strings_are_quoted() -> None:
    assert influxql.name("a \"b\" \\ \n 'c'") == '"a \\"b\\" \\\\ \\n \'c\'"'
    assert influxql.string("it's \\ \"\n") == "'it\\'s \\\\ \"\\n'"


@given(st.text())
def test_a_quoted_text_ends_at_its_last_character(text: str) -> None:
    for quoted, quote in ((influxql.name(text), '"'), (influxql.string(text), "'")):
        inner = quoted[1:-1].replace("\\\\", "").replace("\\" + quote, "")
        assert quote not in inner
        assert "\n" not in inner
        assert not inner.endswith("\\")


def test_one_measurement_or_all_are_asked_for_their_fields() -> None:
    assert influxql.show_fields() == "SHOW FIELD KEYS"
    assert influxql.show_fields('w"x') == 'SHOW FIELD KEYS FROM "w\\"x"'


def test_measurements_are_sorted_by_what_they_hold() -> None:
    shown = [
        series("floats", influxql.FIELD_KEYS, ["temp", "float"], ["other", "boolean"]),
        series("integers", influxql.FIELD_KEYS, ["temp", "integer"]),
        series("flags", influxql.FIELD_KEYS, ["temp", "boolean"]),
        series("texts", influxql.FIELD_KEYS, ["temp", "string"]),
        series("others", influxql.FIELD_KEYS, ["x", "float"]),
        series("both", influxql.FIELD_KEYS, ["temp", "boolean"], ["temp", "float"]),
        {"statement_id": 0},
    ]
    assert influxql.measurements_with("temp", shown) == (["floats", "integers", "both"], ["flags"])


def test_a_database_without_influxql_is_named() -> None:
    with pytest.raises(influxql.NoInfluxQL):
        influxql.measurements_with("temp", [series("databases", ["name"], ["_internal"])])


def test_numbers_are_selected_with_their_range() -> None:
    assert influxql.select(QUERY, ["a", "b"], []) == (
        'SELECT MIN("temp"), MEAN("temp"), MAX("temp"), COUNT("temp") FROM "a", "b" '
        "WHERE \"device\" = 'd1' AND time >= 1000 AND time < 2000 GROUP BY time(250ns, 0ns) fill(none)"
    )


def test_booleans_are_counted_twice() -> None:
    inside = 'FROM "a" WHERE "device" = \'d1\' AND time >= 1000 AND time < 2000'
    grouped = "GROUP BY time(250ns, 0ns) fill(none)"
    assert influxql.select(QUERY, [], ["a"]).split("; ") == [
        f'SELECT COUNT("temp") {inside} {grouped}',
        f'SELECT COUNT("temp") AS ones {inside} AND "temp" = true {grouped}',
    ]


@given(st.integers(-(2**62), 2**62), st.integers(1, 2**62), st.integers(1, 10_000))
def test_buckets_start_with_the_query_and_are_not_too_many(start: int, length: int, points: int) -> None:
    statement = influxql.select(SeriesQuery("d", "f", start, start + length, points), ["m"], [])
    interval, offset = (int(part.strip(" ns")) for part in statement.split("time(")[1].split(")")[0].split(","))
    assert offset == start % interval
    assert (start - offset) % interval == 0
    assert -(-length // interval) <= points
    assert interval == 1 or -(-length // (interval - 1)) > points, "the interval is longer than it has to be"


def test_buckets_of_several_measurements_are_put_together() -> None:
    columns = ["time", "min", "mean", "max", "count"]
    selected = [
        series("a", columns, [2_000, 1, 2, 3, 2], [1_000, 5, 5, 5, 1]),
        series("b", columns, [2_000, 0, 8, 9, 4]),
    ]
    assert influxql.buckets(selected) == [Bucket(1_000, 5, 5, 5, 1), Bucket(2_000, 0, 6, 9, 6)]


def test_booleans_read_as_0_and_1() -> None:
    selected = [
        series("a", ["time", "count"], [0, 4], [1, 2], [2, 3]),
        series("a", ["time", "ones"], [0, 1], [1, 2]),
    ]
    assert influxql.buckets(selected) == [Bucket(0, 0, 0.25, 1, 4), Bucket(1, 1, 1, 1, 2), Bucket(2, 0, 0, 0, 3)]


def test_a_refusal_inside_the_answer_is_raised() -> None:
    body = orjson.dumps({"results": [{"statement_id": 0, "error": "database not found: x"}]})
    with pytest.raises(QueryError, match="database not found: x"):
        influxql.results(body)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"results":null}', b'{"results":[1]}'])
def test_an_answer_of_another_kind_is_refused(body: bytes) -> None:
    with pytest.raises(QueryError, match="not an InfluxQL result"):
        influxql.results(body)
