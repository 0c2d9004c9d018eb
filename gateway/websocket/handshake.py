"""The headers of a WebSocket handshake (RFC 6455 section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tornado.httputil import HTTPHeaders

VERSION = "13"
"""The only version that RFC 6455 knows."""


def missing_for_upgrade(headers: HTTPHeaders) -> str | None:
    """What the request still needs to be a WebSocket handshake (RFC 6455 section 4.2.1); None if nothing is missing."""
    connection = [option.strip().lower() for option in headers.get("Connection", "").split(",")]
    if headers.get("Upgrade", "").lower() != "websocket" or "upgrade" not in connection:
        return "devices connect here by WebSocket: Connection: Upgrade and Upgrade: websocket are needed"
    if headers.get("Sec-WebSocket-Version") != VERSION or not headers.get("Sec-WebSocket-Key"):
        return f"Sec-WebSocket-Version: {VERSION} and a Sec-WebSocket-Key are needed"
    return None


def offered_subprotocols(headers: HTTPHeaders) -> list[str]:
    """The subprotocols that the request offers, in its order."""
    header = headers.get("Sec-WebSocket-Protocol", "")
    return [name.strip() for name in header.split(",") if name.strip()]
