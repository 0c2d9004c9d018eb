"""How many devices the process may have at once: each is an open file, and the system limits those.

The soft limit is 1024 on most systems, for programs that still use ``select``; the gateway does not, and takes what the
hard limit allows (systemd says the same of LimitNOFILE=).
"""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)

RESERVED = 1024
"""For segments, databases, plain HTTP connections and handshakes."""
UNLIMITED = 1_000_000
TOLERATED = 0.9
"""A limit that takes away less than a tenth of the devices is not worth a warning."""


def devices_allowed() -> int:
    """Raise the soft limit to the hard one; how many devices fit under it."""
    try:
        import resource  # noqa: PLC0415 - not on every platform
    except ImportError:
        return UNLIMITED
    limit, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:  # a sandbox forbids it, or the system (macOS) has a limit above its limit
        log.warning("the limit of open files stays at %d: %s", limit, error)
    else:
        limit = hard
    return UNLIMITED if limit == resource.RLIM_INFINITY else max(1, min(UNLIMITED, limit - RESERVED))


def shortage(allowed: int, wanted: int) -> str | None:
    """What to tell an operator who wants more devices than fit."""
    if allowed >= wanted * TOLERATED:
        return None
    return (
        f"server.max_connections is {wanted}, and the system's limit of open files has room for {allowed} devices: "
        f"raise it to {wanted + RESERVED} (ulimit -Hn, or LimitNOFILE= of the service)"
    )
