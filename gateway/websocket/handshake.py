"""What a request to a device's socket says before it becomes one (RFC 6455 section 4).

The gateway's own part is docs/reference/protocol.md, "Connecting".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tornado.httputil import HTTPHeaders

VERSION = "13"
CREDENTIAL_PREFIX = "bearer."


def lacking(headers: HTTPHeaders) -> str | None:
    """What a request lacks that would be a WebSocket handshake (RFC 6455 section 4.2.1)."""
    connection = [option.strip().lower() for option in headers.get("Connection", "").split(",")]
    if headers.get("Upgrade", "").lower() != "websocket" or "upgrade" not in connection:
        return "devices connect here by WebSocket: Connection: Upgrade and Upgrade: websocket are needed"
    if headers.get("Sec-WebSocket-Version") != VERSION or not headers.get("Sec-WebSocket-Key"):
        return f"Sec-WebSocket-Version: {VERSION} and a Sec-WebSocket-Key are needed"
    return None


def offered_subprotocols(headers: HTTPHeaders) -> list[str]:
    """The subprotocols that are offered, but for a credential in their place."""
    return [name for name in _protocols(headers) if not name.startswith(CREDENTIAL_PREFIX)]


def offered_token(headers: HTTPHeaders) -> str | None:
    """The credential that a browser offers as a subprotocol, for want of headers that it may set."""
    found = (name for name in _protocols(headers) if name.startswith(CREDENTIAL_PREFIX))
    return next((name.removeprefix(CREDENTIAL_PREFIX) for name in found), None)


def _protocols(headers: HTTPHeaders) -> list[str]:
    header = headers.get("Sec-WebSocket-Protocol", "")
    return [name.strip() for name in header.split(",") if name.strip()]
