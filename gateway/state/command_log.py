"""The log of commands: what a device was told to do, who told it, and with which result (one SQLite file).

Rules that hold here:

* A command is on disk (``synchronous=FULL``) before it is sent. So every command that a device received is in the log,
  and a command that is kept for a sleeping device survives a restart.
* A command has one answer, the first that is written. An answer after the deadline counts too; the times show that it
  was late.
* Only commands that have ended are deleted: all but the newest `MAX_COMMANDS_PER_DEVICE` of a device, and all but about
  the newest `MAX_COMMANDS` of all devices.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import orjson

from gateway.state.sqlite_file import open_store, transaction
from gateway.time_units import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

LAYOUT_VERSION = 1
MAX_COMMANDS_PER_DEVICE = 200
MAX_COMMANDS = 20_000
ERROR_RESTART = "restart"
"""The error of a command that a restart of the gateway ended."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS commands (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    device TEXT NOT NULL,
    name TEXT NOT NULL,
    params BLOB NOT NULL,     -- JSON
    keep INTEGER NOT NULL,
    role TEXT NOT NULL,       -- of the person or program that gave it
    address TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    expires_ns INTEGER NOT NULL,
    state TEXT NOT NULL,
    sends INTEGER NOT NULL DEFAULT 0,
    sent_ns INTEGER,          -- the last time
    ended_ns INTEGER,
    ok INTEGER,
    value BLOB,               -- JSON
    error TEXT
);
CREATE INDEX IF NOT EXISTS commands_by_device ON commands (device, n);
CREATE INDEX IF NOT EXISTS commands_open ON commands (n) WHERE state IN ('waiting', 'sent');
"""
_OPEN = "state IN ('waiting', 'sent')"
_GIVEN = "id, device, name, params, keep, role, address, created_ns, expires_ns"


class CommandState(StrEnum):
    """The state of a command; the last three are final."""

    WAITING = "waiting"
    SENT = "sent"
    ANSWERED = "answered"
    EXPIRED = "expired"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Command:
    """A command for a device; times are ns since 1970."""

    id: str
    device: str
    name: str
    params: bytes
    """JSON."""
    keep: bool
    """It waits for a device that is not connected."""
    role: str
    """The role of the person or program that gave it."""
    address: str
    """The address that it was given from."""
    created_ns: int
    expires_ns: int


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended."""

    state: CommandState
    at_ns: int
    ok: bool | None = None
    """Whether the device could do it; None without an answer."""
    value: bytes | None = None
    """JSON of the answer; None without one."""
    error: str | None = None
    """The device's text or, without an answer, the reason: ``no_answer``, ``not_sent`` (in time), ``not_connected``,
    ``connection_lost`` or ``restart``."""


@dataclass(slots=True)
class CommandProgress:
    """What has changed about a command since it was last written to the log."""

    state: CommandState = CommandState.WAITING
    """Ignored once there is an ``ending``."""
    sends: int = 0
    """How often it was sent since then."""
    sent_ns: int | None = None
    """The last time it was sent; None: not since then."""
    ending: CommandResult | None = None


class CommandLog:
    """The file at ``path``. Methods block, may be called from any thread, and raise sqlite3.Error when it fails."""

    def __init__(self, path: Path) -> None:
        """Raises: GatewayError if a newer gateway wrote the file, sqlite3.Error if it cannot be used."""
        self._lock = threading.Lock()
        self._db = open_store(path, "commands", LAYOUT_VERSION, _SCHEMA)

    def add(self, command: Command) -> None:
        """Write a command that has not been sent yet."""
        values = (
            command.id,
            command.device,
            command.name,
            command.params,
            command.keep,
            command.role,
            command.address,
            command.created_ns,
            command.expires_ns,
            CommandState.WAITING,
        )
        with self._lock, transaction(self._db):
            self._db.execute(f"INSERT INTO commands ({_GIVEN}, state) VALUES (?,?,?,?,?,?,?,?,?,?)", values)
            self._forget(command.device)

    def _forget(self, device: str) -> None:
        self._db.execute(
            f"DELETE FROM commands WHERE device = ? AND NOT {_OPEN} AND n <= (SELECT n FROM commands"
            f" WHERE device = ? AND NOT {_OPEN} ORDER BY n DESC LIMIT 1 OFFSET {MAX_COMMANDS_PER_DEVICE})",
            (device, device),
        )
        self._db.execute(
            f"DELETE FROM commands WHERE NOT {_OPEN} AND n <= (SELECT max(n) FROM commands) - {MAX_COMMANDS}"
        )

    def write(self, notes: Mapping[str, CommandProgress]) -> None:
        """Write the progress of commands, by their ids. A command that has ended changes only by a late answer."""
        steps = [(note.state, note.sends, note.sent_ns, command_id) for command_id, note in notes.items()]
        ends = [
            (end.state, end.at_ns, end.ok, end.value, end.error, command_id)
            for command_id, note in notes.items()
            if (end := note.ending) is not None
        ]
        with self._lock, transaction(self._db):
            self._db.executemany(
                "UPDATE commands SET state = ?, sends = sends + ?, sent_ns = coalesce(?, sent_ns)"
                f" WHERE id = ? AND {_OPEN}",
                steps,
            )
            self._db.executemany(
                "UPDATE commands SET state = ?, ended_ns = ?, ok = ?, value = ?, error = ? WHERE id = ? AND ok IS NULL",
                ends,
            )

    def resume(self, now_ns: int) -> list[tuple[Command, bool]]:
        """After a start: the open commands with ``keep``, the oldest first, and whether each was ever sent.

        These wait to be sent again. The other open commands have failed: no client waits for their answers any more.
        """
        with self._lock, transaction(self._db):
            self._db.execute(
                f"UPDATE commands SET state = ?, ended_ns = ?, error = ? WHERE {_OPEN} AND NOT keep",
                (CommandState.FAILED, now_ns, ERROR_RESTART),
            )
            self._db.execute(f"UPDATE commands SET state = ? WHERE {_OPEN}", (CommandState.WAITING,))
            rows = self._db.execute(f"SELECT {_GIVEN}, sends > 0 FROM commands WHERE {_OPEN} ORDER BY n").fetchall()
        return [(Command(*given), bool(sent)) for *given, sent in rows]

    def history(self, device: str, limit: int) -> list[dict[str, Any]]:
        """The newest commands of a device, the newest first, as the API shows them."""
        return self._shown("device = ? ORDER BY n DESC LIMIT ?", (device, limit))

    def show(self, device: str, command_id: str) -> dict[str, Any] | None:
        """One command as the API shows it; None if it is unknown or was deleted."""
        return next(iter(self._shown("device = ? AND id = ?", (device, command_id))), None)

    def _shown(self, where: str, values: Sequence[Any]) -> list[dict[str, Any]]:
        with self._lock:
            cursor = self._db.execute(f"SELECT * FROM commands WHERE {where}", values)
            names = [column[0] for column in cursor.description]
            rows = cursor.fetchall()
        return [_described(dict(zip(names, row, strict=True))) for row in rows]

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()


def _described(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "device": row["device"],
        "name": row["name"],
        "params": orjson.loads(row["params"]),
        "keep": bool(row["keep"]),
        "state": row["state"],
        "by": {"role": row["role"], "address": row["address"]},
        "created_at": row["created_ns"] // NS_PER_MS,
        "expires_at": row["expires_ns"] // NS_PER_MS,
        "sends": row["sends"],
        "sent_at": _ms(row["sent_ns"]),
        "ended_at": _ms(row["ended_ns"]),
        "ok": None if row["ok"] is None else bool(row["ok"]),
        "value": None if row["value"] is None else orjson.loads(row["value"]),
        "error": row["error"],
    }


def _ms(time_ns: int | None) -> int | None:
    return None if time_ns is None else time_ns // NS_PER_MS
