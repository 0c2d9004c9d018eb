"""What the harness tells the generator: whom to connect to, and how to send."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """The server and the devices to connect to it.

    ``path`` has ``{device}`` where the server wants it. ``tokens`` is a file with one ``device token`` a line, or empty
    where the server asks for none. ``acks``: the server speaks the gateway's protocol, so a device is connected once it
    has its welcome, and every message is acknowledged. ``first`` is the number of the first device, ``at_once`` how
    many may be connecting at the same moment.
    """

    port: int
    path: str
    connections: int
    form: str = "reading"
    tls: bool = False
    acks: bool = False
    tokens: str = ""
    first: int = 0
    at_once: int = 100


@dataclass(frozen=True)
class Pace:
    """How to send, for ``seconds`` or until each device has sent ``messages``.

    With a ``rate`` (messages per second and device) the devices keep a schedule, whatever the server does. Without one
    each sends as fast as it is taken: ``window`` messages ahead of the acknowledgements, or as many as TCP takes.
    """

    seconds: float
    messages: int
    rate: float = 0.0
    window: int = 32
