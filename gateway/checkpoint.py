"""The ledger's checkpoint: one JSON file, replaced atomically before any spool segment is unlinked.

Everything after its marks (`Ledger.committed_to`, `Ledger.delivered_to`) is counted again from the spool, so an old
checkpoint costs time at start and a lost one only the counts of records that have already gone.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from gateway.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gateway.spool.files import Files

log = logging.getLogger(__name__)


def load(path: Path) -> Ledger:
    """The ledger in the checkpoint at ``path``; an empty one, with a line in the log, when it cannot be read."""
    try:
        return Ledger.restored(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return Ledger()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("ledger checkpoint %s cannot be used (%s): counting again from the spool alone", path, error)
        return Ledger()


def writer(ledger: Ledger, path: Path, files: Files) -> Callable[[], None]:
    """Take a consistent copy of ``ledger`` now; the returned function writes it, durably, on any thread."""
    snapshot: dict[str, Any] = ledger.snapshot()

    def write() -> None:
        files.replace(path, json.dumps(snapshot, separators=(",", ":")).encode())

    return write
