"""A gateway as the documentation of Tornado and influxdb-client suggests: ``tutorial.py PORT DATABASE_URL``.

A WebSocketHandler, a `Point` for every reading, and the client's batching write API with its defaults. Nothing is kept
on disk and nothing is acknowledged.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

from influxdb_client import InfluxDBClient, Point, WritePrecision
from tornado.escape import json_decode
from tornado.web import Application
from tornado.websocket import WebSocketHandler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from influxdb_client import WriteApi


class Stream(WebSocketHandler):
    def initialize(self, write_api: WriteApi) -> None:
        self.write_api = write_api

    def open(self, device: str) -> None:
        self.device = device

    def on_message(self, message: str | bytes) -> None:
        for point in points(self.device, json_decode(message)):
            self.write_api.write(bucket="telemetry", record=point)


def points(device: str, message: dict[str, Any]) -> Iterator[Point]:
    if "columns" in message:
        columns = message["columns"]
        for i, row in enumerate(zip(*columns.values(), strict=True)):
            point = Point(message["m"]).tag("device", device)
            for name, value in zip(columns, row, strict=True):
                point.field(name, value)
            yield point.time(message["t0"] + i * message["dt"], WritePrecision.MS)
        return
    for reading in message.get("readings", [message]):
        point = Point("telemetry").tag("device", device)
        for name, value in reading["values"].items():
            point.field(name, value)
        yield point.time(reading["ts"], WritePrecision.MS)


async def main(port: int, url: str) -> None:
    with InfluxDBClient(url=url, token="telemetry", org="telemetry") as client, client.write_api() as write_api:
        application = Application([(r"/v1/devices/([^/]+)/stream", Stream, {"write_api": write_api})])
        application.listen(port, "127.0.0.1", backlog=4096)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
