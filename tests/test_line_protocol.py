from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gateway.line_protocol import Series, encode_value, parse_line, split_lines
from tests.support.readings import FIELDS, MEASUREMENTS, TAGS, TIMES

if TYPE_CHECKING:
    from tests.support.servers import Influxd

Point = tuple[str, dict[str, str], dict[str, Any], int]
POINTS = st.tuples(MEASUREMENTS, TAGS, FIELDS, TIMES)


def encoded(point: Point) -> bytes:
    measurement, tags, fields, time_ns = point
    return Series(measurement, tags).line(fields, time_ns)


def same(a: Any, b: Any) -> bool:
    """Equal in value and type, and -0.0 is not 0.0."""
    return type(a) is type(b) and a == b and (not isinstance(a, float) or math.copysign(1, a) == math.copysign(1, b))


@given(POINTS)
def test_every_point_reads_back_as_it_was(point: Point) -> None:
    for line in (encoded(point), encoded(point).removesuffix(b"\n")):
        measurement, tags, fields, time_ns = parse_line(line)
        assert (measurement, tags, time_ns) == (point[0], point[1], point[3])
        assert fields.keys() == point[2].keys()
        assert all(same(fields[name], value) for name, value in point[2].items())


@given(st.lists(POINTS, max_size=5))
def test_a_payload_is_cut_into_its_points(points: list[Point]) -> None:
    lines = [encoded(point) for point in points]
    assert split_lines(b"".join(lines), len(lines)) == lines


def test_tags_are_sorted_and_every_special_character_is_escaped() -> None:
    series = Series("a b,c=d", {"z": "1", "k ,=": "v ,=", "device": 'd"1'})
    assert series.line({"f ,=": 1.5, "s": 'say "\\"\n'}, 7) == (
        b'a\\ b\\,c=d,device=d"1,k\\ \\,\\==v\\ \\,\\=,z=1 f\\ \\,\\==1.5,s="say \\"\\\\\\"\n" 7\n'
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (False, "false"),
        (5, "5i"),
        (-(2**63), "-9223372036854775808i"),
        (5.0, "5.0"),
        (1e22, "1e+22"),
        (-0.0, "-0.0"),
        (5e-324, "5e-324"),
        ("", '""'),
        ("\\", '"\\\\"'),
    ],
)
def test_how_values_are_written(value: Any, text: str) -> None:
    assert encode_value(value) == text


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"m 1\n",
        b"m f=1\n",
        b"m f 1\n",
        b"m f=1 x\n",
        b"m f=tree 1\n",
        b"m f=x 1\n",
        b"m,t f=1 1\n",
        b'm f="x 1\n',
        b'm f="x" y\n',
        b'm f="x"y 1\n',
        b"m\\ f=1 1\n",
        b'm f="x" 1\nm f="x" 1\n',
        b"\xff f=1 1\n",
    ],
)
def test_text_that_is_not_a_line_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_line(line)


@pytest.mark.parametrize(
    ("payload", "lines"), [(b"m f=1 1\n", 2), (b"m f=1 1\n" * 2, 1), (b"m f=1 1", 1), (b'm f="\n 1\n', 1), (b"", 1)]
)
def test_a_payload_of_another_number_of_points_is_refused(payload: bytes, lines: int) -> None:
    with pytest.raises(ValueError, match="points"):
        split_lines(payload, lines)


def test_a_long_text_that_is_not_a_line_is_refused_at_once() -> None:
    """Backtracking would take minutes here."""
    with pytest.raises(ValueError, match="not line protocol"):
        parse_line(b"m " + b"a=1,\\" * 100_000)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking would ask the server thousands of times
)
@given(st.lists(POINTS, min_size=1, max_size=40))
def test_influxdb_keeps_every_point_as_it_was(influxd: Influxd, points: list[Point]) -> None:
    expected = {}
    for number, (measurement, tags, fields, time_ns) in enumerate(points):
        other_tags = {key: value for key, value in tags.items() if key not in fields}  # one column cannot be both
        expected[f"{measurement}{number}"] = other_tags, fields, time_ns
    database = influxd.create_database()
    influxd.write(database, b"".join(encoded((name, *point)) for name, point in expected.items()))
    for name, (tags, fields, time_ns) in expected.items():
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        [found] = influxd.query(f'SELECT * FROM "{quoted}" GROUP BY *', database)
        [row] = found["values"]
        columns = dict(zip(found["columns"], row, strict=True))
        assert (found["name"], found.get("tags", {}), columns.pop("time")) == (name, tags, time_ns)
        assert columns.keys() == fields.keys()
        assert {key: type(fields[key])(value) for key, value in columns.items()} == fields
    influxd.query(f'DROP DATABASE "{database}"')
