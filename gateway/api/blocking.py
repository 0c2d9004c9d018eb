"""Endpoints whose answer takes a call that blocks: on the database, or on the disk.

Rules that hold here:

* A few threads make the calls, and few may wait for a thread: whoever comes on top is told to come back.
* A viewer who leaves takes back what he asked. Where a thread is at it already, a question to the database is ended
  there too (`Cancellation`); one to the disk is answered for nobody.
* Nothing waits for these threads: a database that never answers holds up neither a stop nor the gateway's other work.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from tornado.web import Finish

from gateway.api.handler import ViewerHandler
from gateway.process.threads import Writers

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.delivery.sink import Cancellation

T = TypeVar("T")

THREADS = 4
MOST_WAITING = 32


class Questions(Writers[Any]):
    """The threads that make the calls of all viewers."""

    def __init__(self) -> None:
        super().__init__(THREADS, "question")

    @property
    def full(self) -> bool:
        """Whether nobody else may wait."""
        return self.waiting >= MOST_WAITING


class AskingHandler(ViewerHandler):
    """An endpoint that asks the database or the disk."""

    _asked: asyncio.Future[Any] | None = None
    _cancellation: Cancellation | None = None

    async def ask(self, call: Callable[[], T], cancellation: Cancellation | None = None) -> T:
        """What ``call`` returns or raises, on a thread; ``cancellation`` is what ends it there.

        Raises:
            Finish: there is nothing left to do; the viewer was sent away, or left.
        """
        if self.context.questions.full:
            self.set_header("Retry-After", "1")
            self.refuse(503, "busy", f"{MOST_WAITING} requests wait for the database already; ask again later")
            raise Finish
        self._cancellation = cancellation
        self._asked = self.context.questions.submit(call)
        try:
            answer: T = await self._asked
        except asyncio.CancelledError:
            raise Finish from None
        return answer

    def on_connection_close(self) -> None:
        """The viewer left."""
        if self._asked is not None:
            self._asked.cancel()
        if self._cancellation is not None:
            self._cancellation.cancel()
