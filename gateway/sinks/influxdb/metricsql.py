"""Queries in MetricsQL, to VictoriaMetrics, which takes the writes of InfluxDB: makes the text, reads the results.

Rules that hold here:

* A series of VictoriaMetrics is named ``measurement_field``, and nothing says where the measurement ends. So a query
  without a measurement has the whole name as its ``field``, and `names` lists whole names.
* Times are whole milliseconds. The window of an aggregate excludes its first moment, so the time of a bucket in a
  request is its last millisecond.
* Strings are quoted and escaped here and nowhere else.

https://docs.victoriametrics.com/metricsql/, https://docs.victoriametrics.com/url-examples/
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import orjson

from gateway.delivery.sink import Bucket, SeriesName
from gateway.errors import QueryError
from gateway.time_units import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gateway.delivery.sink import SeriesQuery

MAX_COARSE_BUCKETS = 120
AGGREGATES = ("min_over_time", "avg_over_time", "max_over_time", "count_over_time")
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def string(text: str) -> str:
    """A label's value as a string literal."""
    return f'"{text.translate(_ESCAPES)}"'


def interval_ms(query: SeriesQuery) -> int:
    """The length of a bucket."""
    points = min(query.points, MAX_COARSE_BUCKETS) if query.coarse else query.points
    start, end = _range(query)
    return max(1, -((start - end) // points))


def requests(query: SeriesQuery) -> Iterator[tuple[str, dict[str, str]]]:
    """Paths and fields of the requests: one for all whole buckets, one for a shorter bucket at the end."""
    (start, end), length = _range(query), interval_ms(query)
    whole = (end - start) // length
    if whole:
        first, last = start + length - 1, start + whole * length - 1
        times = {"start": _seconds(first), "end": _seconds(last), "step": f"{length}ms"}
        yield "/api/v1/query_range", {"query": _select(query, length), **times, "nocache": "1"}
    if rest := (end - start) % length:
        fields = {"query": _select(query, rest), "time": _seconds(end - 1), "nocache": "1", "latency_offset": "1ms"}
        yield "/api/v1/query", fields


def show_names(device: str) -> tuple[str, dict[str, str]]:
    """Path and fields of the request for the names of a device's series."""
    return "/api/v1/label/__name__/values", {"match[]": f"{{device={string(device)}}}", "start": "1"}


def names(body: bytes) -> list[SeriesName]:
    """The names in the response to `show_names`; VictoriaMetrics keeps numbers only."""
    return [SeriesName("", name, "float") for name in sorted(_data(body))]


def buckets(bodies: list[bytes], query: SeriesQuery) -> list[Bucket]:
    """The buckets in the responses to `requests`, merged over the series, in order of time."""
    start, length = _range(query)[0], interval_ms(query)
    parts: dict[int, dict[frozenset[tuple[str, str]], dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for body in bodies:
        for series in _data(body)["result"]:
            labels: Mapping[str, str] = series["metric"]
            key = frozenset(item for item in labels.items() if item[0] != "rollup")
            for seconds, value in series.get("values") or [series["value"]]:
                at = (round(seconds * 1000) - start) // length
                parts[at][key][labels["rollup"]] = float(value)
    return [_bucket((start + at * length) * NS_PER_MS, list(parts[at].values())) for at in sorted(parts)]


def _range(query: SeriesQuery) -> tuple[int, int]:
    return query.start_ns // NS_PER_MS, -(-query.end_ns // NS_PER_MS)


def _select(query: SeriesQuery, window_ms: int) -> str:
    name = f"{query.measurement}_{query.field}" if query.measurement else query.field
    aggregates = ", ".join(f'"{aggregate}"' for aggregate in AGGREGATES)
    series = f"{{__name__={string(name)}, device={string(query.device)}}}"
    return f"aggr_over_time(({aggregates}), {series}[{window_ms}ms])"


def _seconds(ms: int) -> str:
    return f"{ms // 1000}.{ms % 1000:03d}"


def _data(body: bytes) -> Any:
    try:
        document = orjson.loads(body)
        return document["data"]
    except (orjson.JSONDecodeError, TypeError, KeyError) as error:
        raise QueryError("the database's answer is neither InfluxQL's nor MetricsQL's") from error


def _bucket(time_ns: int, series: list[dict[str, float]]) -> Bucket:
    lows, means, highs, counts = ([each[aggregate] for each in series] for aggregate in AGGREGATES)
    total = sum(mean * count for mean, count in zip(means, counts, strict=True))
    return Bucket(time_ns, min(lows), total / sum(counts), max(highs), round(sum(counts)))
