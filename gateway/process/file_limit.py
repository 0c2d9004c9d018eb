"""How many devices the process may have at once, and others who hold on: each is an open file, and those are limited.

The soft limit is 1024 on most systems, for programs that still use ``select``; the gateway does not, and takes what the
hard limit allows (systemd says the same of LimitNOFILE=).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from gateway.devices.enrolment_queue import MOST as MOST_HELD
from gateway.devices.unauthenticated import MOST_STRANGERS

log = logging.getLogger(__name__)

RESERVED = 1024
"""For segments, databases, plain HTTP connections and handshakes."""
UNLIMITED = 1_000_000
SHARE = 16
"""One place in so many at most is for strangers, and one for devices that wait for a person."""
TOLERATED = 0.8
"""A limit that takes away less than a fifth of the devices is not worth a warning."""


@dataclass(frozen=True, slots=True)
class Places:
    """How many sockets there may be, each kind for itself, so that none is ever at the cost of another."""

    devices: int = UNLIMITED
    strangers: int = MOST_STRANGERS
    held: int = MOST_HELD


def places() -> Places:
    """Raise the soft limit to the hard one; what fits under it."""
    limit = raised()
    return Places() if limit is None else share(limit - RESERVED)


def raised() -> int | None:
    """Raise the soft limit to the hard one; how many files may be open then, None for any number."""
    try:
        import resource  # noqa: PLC0415 - not on every platform
    except ImportError:
        return None
    limit, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:  # a sandbox forbids it, or the system (macOS) has a limit above its limit
        log.warning("the limit of open files stays at %d: %s", limit, error)
    else:
        limit = hard
    return None if limit == resource.RLIM_INFINITY else limit


def share(files: int) -> Places:
    """Divide ``files`` among the kinds, each of which gets one at least."""
    strangers, held = (max(1, min(most, files // SHARE)) for most in (MOST_STRANGERS, MOST_HELD))
    return Places(max(1, min(UNLIMITED, files - strangers - held)), strangers, held)


def shortage(allowed: int, wanted: int) -> str | None:
    """What to tell an operator who wants more devices than fit."""
    if allowed >= wanted * TOLERATED:
        return None
    return (
        f"server.max_connections is {wanted}, and the system's limit of open files has room for {allowed} devices: "
        f"raise it to {wanted + RESERVED + MOST_STRANGERS + MOST_HELD} (ulimit -Hn, or LimitNOFILE= of the service)"
    )
