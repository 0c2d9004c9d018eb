"""The first cause of the end of a WebSocket connection."""

from __future__ import annotations

from enum import StrEnum


class CloseCause(StrEnum):
    """The first cause of the end of a connection."""

    PEER = "peer"
    """The peer sent a Close frame first."""
    SERVER = "server"
    """The handler called `StreamHandler.close` first."""
    VIOLATION = "violation"
    """The peer broke the WebSocket protocol, or sent a message over the size limit."""
    ERROR = "error"
    """The handler raised an exception."""
    LOST = "lost"
    """The peer or the network ended the connection without a Close frame."""
    ABORTED = "aborted"
    """The handler called `StreamHandler.abort`."""
    WRITE_LIMIT = "write_limit"
    """More bytes than `StreamHandler.write_limit` waited for the peer to take them."""
