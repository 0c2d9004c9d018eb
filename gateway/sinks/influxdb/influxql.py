"""Queries in InfluxQL, which InfluxDB 1, 2 and 3 all answer at ``GET /query``: makes the text, reads the results.

Rules that hold here:

* Names and strings are quoted and escaped here and nowhere else. Numbers in the text are integers from this module.
* The database does the arithmetic, except for the few values of a coarse query. A number is downsampled by MIN, MEAN,
  MAX and COUNT. A boolean has no MIN or MEAN in InfluxQL, so its values and its true values are counted, and it counts
  as 0 and 1. A string has no buckets.
* A bucket begins at the query's start plus a multiple of the interval. The interval is so long that at most ``points``
  buckets cover the query.

Syntax: https://docs.influxdata.com/influxdb/v1/query_language/spec/
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import orjson

from gateway.delivery.sink import Bucket, SeriesName
from gateway.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gateway.delivery.sink import SeriesQuery

DEVICE = "device"
NUMBERS = {"float", "integer", "unsigned"}
BOOLEAN = "boolean"
FIELD_KEYS = ["fieldKey", "fieldType"]

MAX_COARSE_BUCKETS = 30
"""Each is a statement of its own, and the text of all has to fit into a URL that proxies let through."""
SAMPLE_SIZE = 16
"""A coarse query reads only so many values of a bucket, the first ones."""


class NoInfluxQL(QueryError):
    """The database is a VictoriaMetrics: it answers every InfluxQL statement with a list of databases."""


_IN_NAMES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
_IN_STRINGS = str.maketrans({"\\": "\\\\", "'": "\\'", "\n": "\\n"})


def name(text: str) -> str:
    """A measurement or field as a quoted identifier."""
    return f'"{text.translate(_IN_NAMES)}"'


def string(text: str) -> str:
    """A tag's value as a string literal."""
    return f"'{text.translate(_IN_STRINGS)}'"


def results(body: bytes) -> list[dict[str, Any]]:
    """The result of each statement in a response body.

    Raises:
        QueryError: the body is none of InfluxQL, or one of the statements was refused.
    """
    try:
        document = orjson.loads(body)
        found: list[dict[str, Any]] = document["results"]
        errors = [result["error"] for result in found if "error" in result]
    except (orjson.JSONDecodeError, TypeError, KeyError) as error:
        raise QueryError("the database's answer is not an InfluxQL result") from error
    if errors:
        raise QueryError(errors[0])
    return found


def show_fields(*measurements: str) -> str:
    """The statement for the fields of some measurements, or of all."""
    return f"SHOW FIELD KEYS FROM {_names(measurements)}" if measurements else "SHOW FIELD KEYS"


def show_measurements(device: str) -> str:
    """The statement for the measurements that have points of a device."""
    return f"SHOW MEASUREMENTS WHERE {name(DEVICE)} = {string(device)}"


def measurements(shown: Iterable[dict[str, Any]]) -> list[str]:
    """The names in the results of `show_measurements`."""
    return [row[0] for series in _series(shown) for row in series["values"]]


def fields(shown: Iterable[dict[str, Any]]) -> list[SeriesName]:
    """Every field in the results of `show_fields`, sorted.

    Raises:
        NoInfluxQL: the results do not list fields.
    """
    found = {SeriesName(series["name"], key, kind) for series in _fields(shown) for key, kind in series["values"]}
    return sorted(found)


def measurements_with(field: str, shown: Iterable[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """The measurements with ``field`` as a number, and those with it as a boolean, in the results of `show_fields`.

    Raises:
        NoInfluxQL: the results do not list fields.
    """
    numeric, boolean = [], []
    for series in _fields(shown):
        types = {kind for key, kind in series["values"] if key == field}
        if types & NUMBERS:
            numeric.append(series["name"])
        elif BOOLEAN in types:
            boolean.append(series["name"])
    return numeric, boolean


def interval(query: SeriesQuery) -> int:
    """The length of a bucket in ns."""
    points = min(query.points, MAX_COARSE_BUCKETS) if query.coarse else query.points
    return -((query.start_ns - query.end_ns) // points)


def select(query: SeriesQuery, numeric: list[str], boolean: list[str]) -> str:
    """The statements that downsample the query's field in the measurements from `measurements_with`."""
    length = interval(query)
    grouped = f"GROUP BY time({length}ns, {query.start_ns % length}ns) fill(none)"
    field, inside = name(query.field), _inside(query, query.start_ns, query.end_ns)
    statements = []
    if numeric:
        aggregates = f"MIN({field}), MEAN({field}), MAX({field}), COUNT({field})"
        statements.append(f"SELECT {aggregates} FROM {_names(numeric)} WHERE {inside} {grouped}")
    if boolean:
        counted = f"FROM {_names(boolean)} WHERE {inside}"
        statements.append(f"SELECT COUNT({field}) {counted} {grouped}")
        statements.append(f"SELECT COUNT({field}) AS ones {counted} AND {field} = true {grouped}")
    return "; ".join(statements)


def sample(query: SeriesQuery, measurements: list[str]) -> str:
    """The statements for the first values of every bucket, which cost the database next to nothing."""
    length, field = interval(query), name(query.field)
    windows = ((begin, min(begin + length, query.end_ns)) for begin in range(query.start_ns, query.end_ns, length))
    return "; ".join(
        f"SELECT {field} FROM {_names(measurements)} WHERE {_inside(query, begin, end)} LIMIT {SAMPLE_SIZE}"
        for begin, end in windows
    )


def sampled(selected: Iterable[dict[str, Any]], query: SeriesQuery) -> list[Bucket]:
    """The buckets in the results of `sample`, in order of time."""
    length = interval(query)
    found: dict[int, list[float]] = defaultdict(list)
    for series in _series(selected):
        for time_ns, value in series["values"]:
            found[time_ns - (time_ns - query.start_ns) % length].append(float(value))
    return [Bucket(at, min(of), sum(of) / len(of), max(of), len(of)) for at, of in sorted(found.items())]


def buckets(selected: Iterable[dict[str, Any]]) -> list[Bucket]:
    """The buckets in the results of `select`, merged over the measurements, in order of time."""
    numbers: list[Bucket] = []
    counts: dict[tuple[str, int], int] = {}
    ones: dict[tuple[str, int], int] = {}
    for series in _series(selected):
        for row in series["values"]:
            values = dict(zip(series["columns"], row, strict=True))
            key = series["name"], values["time"]
            if "mean" in values:
                numbers.append(_number(values))
            elif "ones" in values:
                ones[key] = values["ones"]
            else:
                counts[key] = values["count"]
    booleans = [_boolean(key[1], count, ones.get(key, 0)) for key, count in counts.items()]
    return _merged_by_time(numbers + booleans)


def _inside(query: SeriesQuery, start_ns: int, end_ns: int) -> str:
    return f"{name(DEVICE)} = {string(query.device)} AND time >= {start_ns} AND time < {end_ns}"


def _names(measurements: Iterable[str]) -> str:
    return ", ".join(name(measurement) for measurement in measurements)


def _fields(shown: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for series in _series(shown):
        if series["columns"] != FIELD_KEYS:
            raise NoInfluxQL("this database does not know InfluxQL")
        yield series


def _series(found: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (series for result in found for series in result.get("series", ()))


def _number(row: dict[str, Any]) -> Bucket:
    return Bucket(row["time"], float(row["min"]), float(row["mean"]), float(row["max"]), row["count"])


def _boolean(time_ns: int, count: int, ones: int) -> Bucket:
    return Bucket(time_ns, float(ones == count), ones / count, float(ones > 0), count)


def _merged_by_time(found: list[Bucket]) -> list[Bucket]:
    same: dict[int, list[Bucket]] = defaultdict(list)
    for bucket in found:
        same[bucket.time_ns].append(bucket)
    return [_merge(time_ns, same[time_ns]) for time_ns in sorted(same)]


def _merge(time_ns: int, parts: list[Bucket]) -> Bucket:
    if len(parts) == 1:
        return parts[0]
    count = sum(part.count for part in parts)
    mean = sum(part.mean * part.count for part in parts) / count
    return Bucket(time_ns, min(part.low for part in parts), mean, max(part.high for part in parts), count)
