"""What is wrong with the disk at the moment, by what was tried."""

from __future__ import annotations

import logging
from enum import Enum

log = logging.getLogger(__name__)


class Area(Enum):
    """What was tried; the value says what its failure means."""

    APPEND = "readings cannot be kept"
    CURSOR = "what was delivered cannot be marked, it will be delivered again after a restart"
    HOUSEKEEPING = "delivered segments cannot be removed"


class DiskErrors:
    """Remembers the last error of each area until it works again; logs when that changes, not each time."""

    def __init__(self) -> None:
        self._errors: dict[Area, str] = {}

    def __contains__(self, area: Area) -> bool:
        return area in self._errors

    def note(self, area: Area, error: BaseException) -> None:
        """It failed."""
        text = str(error) or type(error).__name__
        if self._errors.get(area) != text:
            log.error("spool: %s: %s", area.value, text)
        self._errors[area] = text

    def clear(self, area: Area) -> None:
        """It worked."""
        if self._errors.pop(area, None) is not None:
            log.info("spool: works again (%s)", area.name.lower())

    @property
    def text(self) -> str | None:
        """All of it in one line; None when all is well."""
        return "; ".join(f"{area.value}: {error}" for area, error in self._errors.items()) or None
