"""``GET /v1/why/{id}?seq=&boot=`` or ``?time=``: where a reading is, with what only the running gateway knows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tornado.web import HTTPError

from gateway.api.blocking import BlockingHandler
from gateway.api.handler import MALFORMED
from gateway.config.names import DEVICE_ID
from gateway.delivery import message_trace
from gateway.errors import ReadingError
from gateway.protocol.messages import MAX_SEQ
from gateway.protocol.timestamps import asked_moment

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.delivery.forwarder import Forwarder
    from gateway.delivery.message_trace import TraceFiles
    from gateway.delivery.sink import ActiveSink
    from gateway.delivery.write_log import WriteLog
    from gateway.devices.fleet import Fleet
    from gateway.state.registry import Registry


class WhyHandler(BlockingHandler):
    """Answers 200 if there is a trace of the reading, else 404 with the same object and an ``error``."""

    active_sink: ActiveSink
    fleet: Fleet
    forwarder: Forwarder
    records: TraceFiles
    registry: Registry
    write_log: WriteLog

    async def get(self, device_id: str) -> None:
        """The answer of `gateway why`, and the state of the database if a reading waits for it."""
        if not DEVICE_ID.fullmatch(device_id):
            raise HTTPError(MALFORMED, "a device id is 1 to 128 of A-Z a-z 0-9 . _ : -")
        seq, time = self.get_query_argument("seq", None), self.get_query_argument("time", None)
        if (seq is None) == (time is None):
            raise HTTPError(MALFORMED, "one of seq and time is needed")
        boot = self.get_query_argument("boot", None)
        if seq is not None:
            number = self.number("seq", 0, 0, MAX_SEQ)
            answer = await self._ask(
                device_id, lambda records: message_trace.by_number(records, device_id, number, boot)
            )
        else:
            time_ns = self._moment(str(time))
            answer = await self._ask(device_id, lambda records: message_trace.by_time(records, device_id, time_ns))
        if any(message["delivered"] is False for message in answer["messages"]):
            state = self.forwarder.state
            answer["database"] = {"sink": self.active_sink.current.name, "state": state.name, "reason": state.reason}
        if not answer["found"]:
            answer["error"] = {"code": "not_found", "message": answer["answer"]}
        self.answer(answer, 200 if answer["found"] else 404)

    async def _ask(self, device_id: str, question: Callable[[TraceFiles], dict[str, Any]]) -> dict[str, Any]:
        known = self.registry.devices.lookup(device_id) is not None or device_id in self.fleet.known()
        records = replace(self.records, known=known)

        def look() -> dict[str, Any]:
            self.write_log.flush()
            return question(records)

        return await self.run_blocking(look)

    def _moment(self, text: str) -> int:
        try:
            return asked_moment(text)
        except ReadingError as error:
            raise HTTPError(MALFORMED, f"time: {error.message}") from None
