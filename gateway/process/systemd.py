"""What systemd and the gateway tell each other: sockets handed over, readiness, signs of life.

The protocols are small: ``sd_listen_fds(3)`` (sockets) and ``sd_notify(3)`` (a datagram of lines to the socket that
``$NOTIFY_SOCKET`` names). Rules that hold here:

* Without a service manager nothing here does anything.
* A notice that cannot be sent within `PATIENCE` is dropped: a gateway that hangs on it would be worse.
* A sign of life says that the event loop runs *and* that commits come to an end. A commit that has been under way for
  long ends the signs. A failed commit does not: it was handled, and a restart would mend nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from typing import TYPE_CHECKING

from gateway.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

log = logging.getLogger(__name__)

PATIENCE = 0.5
"""Seconds that a notice may wait for room in the manager's queue."""
FIRST_FD = 3
"""Where handed-over file descriptors begin: SD_LISTEN_FDS_START."""


def inherited_sockets(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """The listening TCP sockets that the service manager holds for this process; none if it does not.

    The variables are taken out of ``environ``: they are not meant for children.

    Raises:
        GatewayError: something else was handed over.
    """
    given = {name: environ.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS", "FDNAMES")}
    if given["PID"] != str(os.getpid()):
        return []
    names = given["FDNAMES"].split(":")
    return [_listening(FIRST_FD + n, names[n] if n < len(names) else "unknown") for n in range(int(given["FDS"] or 0))]


def _listening(fd: int, name: str) -> socket.socket:
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise GatewayError(f"the service manager hands over {name}, which is not a socket: {error}") from error
    if problem := _unfit(sock):
        sock.close()
        raise GatewayError(f"the service manager hands over {name}, which {problem}")
    sock.settimeout(0)
    sock.set_inheritable(False)
    return sock


def _unfit(sock: socket.socket) -> str | None:
    if sock.family not in {socket.AF_INET, socket.AF_INET6} or sock.type != socket.SOCK_STREAM:
        return "is not a TCP socket"
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return "does not listen: it needs Accept=no"
    return None


class ServiceManager:
    """The service manager that started this process, if there is one. Times in seconds."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._address = environ.pop("NOTIFY_SOCKET", "")
        meant_for = environ.pop("WATCHDOG_PID", "") or str(os.getpid())
        usec = environ.pop("WATCHDOG_USEC", "")
        self.watchdog = int(usec) / 1e6 if usec.isdecimal() and meant_for == str(os.getpid()) else 0.0
        """How long it waits for a sign of life before it kills the process; 0: it does not wait for any."""

    def notify(self, *lines: str) -> None:
        """Send assignments such as ``READY=1``, which `sd_notify(3)` lists."""
        if not self._address:
            return
        # A leading @ stands for the NUL byte of the abstract namespace (unix(7)).
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.settimeout(PATIENCE)
            try:
                sock.sendto("\n".join(lines).encode(), address)
            except OSError as error:
                log.warning("the service manager cannot be told %s: %s", lines[0], error)


class Watchdog:
    """Sends ``manager`` a sign of life, twice within its time-out, as long as the gateway works.

    ``commit_seconds`` says for how long a commit has been under way (0 without one), ``state`` is a line for people.
    """

    def __init__(self, manager: ServiceManager, commit_seconds: Callable[[], float], state: Callable[[], str]) -> None:
        self._manager = manager
        self._every = manager.watchdog / 2
        self._commit_seconds = commit_seconds
        self._state = state
        self._timer: asyncio.TimerHandle | None = None
        self._silent = False
        """Whether the last sign of life was withheld."""

    def start(self) -> None:
        """Begin on the running loop, if there is a watchdog."""
        if self._every:
            self._look(asyncio.get_running_loop())

    def stop(self) -> None:
        """Give no more signs."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(self._every, self._look, loop)  # first: an error below must not end the signs
        stuck = self._commit_seconds()
        # By the time of the kill, such a commit will have lasted for the manager's whole time-out at least.
        if stuck < self._every:
            self._silent = False
            self._manager.notify("WATCHDOG=1", f"STATUS={self._state()}")
        elif not self._silent:
            self._silent = True
            log.critical("a commit has been under way for %.1f s: no more signs of life until it ends", stuck)
