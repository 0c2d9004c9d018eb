"""Recovery at the start: report the records to the listener, sum up the undelivered ones, pass over damage.

Rules that hold here:

* The marks of the ledger's checkpoint decide what is reported. A record that it counts as committed, and as delivered
  if it is, is not reported again. A record that it counts as delivered is delivered, even if the cursor was lost.
* Damage is reported and passed over. The torn end of the last write is no damage. Neither stops the start.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gateway.spool.listener import Recovery
from gateway.spool.segment import Damage

if TYPE_CHECKING:
    from gateway.spool.backlog import Backlog
    from gateway.spool.listener import SpoolListener
    from gateway.spool.log import Log
    from gateway.spool.reader import SpoolReader


def recover(
    log: Log, backlog: Backlog, reader: SpoolReader, listener: SpoolListener, committed_to: int, delivered_to: int
) -> Recovery:
    """Read through ``log`` and fill the empty ``backlog``. Records up to the backlog's cursor are delivered.

    The marks are those of `SpoolQueue.open`.

    Raises:
        SpoolError: a newer version of the gateway wrote the spool.
        OSError: the directory cannot be read.
    """
    started, done = time.perf_counter(), backlog.cursor
    records = pending = 0
    for item in log.recover(min(committed_to, delivered_to), max(done, committed_to), done):
        if isinstance(item, Damage):
            reader.found(item)
            continue
        records += 1
        if item.id > committed_to or delivered_to < item.id <= done:
            listener.recovered(item.id, item.committed_ns, item.entries, item.id <= done)
        if item.id > done:
            pending += 1
            backlog.add(item.id, item.size, item.readings, item.committed_ns)
    torn = log.torn
    if torn is not None:
        reader.found_torn(torn)
    listener.left(backlog.readings, lambda: log.readings(done))
    return Recovery(
        records=records,
        pending=pending,
        pending_readings=backlog.readings,
        torn_bytes=torn.length if torn is not None else 0,
        damage=reader.damage,
        cursor=done,
        next_id=log.last_id + 1,
        seconds=time.perf_counter() - started,
    )
