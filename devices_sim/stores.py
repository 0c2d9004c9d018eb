"""Readers of stored points, one for each kind of database. All return rows.

A query names devices and two moments (ns, both included). Rows come in any order. A database may not keep every type:
VictoriaMetrics keeps milliseconds and numbers, so only those are compared there (`Store.comparable`).
"""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import urllib3

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from devices_sim.sensors import Value

PRESENCE = "device_status"
"""The gateway's own measurement about its devices, which holds no readings."""
_TIMEOUT = 120.0


class StoreError(Exception):
    """A database that cannot be read."""


@dataclass(frozen=True, slots=True)
class Row:
    """One stored value; ``tags`` without the device."""

    device: str
    measurement: str
    field: str
    tags: Mapping[str, str]
    time_ns: int
    value: Value


@dataclass(frozen=True, slots=True)
class Question:
    """A query; ``fields`` are the names that may occur, for a store that must tell them from measurements."""

    devices: Sequence[str]
    start_ns: int
    end_ns: int
    fields: frozenset[str]


class Store(Protocol):
    """A database that holds readings."""

    precision_ns: int
    """Timestamps are kept as multiples of this."""

    def comparable(self, value: Value) -> bool:
        """Whether the database keeps values of this type."""
        ...

    def rows(self, question: Question) -> Iterator[Row]:
        """The stored values; raises `StoreError`."""
        ...


def open_store(database: str, *, db: str | None, user: str | None, password: str | None, token: str | None) -> Store:
    """The reader for ``sqlite:PATH``, ``victoria-metrics:URL``, or the URL of an InfluxDB with ``db``.

    Raises:
        ValueError: ``database`` has none of these forms.
    """
    kind, _, rest = database.partition(":")
    if kind == "sqlite" and rest:
        return SqliteStore(Path(rest))
    if kind in ("victoria-metrics", "victoriametrics") and _is_url(rest):
        return VictoriaMetricsStore(rest)
    if _is_url(database):
        return InfluxStore(database, db, user, password, token) if db else VictoriaMetricsStore(database)
    raise ValueError(f"not sqlite:PATH, the URL of an InfluxDB (with --db), or victoria-metrics:URL: {database}")


def _is_url(text: str) -> bool:
    parts = urlsplit(text)
    return parts.scheme in ("http", "https") and bool(parts.hostname)


class SqliteStore:
    """The view ``readings`` of the embedded store."""

    precision_ns = 1

    def __init__(self, path: Path) -> None:
        self._path = path

    def comparable(self, value: Value) -> bool:
        """Everything."""
        return True

    def rows(self, question: Question) -> Iterator[Row]:
        """As `Store.rows`."""
        marks = ", ".join("?" * len(question.devices))
        query = (
            "SELECT device, measurement, field, tags, time_ns, value FROM readings "
            f"WHERE device IN ({marks}) AND time_ns BETWEEN ? AND ? AND measurement <> ?"
        )
        values = (*question.devices, question.start_ns, question.end_ns, PRESENCE)
        try:
            # Not mode=ro: after a crash the write-ahead log has to be recovered before anything can be read.
            with closing(sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=rw", uri=True)) as connection:
                connection.execute("PRAGMA query_only = ON")
                for device, measurement, field, tags, time_ns, value in connection.execute(query, values):
                    yield Row(device, measurement, field, _tags(tags), time_ns, value)
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: {error}") from error


def _tags(text: str | None) -> dict[str, str]:
    return {str(key): str(value) for key, value in json.loads(text).items()} if text else {}


class _Http:
    """POST of a form, answer as lines."""

    def __init__(self, url: str, headers: Mapping[str, str], *, absent: str = "") -> None:
        """``absent`` is a hint for the error text if the server does not know the path."""
        self._url = url.rstrip("/")
        self._absent = absent
        self._headers = dict(headers)
        self._pool = urllib3.PoolManager(timeout=_TIMEOUT, retries=urllib3.Retry(2, backoff_factor=0.2))

    def flush(self) -> None:
        """Make the last writes searchable. A server that does not allow it is read without it."""
        try:
            self._pool.request("GET", f"{self._url}/internal/force_flush", headers=self._headers)
        except urllib3.exceptions.HTTPError as error:
            raise StoreError(f"{self._url}: {error}") from error

    def lines(self, path: str, form: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        try:
            answer = self._pool.request(
                "POST",
                self._url + path,
                fields=form,
                encode_multipart=False,
                headers=self._headers,
                preload_content=False,
            )
            with answer:
                if answer.status != 200:
                    text = answer.read(500).decode("utf-8", "replace")
                    hint = self._absent if answer.status == 404 else ""
                    raise StoreError(f"{self._url}{path}: HTTP {answer.status}: {text.strip()}{hint}")
                for line in answer_lines(answer.stream(1 << 16)):
                    yield json.loads(line)
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise StoreError(f"{self._url}{path}: {error}") from error


def answer_lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The non-empty lines in a stream of bytes."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from filter(None, whole)
    if rest:
        yield rest


class InfluxStore:
    """InfluxQL over ``/query`` in chunks, as InfluxDB 1, 2 and 3 answer it."""

    precision_ns = 1

    def __init__(self, url: str, db: str, user: str | None, password: str | None, token: str | None) -> None:
        headers: dict[str, str] = {}
        if token is not None:
            headers = {"Authorization": f"Token {token}"}
        elif user is not None:
            headers = urllib3.make_headers(basic_auth=f"{user}:{password or ''}")
        self._http = _Http(url, headers)
        self._db = db

    def comparable(self, value: Value) -> bool:
        """Everything."""
        return True

    def rows(self, question: Question) -> Iterator[Row]:
        """As `Store.rows`."""
        devices = " OR ".join(f"device = '{device}'" for device in question.devices)
        span = f"time >= {question.start_ns} AND time <= {question.end_ns}"
        query = f"SELECT * FROM /.*/ WHERE ({devices}) AND {span} GROUP BY *"
        form = {"db": self._db, "q": query, "epoch": "ns", "chunked": "true", "chunk_size": "10000"}
        for answer in self._http.lines("/query", form):
            for result in answer.get("results", [answer]):
                if "error" in result:
                    raise StoreError(f"InfluxDB: {result['error']}")
                for series in result.get("series", ()):
                    yield from _series(series)


def _series(series: Mapping[str, Any]) -> Iterator[Row]:
    if series["name"] == PRESENCE:
        return
    tags = {key: value for key, value in series["tags"].items() if value and key != "device"}
    names = series["columns"][1:]
    for time_ns, *values in series["values"]:
        for name, value in zip(names, values, strict=True):
            if value is not None:
                yield Row(series["tags"]["device"], series["name"], name, tags, time_ns, value)


class VictoriaMetricsStore:
    """``/api/v1/export``; a series' name is the measurement and the field with ``_`` between.

    ``/internal/force_flush`` first: what was written in the last seconds is not searchable otherwise.
    """

    precision_ns = 1_000_000

    def __init__(self, url: str) -> None:
        self._http = _Http(url, {}, absent="; if this is an InfluxDB, --db names its database")

    def comparable(self, value: Value) -> bool:
        """Numbers and booleans; VictoriaMetrics keeps 0 for a text."""
        return not isinstance(value, str)

    def rows(self, question: Question) -> Iterator[Row]:
        """As `Store.rows`."""
        devices = "|".join(re.escape(device) for device in question.devices)
        form = {
            "match[]": f"{{device=~{json.dumps(devices)}}}",
            "start": str(question.start_ns // 1_000_000 / 1000),
            "end": str(question.end_ns // 1_000_000 / 1000),
        }
        self._http.flush()
        fields = sorted(question.fields, key=len, reverse=True)
        for series in self._http.lines("/api/v1/export", form):
            labels = series["metric"]
            name = labels.pop("__name__")
            device = labels.pop("device")
            found = next((field for field in fields if name.endswith(f"_{field}")), None)
            measurement = name.removesuffix(f"_{found}")
            if found is None or measurement == PRESENCE:
                continue
            for time_ms, value in zip(series["timestamps"], series["values"], strict=True):
                yield Row(device, measurement, found, labels, time_ms * 1_000_000, value)
