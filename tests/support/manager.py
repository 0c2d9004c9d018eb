"""A service manager's part as systemd plays it: it holds the listening socket and hears what the gateway tells."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import yaml

from tests.support.gateway import RunningGateway, config_for, merged

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "telemetry-gateway.socket"}
os.execv(sys.executable, [sys.executable, "-m", "gateway", "run", "--config", sys.argv[2]])
"""
WAIT = 30.0


class Manager:
    """Runs gateways one after the other on one plain socket, their data in ``directory``. ``watchdog`` in seconds."""

    def __init__(self, directory: Path, *, watchdog: float = 60.0) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        plain = {"server": {"tls": {"certificate": None, "key": None}}}
        self._config = directory / "config.yaml"
        self._config.write_text(yaml.safe_dump(merged(config_for(directory, {}), plain)))
        self._watchdog = watchdog
        self._held = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.url = f"http://127.0.0.1:{self._held.getsockname()[1]}"
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._address = f"@gateway-tests-{os.getpid()}-{id(self)}"
        self._notices.bind("\0" + self._address[1:])

    @contextlib.contextmanager
    def gateway(self) -> Iterator[RunningGateway]:
        """A gateway that has said that it is ready; it does not outlive the block."""
        environ = {"NOTIFY_SOCKET": self._address, "WATCHDOG_USEC": f"{self._watchdog * 1e6:.0f}"}
        fd, log_path = self._held.fileno(), self.directory / "gateway.log"
        with log_path.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", _HAND_OVER, str(fd), str(self._config)],
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(fd,),
                env={**os.environ, **environ},
            )
        try:
            assert self.hear("READY=1"), log_path.read_text()
            yield RunningGateway(process, self.url, self.directory, self._config, log_path)
        finally:
            process.kill()
            process.wait()

    def hear(self, line: str, seconds: float = WAIT) -> bool:
        """Whether a notice with ``line`` comes in time; those before it are forgotten."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._notices.settimeout(left)
            with contextlib.suppress(TimeoutError):
                if line in self._notices.recv(4096).decode().splitlines():
                    return True
        return False

    def dial(self) -> socket.socket:
        """A client's socket, whether there is a gateway or not."""
        return socket.create_connection(self._held.getsockname(), timeout=WAIT)

    def close(self) -> None:
        """Let go of the sockets."""
        self._held.close()
        self._notices.close()
