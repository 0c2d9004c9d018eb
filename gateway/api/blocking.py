"""Endpoints whose answer needs a call that blocks, on the database or on the disk.

Rules that hold here:

* A few threads make the calls, and few calls may wait for a thread. A request above that number gets 503.
* When a client leaves, its call is cancelled: a waiting call is never made, and a query that a thread is making is
  ended in the database too (`Cancellation`). A call to the disk goes on, and its result is dropped.
* Nothing waits for these threads: a database that never answers holds up neither a stop nor the gateway's other work.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from tornado.web import Finish

from gateway.api.handler import ViewerHandler

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.delivery.sink import Cancellation
    from gateway.process.threads import BoundedThreads

T = TypeVar("T")


class BlockingHandler(ViewerHandler):
    """An endpoint that waits for the database or the disk."""

    threads: BoundedThreads

    _call: asyncio.Future[Any] | None = None
    """The call under way, whose result the client waits for."""
    _cancellation: Cancellation | None = None
    """Ends that call in the database."""

    async def run_blocking(self, call: Callable[[], T], cancellation: Cancellation | None = None) -> T:
        """What ``call`` returns or raises, made on a thread; ``cancellation`` ends it there.

        Raises:
            Finish: too many calls wait, and the client was told so; or the client has left.
        """
        if self.threads.full:
            self.set_header("Retry-After", "1")
            self.refuse(
                503, "busy", f"{self.threads.max_waiting} requests wait for the database already; ask again later"
            )
            raise Finish
        self._cancellation = cancellation
        self._call = self.threads.submit(call)
        try:
            answer: T = await self._call
        except asyncio.CancelledError:
            raise Finish from None
        return answer

    def on_connection_close(self) -> None:
        """The client has left."""
        if self._call is not None:
            self._call.cancel()
        if self._cancellation is not None:
            self._cancellation.cancel()
