"""The process that serves: its event loop, its signals, and its notices to the service manager."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from typing import TYPE_CHECKING, Any, Protocol

from gateway.errors import GatewayError, in_words
from gateway.process.interpreter import tuned_to_serve
from gateway.process.systemd import ServiceManager, Watchdog, inherited_sockets

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from gateway.process.reload import ConfigSource, Reloader

new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
with contextlib.suppress(ImportError):  # not on every platform; plain asyncio works as well
    import uvloop

    new_event_loop = uvloop.new_event_loop

log = logging.getLogger(__name__)


class Servable(Protocol):
    """The gateway, as far as its process drives it: `gateway.app.Gateway`."""

    url: str
    """The base URL, known after `start`."""

    async def start(self, inherited: Sequence[socket.socket] = ()) -> None:
        """Start, and listen on the sockets ``inherited``, if there are any. Raises GatewayError or OSError."""
        ...

    async def stop(self) -> None:
        """Stop, with nothing acknowledged lost."""
        ...

    @property
    def commit_seconds(self) -> float:
        """For how long a commit has been under way; 0.0 without one."""
        ...

    def summary(self) -> str:
        """The state of the gateway in one line."""
        ...

    def reloader(self, source: ConfigSource) -> Reloader[Any]:
        """What brings the configuration of ``source`` into force."""
        ...


async def _run(gateway: Servable, on_ready: Callable[[str], None] | None, source: ConfigSource | None) -> None:
    loop = asyncio.get_running_loop()
    manager = ServiceManager(os.environ)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    requested_early = asyncio.Event()
    if source is not None:  # or a SIGHUP would end a gateway that recovers its spool
        loop.add_signal_handler(signal.SIGHUP, requested_early.set)
    manager.notify("STATUS=recovering the spool")
    try:
        await gateway.start(inherited_sockets(os.environ))
    except (GatewayError, OSError) as error:
        manager.notify(f"STATUS=cannot serve: {in_words(error)}")
        raise
    reloader = None if source is None else gateway.reloader(source)
    if reloader is not None:
        loop.add_signal_handler(signal.SIGHUP, reloader.request)
        if requested_early.is_set():
            reloader.request()
    watchdog = Watchdog(manager, lambda: gateway.commit_seconds, gateway.summary)
    watchdog.start()
    manager.notify("READY=1", f"STATUS={gateway.summary()}")
    if on_ready is not None:
        on_ready(gateway.url)
    with tuned_to_serve():
        await stopping.wait()
    manager.notify("STOPPING=1", "STATUS=closing the connections of devices")
    if reloader is not None:
        await reloader.close()
    await gateway.stop()
    watchdog.stop()


def serve(gateway: Servable, on_ready: Callable[[str], None] | None = None, source: ConfigSource | None = None) -> int:
    """Serve until SIGTERM or SIGINT; 0 after a clean stop, 1 when it could not start.

    ``on_ready`` is called with the base URL once devices can connect. SIGHUP reloads ``source``.
    """
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_run(gateway, on_ready, source))
    except (GatewayError, OSError) as error:
        log.critical("cannot serve: %s", in_words(error))
        return 1
    return 0
