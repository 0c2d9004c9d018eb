"""The ledger's checkpoint: one JSON file, replaced atomically before any spool segment is unlinked.

Everything after its marks (`Ledger.committed_to`, `Ledger.delivered_to`) is counted again from the spool, so an old
checkpoint costs time at start and a lost one only the counts of records that have already gone. A wrong one would cost
more, because the spool is read from its marks on: the last line is the CRC-32C of what is above it.
"""

from __future__ import annotations

import functools
import json
import logging
import time
from typing import TYPE_CHECKING, Any

from google_crc32c import value as crc32c

from gateway.errors import GatewayError
from gateway.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gateway.ledger import Snapshot
    from gateway.spool.files import Files

log = logging.getLogger(__name__)

LAYOUT_VERSION = 1
"""One without a version is of the first."""
ACCOUNTS_PER_PAUSE = 256
PAUSE_SECONDS = 0.0005
"""Seconds after every so many accounts: a thread that only computes lets others wait 5 ms each time."""


def load(path: Path) -> Ledger:
    """The ledger in the checkpoint at ``path``; an empty one, with a line in the log, when it cannot be used.

    Raises:
        GatewayError: a newer version of the gateway wrote it: its sums must not be thrown away.
    """
    try:
        found = _checked(path.read_bytes())
        if (version := found.get("version", LAYOUT_VERSION)) > LAYOUT_VERSION:
            raise GatewayError(
                f"ledger checkpoint {path} was written by a newer gateway (its layout is version {version}, this "
                f"gateway knows up to {LAYOUT_VERSION}): run that gateway or a later one"
            )
        return Ledger.restored(found)
    except FileNotFoundError:
        return Ledger()
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("ledger checkpoint %s cannot be used (%s): counting again from the spool alone", path, error)
        return Ledger()


def _checked(data: bytes) -> Any:
    document, _, checksum = data.rpartition(b"\n")
    if checksum != _checksum(document):
        raise ValueError("its checksum does not fit")
    return json.loads(document)


def _checksum(document: bytes) -> bytes:
    return b"%08x" % crc32c(document)


def writer(ledger: Ledger, path: Path, files: Files) -> Callable[[], None]:
    """Hold on to ``ledger`` as it is now; the returned function writes that, durably, on any thread and again."""
    snapshot = ledger.snapshot()

    @functools.cache
    def document() -> bytes:
        return encode(snapshot)

    def write() -> None:
        files.replace(path, document() + b"\n" + _checksum(document()))

    return write


def encode(snapshot: Snapshot) -> bytes:
    """The JSON of a snapshot. Other threads have their turn: with many devices it takes a while."""
    rows = []
    for number, (device, row) in enumerate(snapshot.rows(), 1):
        rows.append(f"{json.dumps(device)}:{row}")
        if number % ACCOUNTS_PER_PAUSE == 0:
            time.sleep(PAUSE_SECONDS)
    marks = "".join(f'"{name}":{mark},' for name, mark in snapshot.marks.items())
    return f'{{"version":{LAYOUT_VERSION},{marks}"accounts":{{{",".join(rows)}}}}}'.encode()
