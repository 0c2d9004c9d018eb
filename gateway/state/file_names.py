"""The names of the files in the state directory."""

from __future__ import annotations

COMMANDS = "commands.db"
DEAD_LETTERS = "dead_letters.db"
DEVICE_SETTINGS = "settings.db"
ENROLMENTS = "enrolments.db"
FIELD_TYPES = "field_types.db"
LEDGER = "ledger.json"
REGISTRY = "registry.db"
WRITE_LOG = "writes.log"
