"""Letting the devices go at a stop: each is told when to come back, gets its last acks, and is closed or cut.

Rules that hold here:

* Every device is told in the turn of the loop in which nothing more is read, before the commit under way: whoever is
  killed in between has told them at least that.
* Delays are handed out in order, so that they come back evenly; a random spread has lumps.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.devices.context import Context

CLOSE_GRACE = 2.0
"""Seconds that devices have to answer the close before their sockets are cut."""
FIRST_RECONNECT_MS = 2000
"""After so long the first device of a drain comes back: about what a restart takes."""
RECONNECTS_PER_SECOND = 500
"""How many of them come back after that: a handshake costs about a millisecond, and more with TLS."""


async def let_go(context: Context) -> None:
    """Have all devices leave a gateway that is ``draining``, and what was taken of them durable."""
    sockets = list(context.sockets)
    for n, device in enumerate(sockets):
        device.drain(FIRST_RECONNECT_MS + n * 1000 // RECONNECTS_PER_SECOND)
    await context.spool.flush()
    for device in sockets:
        device.restart()
    await _gone(context)
    for device in list(context.sockets):
        device.abort()
    await _gone(context)
    await context.spool.flush()


async def _gone(context: Context) -> None:
    if context.sockets:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(context.all_gone.wait(), CLOSE_GRACE)
