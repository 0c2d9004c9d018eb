"""How many sockets of each kind there may be: each is an open file, and the system limits those."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.devices.enrolment_queue import MAX_REQUESTS as MAX_PENDING_APPROVAL
from gateway.devices.unauthenticated import MAX_UNAUTHENTICATED
from gateway.process.file_limit import raise_file_limit

RESERVED = 1024
"""Open files for segments, databases, plain HTTP connections and handshakes."""
UNLIMITED = 1_000_000
SHARE = 16
"""At most one place in so many is for unauthenticated connections, and one for devices that wait for approval."""
TOLERATED = 0.8
"""A file limit that leaves at least this share of the wanted places is not worth a warning."""


@dataclass(frozen=True, slots=True)
class Places:
    """How many sockets there may be of each kind. No kind takes places of another."""

    devices: int = UNLIMITED
    unauthenticated: int = MAX_UNAUTHENTICATED
    pending_approval: int = MAX_PENDING_APPROVAL


def places() -> Places:
    """Raise the limit of open files as far as allowed; the places that fit under it."""
    limit = raise_file_limit()
    return Places() if limit is None else share(limit - RESERVED)


def share(files: int) -> Places:
    """Divide ``files`` among the kinds; each gets one at least."""
    unauthenticated, pending = (
        max(1, min(most, files // SHARE)) for most in (MAX_UNAUTHENTICATED, MAX_PENDING_APPROVAL)
    )
    return Places(max(1, min(UNLIMITED, files - unauthenticated - pending)), unauthenticated, pending)


def shortage(allowed: int, wanted: int) -> str | None:
    """The warning for an operator who wants more devices than the limit of open files allows; None if they fit."""
    if allowed >= wanted * TOLERATED:
        return None
    needed = wanted + RESERVED + MAX_UNAUTHENTICATED + MAX_PENDING_APPROVAL
    return (
        f"server.max_connections is {wanted}, and the system's limit of open files has room for {allowed} devices: "
        f"raise it to {needed} (ulimit -Hn, or LimitNOFILE= of the service)"
    )
