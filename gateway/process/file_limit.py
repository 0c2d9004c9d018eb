"""The system's limit of open files for this process.

The soft limit is 1024 on most systems, for programs that still use ``select``. The gateway does not, so it raises the
soft limit to the hard one (systemd says the same of LimitNOFILE=).
"""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)


def raise_file_limit() -> int | None:
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
