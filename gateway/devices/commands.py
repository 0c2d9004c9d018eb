"""Commands on their way to devices, and the results that come back.

Rules that hold here:

* A command is in the log before it is sent. Only the device's own result marks it as done.
* A command that is not kept fails when the socket that it was sent on closes; whether it was carried out is then not
  known, and the answer says so. A kept command waits for the device's next connection and is sent again, under the same
  id, until its result or its deadline: at least once. A device knows by the id what it has done already.
* Every command ends once for its caller. A result that comes after that is still written to the log.
* One timer serves all deadlines, on the event loop's clock, so that a change of the wall clock ends no command early. A
  device without commands costs a look into a dictionary when it connects and when it disconnects.
* Everything has a bound: `MAX_OF_DEVICE` open commands of a device, `MAX_OPEN` of all, `MAX_LATE` whose result may
  still come late. What the log has to learn of a command is one note, however often its device connects. One
  transaction at a time writes all notes that there are.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from gateway.process.threads import WorkerThreads
from gateway.state.command_log import CommandLog, CommandProgress, CommandResult, CommandState

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.devices.device_connection import DeviceConnection
    from gateway.protocol.reports import Result
    from gateway.state.command_log import Command

log = logging.getLogger(__name__)

MAX_OF_DEVICE = 100
MAX_OPEN = 5000
MAX_LATE = 1000
LAST_WRITES = 5.0
"""Seconds that a stop leaves for notes that are still to be written."""
NOT_CONNECTED, NOT_SENT = "not_connected", "not_sent"
CONNECTION_LOST, NO_ANSWER = "connection_lost", "no_answer"


class TooManyCommands(Exception):
    """There is no room for another command; the text says whose."""


@dataclass(slots=True, eq=False)
class Pending:
    """A command that has not ended."""

    command: Command
    deadline: float
    """On the event loop's clock, in seconds."""
    ended: asyncio.Future[CommandResult]
    """Gets the end of the command, for its caller."""
    logged: bool = False
    """Whether the command is in the log, so that it may be sent."""
    connection: DeviceConnection | None = None
    """The open connection on which it was sent last; None if there is none."""
    was_sent: bool = False
    """Whether it was ever sent, so that a result may come."""


class Commands:
    """The open commands of one gateway; made on a running loop.

    ``connection`` gives the socket of a device, if it has one. ``count`` gets the state in which each command ended.
    """

    def __init__(
        self,
        commands: CommandLog,
        connection: Callable[[str], DeviceConnection | None],
        count: Callable[[CommandState], None],
    ) -> None:
        self._log = commands
        self._connection = connection
        self._count = count
        self._loop = asyncio.get_running_loop()
        self._writer: WorkerThreads[None] = WorkerThreads(1, "command-log")
        self._notes: defaultdict[str, CommandProgress] = defaultdict(CommandProgress)
        """What the log has yet to learn of each command, by its id."""
        self._writing = False
        """Whether a transaction with notes is under way."""
        self._devices: dict[str, dict[str, Pending]] = {}
        """The open commands, by device, then by command id."""
        self._open = 0
        """How many there are of all devices."""
        self._late: dict[str, str] = {}
        """Commands that were sent and have ended without a result: by command id, the device. The oldest first."""
        self._timer: asyncio.TimerHandle | None = None
        """Runs `_expire` at the earliest deadline of an open command."""

    def __len__(self) -> int:
        return self._open

    def recover(self) -> None:
        """Go on with the kept commands that were open when the gateway stopped; the others have failed. Blocks.

        Raises:
            sqlite3.Error: the log cannot be read.
        """
        now = time.time_ns()
        for command, was_sent in self._log.resume(now):
            pending = self._admit(command, (command.expires_ns - now) / 1e9)
            pending.logged, pending.was_sent = True, was_sent

    async def submit(self, command: Command, seconds: float) -> Pending:
        """Write ``command`` to the log, and send it if the device is connected. Its end comes through ``ended``.

        Raises:
            TooManyCommands: nothing was written or sent.
            sqlite3.Error: it could not be written, and was not sent.
        """
        if len(self._devices.get(command.device, ())) >= MAX_OF_DEVICE:
            raise TooManyCommands(f"{MAX_OF_DEVICE} commands of this device are open; one has to end first")
        if self._open >= MAX_OPEN:
            raise TooManyCommands(f"{MAX_OPEN} commands are open; one has to end first")
        pending = self._admit(command, seconds)
        try:
            await self._writer.submit(partial(self._log.add, command))
        except BaseException:
            self._forget(pending)
            raise
        pending.logged = True
        who = f"{command.name} ({command.id}), by {command.role} at {command.address}"
        _log_device(command.device, f"command {who}{', kept' if command.keep else ''}")
        if not pending.ended.done() and not self._send(pending) and not command.keep:
            if self._ms_left(pending) > 0:
                self._end(pending, CommandState.FAILED, error=NOT_CONNECTED)
            else:
                self._end(pending, CommandState.EXPIRED, error=NOT_SENT)
        return pending

    def connected(self, device: str) -> None:
        """The device was welcomed: send the commands that wait for it."""
        for pending in list(self._devices.get(device, {}).values()):
            if pending.connection is None and pending.logged:
                self._send(pending)

    def disconnected(self, device: str, connection: DeviceConnection) -> None:
        """A socket of the device has closed."""
        for pending in list(self._devices.get(device, {}).values()):
            if pending.connection is not connection:
                continue
            pending.connection = None
            if not pending.command.keep:
                self._end(pending, CommandState.FAILED, error=CONNECTION_LOST)
            elif not self._send(pending):  # on a newer connection, which may be there already
                self._notes[pending.command.id].state = CommandState.WAITING
                self._write()

    def answered(self, device: str, result: Result) -> bool:
        """A result came, on any socket of the device; False if no command of this device waits for it."""
        pending = self._devices.get(device, {}).get(result.id)
        if pending is not None:
            self._end(pending, CommandState.ANSWERED, ok=result.ok, value=result.value, error=result.error)
            return True
        if self._late.get(result.id) != device:
            return False
        del self._late[result.id]
        self._notes[result.id].ending = CommandResult(
            CommandState.ANSWERED, time.time_ns(), result.ok, result.value, result.error
        )
        self._write()
        _log_device(device, f"command {result.id} was answered late, ok: {result.ok}")
        return True

    def _admit(self, command: Command, seconds: float) -> Pending:
        pending = Pending(command, self._loop.time() + seconds, self._loop.create_future())
        self._devices.setdefault(command.device, {})[command.id] = pending
        self._open += 1
        self._wake_at(pending.deadline)
        return pending

    def _forget(self, pending: Pending) -> None:
        mine = self._devices.get(pending.command.device, {})
        if mine.pop(pending.command.id, None) is not None:
            self._open -= 1
        if not mine:
            self._devices.pop(pending.command.device, None)

    def _send(self, pending: Pending) -> bool:
        command, connection = pending.command, self._connection(pending.command.device)
        left = self._ms_left(pending)
        if connection is None or left <= 0 or not connection.command(command, left):
            return False
        pending.connection, pending.was_sent = connection, True
        note = self._notes[command.id]
        note.state, note.sends, note.sent_ns = CommandState.SENT, note.sends + 1, time.time_ns()
        self._write()
        return True

    def _ms_left(self, pending: Pending) -> int:
        """Milliseconds until the deadline."""
        return round((pending.deadline - self._loop.time()) * 1000)

    def _end(
        self,
        pending: Pending,
        state: CommandState,
        *,
        ok: bool | None = None,
        value: bytes | None = None,
        error: str | None = None,
    ) -> None:
        command = pending.command
        self._forget(pending)
        ending = CommandResult(state, time.time_ns(), ok, value, error)
        self._notes[command.id].ending = ending
        self._write()
        self._count(state)
        if state is not CommandState.ANSWERED and pending.was_sent:
            self._late[command.id] = command.device
            if len(self._late) > MAX_LATE:
                del self._late[next(iter(self._late))]
        # What the device says is in the command log. It stays out of the log lines.
        how = f"ok: {ok}" if state is CommandState.ANSWERED else error
        _log_device(command.device, f"command {command.name} ({command.id}) {state.value}, {how}")
        if not pending.ended.done():
            pending.ended.set_result(ending)

    def _wake_at(self, deadline: float) -> None:
        if self._timer is not None and self._timer.when() <= deadline:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        self._timer, now = None, self._loop.time()
        pendings = [pending for mine in self._devices.values() for pending in mine.values()]
        for pending in pendings:
            if pending.deadline <= now:
                self._end(pending, CommandState.EXPIRED, error=NO_ANSWER if pending.was_sent else NOT_SENT)
        left = [pending.deadline for pending in pendings if pending.deadline > now]
        if left:
            self._wake_at(min(left))

    def _write(self) -> None:
        """Write the notes, after the calls that the writer has already: a command is in the log before its note."""
        if self._writing or not self._notes:
            return
        self._writing = True
        self._writer.submit(partial(self._log.write, self._taken())).add_done_callback(self._written)

    def _taken(self) -> dict[str, CommandProgress]:
        notes, self._notes = self._notes, defaultdict(CommandProgress)
        return notes

    def _written(self, done: asyncio.Future[None]) -> None:
        self._writing = False
        _report(done)
        self._write()

    async def close(self) -> None:
        """Write the notes that are left, and close the log. Kept commands go on after the next start."""
        if self._timer is not None:
            self._timer.cancel()
        last = self._writer.submit(partial(self._log.write, self._taken()) if self._notes else lambda: None)
        last.add_done_callback(_report)
        await asyncio.wait([last], timeout=LAST_WRITES)
        self._writer.close()
        if last.done():
            self._log.close()


def _log_device(device: str, what: str) -> None:
    log.info("device %s: %s", device, what, extra={"device": device})


def _report(written: asyncio.Future[None]) -> None:
    error = None if written.cancelled() else written.exception()
    if isinstance(error, sqlite3.Error):
        log.warning("the state of a command could not be written to the log: %s", error)
    elif error is not None:
        log.error("the state of a command could not be written to the log", exc_info=error)
