"""Names of files in the state directory that more than one folder opens."""

from __future__ import annotations

DEAD_LETTERS = "dead_letters.db"
LEDGER = "ledger.json"
REGISTRY = "registry.db"
WRITE_LOG = "writes.log"
