"""The current errors of the disk, by the task that failed."""

from __future__ import annotations

import logging
from enum import Enum

log = logging.getLogger(__name__)


class Area(Enum):
    """A task that needs the disk; the value says what its failure means."""

    APPEND = "readings cannot be kept"
    CURSOR = "the cursor cannot be stored, delivered readings will be delivered again after a restart"
    HOUSEKEEPING = "delivered segments cannot be removed"


class DiskErrors:
    """Keeps the last error of each area until that area works again; logs changes, not each failure."""

    def __init__(self) -> None:
        self._errors: dict[Area, str] = {}

    def __contains__(self, area: Area) -> bool:
        return area in self._errors

    def note(self, area: Area, error: BaseException) -> None:
        """The area failed."""
        text = str(error) or type(error).__name__
        if self._errors.get(area) != text:
            log.error("spool: %s: %s", area.value, text)
        self._errors[area] = text

    def clear(self, area: Area) -> None:
        """The area works."""
        if self._errors.pop(area, None) is not None:
            log.info("spool: works again (%s)", area.name.lower())

    @property
    def text(self) -> str | None:
        """All errors in one line; None without one."""
        return "; ".join(f"{area.value}: {error}" for area, error in self._errors.items()) or None
