"""The ledger's checkpoint: one JSON file, replaced atomically before any spool segment is unlinked.

The spool's records after its marks (`Ledger.committed_to`, `Ledger.delivered_to`) are counted again at the start. So an
old checkpoint costs time, and a lost one costs the counts of records that are no longer in the spool. A wrong one would
cost more, because it decides where counting begins. Therefore its last line is the CRC-32C of the lines above.
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
"""A checkpoint without a version has version 1."""
ACCOUNTS_PER_PAUSE = 256
PAUSE_SECONDS = 0.0005
"""Encoding pauses for so long after every `ACCOUNTS_PER_PAUSE`. Without pauses, other threads wait up to 5 ms for each
of their turns."""


def load(path: Path) -> Ledger:
    """The ledger in the checkpoint at ``path``. If it cannot be used, this is logged, and the ledger is empty.

    Raises:
        GatewayError: a newer version of the gateway wrote it. Its counts must not be lost.
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
        log.warning("ledger checkpoint %s cannot be used (%s): counting again from the spool only", path, error)
        return Ledger()


def _checked(data: bytes) -> Any:
    document, _, checksum = data.rpartition(b"\n")
    if checksum != _checksum(document):
        raise ValueError("its checksum is wrong")
    return json.loads(document)


def _checksum(document: bytes) -> bytes:
    return b"%08x" % crc32c(document)


def writer(ledger: Ledger, path: Path, files: Files) -> Callable[[], None]:
    """Take a snapshot of ``ledger``. The returned function writes it durably, on any thread, also repeatedly."""
    snapshot = ledger.snapshot()

    @functools.cache
    def document() -> bytes:
        return encode(snapshot)

    def write() -> None:
        files.replace(path, document() + b"\n" + _checksum(document()))

    return write


def encode(snapshot: Snapshot) -> bytes:
    """The JSON of a snapshot. It pauses for other threads, because many devices take some time."""
    rows = []
    for number, (device, row) in enumerate(snapshot.rows(), 1):
        rows.append(f"{json.dumps(device)}:{row}")
        if number % ACCOUNTS_PER_PAUSE == 0:
            time.sleep(PAUSE_SECONDS)
    marks = "".join(f'"{name}":{mark},' for name, mark in snapshot.marks.items())
    return f'{{"version":{LAYOUT_VERSION},{marks}"accounts":{{{",".join(rows)}}}}}'.encode()
