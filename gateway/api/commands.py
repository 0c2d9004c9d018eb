"""``/v1/devices/{id}/commands``: giving a command, waiting for its result, and reading it again later.

Rules that hold here:

* Commands are for administrators, to read too: parameters may be secrets.
* An answer of 200 is the device's own result. Every other answer says what is not known.
* A client that leaves before the answer takes nothing back: the command goes on, and its end is in the history.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import sqlite3
import time
from typing import TYPE_CHECKING, Any

import orjson
from tornado.web import Finish, HTTPError

from gateway.api.blocking import BlockingHandler
from gateway.api.handler import MALFORMED
from gateway.devices.commands import MAX_OF_DEVICE as MAX_OPEN
from gateway.devices.commands import NOT_CONNECTED, TooManyCommands
from gateway.http.login_cookies import Role
from gateway.protocol.merge_patch import check_value
from gateway.state.command_log import MAX_COMMANDS_PER_DEVICE as MAX_SHOWN
from gateway.state.command_log import Command, CommandState
from gateway.time_units import NS_PER_MS

if TYPE_CHECKING:
    from gateway.devices.commands import Commands
    from gateway.devices.connections import Connections
    from gateway.devices.fleet import Fleet
    from gateway.state.command_log import CommandLog, CommandResult
    from gateway.state.registry import Registry

NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,64}")
MAX_PARAMS = 4 * 1024
"""Bytes of JSON. All commands that a device may have open fit into the buffer of its socket."""
DEFAULT_TIMEOUT_MS = 10_000
MAX_WAIT_MS = 120_000
DEFAULT_KEEP_MS = 86_400_000
MAX_KEEP_MS = 7 * 86_400_000
DEFAULT_PAGE = 50
_NOT_KNOWN = "whether the command was carried out is not known"
NOT_DONE = {
    "no_answer": f"the device did not answer in time; {_NOT_KNOWN}",
    "connection_lost": f"the connection closed before the device answered; {_NOT_KNOWN}",
    "not_sent": "the command could not be sent in time, and was not",
}


class DownlinkHandler(BlockingHandler):
    """An endpoint for what goes down to a device, for administrators."""

    fleet: Fleet
    registry: Registry

    def prepare(self) -> None:
        """Refuse any other client."""
        self.permits(Role.ADMIN)

    def require(self, device: str) -> None:
        """Go on if ``device`` is registered or has connected.

        Raises:
            Finish: it is not known, and the client was told so.
        """
        if self.registry.devices.lookup(device) is None and device not in self.fleet.known():
            self.refuse(404, "unknown_device", f"no device {device[:128]!r} is registered or has connected")
            raise Finish

    def caller(self) -> tuple[str, str]:
        """The role and the address of the client."""
        return self.grant().role.name.lower(), self.request.remote_ip or "?"


class CommandsHandler(DownlinkHandler):
    """``/v1/devices/{id}/commands``."""

    command_log: CommandLog
    commands: Commands
    connections: Connections

    async def get(self, device_id: str) -> None:
        """The newest commands, the newest first."""
        limit = self.number("limit", DEFAULT_PAGE, 1, MAX_SHOWN + MAX_OPEN)
        try:
            found = await self.run_blocking(lambda: self.command_log.history(device_id, limit))
        except sqlite3.Error as error:
            return self.refuse(503, "commands", f"commands: {error}")
        if not found:
            self.require(device_id)
        return self.answer({"commands": found})

    async def post(self, device_id: str) -> None:
        """Send ``{"name","params"?,"timeout_ms"?,"keep"?}`` and wait for the result; or keep it for later: 202."""
        self.require(device_id)
        command, seconds = self._command(device_id)
        if self.connections.draining:
            return self.refuse(503, "restarting", "the gateway is shutting down")
        view = self.fleet.views.get(device_id)
        if not command.keep and (view is None or view.connection is None):
            return self._not_connected()
        try:
            pending = await self.commands.submit(command, seconds)
        except TooManyCommands as error:
            return self.refuse(429, "too_many_commands", str(error))
        except sqlite3.Error as error:
            return self.refuse(503, "commands", f"the command could not be written and was not sent: {error}")
        if command.keep:
            return self.answer(
                {"id": command.id, "keep": True, "expires_at": command.expires_ns // NS_PER_MS}, status=202
            )
        self._call = asyncio.ensure_future(asyncio.shield(pending.ended))
        try:
            ending = await self._call
        except asyncio.CancelledError:  # the client has left
            raise Finish from None
        return self._tell(command, ending)

    def _command(self, device_id: str) -> tuple[Command, float]:
        body = self.body_object({"name": str, "params": dict, "timeout_ms": int, "keep": bool})
        name, params, keep = body.get("name", ""), body.get("params", {}), body.get("keep", False)
        if not NAME.fullmatch(name):
            raise HTTPError(MALFORMED, "name is 1 to 64 characters, none of them a control character")
        most, usual = (MAX_KEEP_MS, DEFAULT_KEEP_MS) if keep else (MAX_WAIT_MS, DEFAULT_TIMEOUT_MS)
        timeout_ms = body.get("timeout_ms", usual)
        if isinstance(timeout_ms, bool) or not 1 <= timeout_ms <= most:
            raise HTTPError(MALFORMED, f"timeout_ms is a whole number from 1 to {most}")
        now, (role, address) = time.time_ns(), self.caller()
        command = Command(
            id=f"c{secrets.token_hex(8)}",
            device=device_id,
            name=name,
            params=_params(params),
            keep=keep,
            role=role,
            address=address,
            created_ns=now,
            expires_ns=now + timeout_ms * NS_PER_MS,
        )
        return command, timeout_ms / 1000

    def _not_connected(self) -> None:
        self.refuse(409, "not_connected", 'the device is not connected; "keep": true has the command wait for it')

    def _tell(self, command: Command, ending: CommandResult) -> None:
        if ending.state is CommandState.ANSWERED:
            value = None if ending.value is None else orjson.Fragment(ending.value)
            answer: dict[str, Any] = {"id": command.id, "ok": ending.ok}
            return self.answer(answer | ({"value": value} if ending.ok else {"error": ending.error}))
        if ending.error == NOT_CONNECTED:
            return self._not_connected()
        code = str(ending.error)
        return self.refuse(504, code, NOT_DONE[code], id=command.id)


class CommandHandler(DownlinkHandler):
    """``GET /v1/devices/{id}/commands/{cid}``."""

    command_log: CommandLog

    async def get(self, device_id: str, command_id: str) -> None:
        """One command, and its result if there is one."""
        try:
            found = await self.run_blocking(lambda: self.command_log.show(device_id, command_id))
        except sqlite3.Error as error:
            return self.refuse(503, "commands", f"commands: {error}")
        if found is None:
            self.require(device_id)
            return self.refuse(404, "unknown_command", "there is no such command, or no more")
        return self.answer(found)


def _params(params: dict[str, Any]) -> bytes:
    try:
        check_value(params)
    except ValueError as error:
        raise HTTPError(MALFORMED, f"params: {error}") from None
    text = orjson.dumps(params)
    if len(text) > MAX_PARAMS:
        raise HTTPError(MALFORMED, f"params are at most {MAX_PARAMS} bytes of JSON, not {len(text)}")
    # It may wait for a week, and orjson 3.13 leaves what it wrote in a buffer that may be 200 times as large.
    return bytes(memoryview(text))
