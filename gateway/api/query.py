"""``GET /v1/query`` and ``GET /v1/series``: what the database holds of a device."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING

from tornado.web import Finish, HTTPError

from gateway.api.blocking import BlockingHandler
from gateway.api.handler import MALFORMED
from gateway.delivery.sink import Bucket, Cancellation, SeriesQuery
from gateway.errors import QueryError
from gateway.time_units import NS_PER_HOUR, NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from gateway.delivery.sink import ActiveSink
    from gateway.devices.fleet import Fleet
    from gateway.devices.profiles import Profiles
    from gateway.state.registry import Registry

    T = TypeVar("T")

DEFAULT_POINTS = 400
MAX_POINTS = 10_000
MAX_MS = (2**63 - 1) // NS_PER_MS


class DatabaseHandler(BlockingHandler):
    """An endpoint that queries the database, and ends the query when the client leaves."""

    active_sink: ActiveSink

    async def query_database(self, call: Callable[[Cancellation], T]) -> T:
        """The database's answer.

        Raises:
            Finish: the database gave none, and the client was told so; or the client has left.
        """
        cancellation = Cancellation()
        try:
            return await self.run_blocking(lambda: call(cancellation), cancellation)
        except QueryError as error:
            self.refuse(502, "database", str(error))
            raise Finish from None


class QueryHandler(DatabaseHandler):
    """``GET /v1/query?device=&field=&measurement=&from=&to=&points=&coarse=``; times in ms since 1970 or RFC 3339."""

    async def get(self) -> None:
        """One series, downsampled by the database."""
        now = time.time_ns()
        query = SeriesQuery(
            device=self.get_query_argument("device"),
            field=self.get_query_argument("field"),
            start_ns=self._moment("from", now - NS_PER_HOUR),
            end_ns=self._moment("to", now),
            points=self.number("points", DEFAULT_POINTS, 1, MAX_POINTS),
            measurement=self.get_query_argument("measurement", None),
            coarse=bool(self.number("coarse", 0, 0, 1)),
        )
        if query.start_ns >= query.end_ns:
            raise HTTPError(MALFORMED, "from must be before to")
        found = await self.query_database(lambda cancellation: self.active_sink.current.query(query, cancellation))
        self.answer(
            {
                "device": query.device,
                "field": query.field,
                "coarse": query.coarse,
                "resolution_ms": found.interval_ns / NS_PER_MS,
                "points": [_point(bucket) for bucket in found.buckets],
            }
        )

    def _moment(self, name: str, default: int) -> int:
        text = self.get_query_argument(name, None)
        if text is None:
            return default
        try:
            return _parse_moment(text)
        except ValueError:
            raise HTTPError(
                MALFORMED, f"{name} must be ms since 1970 or RFC 3339 with a time zone, not {text[:40]!r}"
            ) from None


class SeriesHandler(DatabaseHandler):
    """``GET /v1/series?device=``."""

    fleet: Fleet
    profiles: Profiles
    registry: Registry

    async def get(self) -> None:
        """The fields of a device, with their types, and the units that its profile gives or the device tells."""
        device = self.get_query_argument("device")
        found = await self.query_database(lambda cancellation: self.active_sink.current.series(device, cancellation))
        registered = self.registry.devices.lookup(device)
        told = self.fleet.look(device).units or {}
        units = told | self.profiles.units(None if registered is None else registered.profile)
        self.answer({"series": [{**name._asdict(), "unit": units.get(name.field)} for name in found]})


def _parse_moment(text: str) -> int:
    if text.lstrip("-").isdecimal():
        ms = int(text)
    else:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError(text)
        ms = round(moment.timestamp() * 1000)
    if abs(ms) > MAX_MS:
        raise ValueError(text)
    return ms * NS_PER_MS


def _point(bucket: Bucket) -> dict[str, float | int]:
    return {
        "time": bucket.time_ns // NS_PER_MS,
        "min": bucket.low,
        "mean": bucket.mean,
        "max": bucket.high,
        "count": bucket.count,
    }
