"""The configuration that is in force, shared by every part that reads settings while the gateway runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.config.model import Config


class ActiveConfig:
    """Holds the configuration in force. A part that follows reloads keeps this object and reads `config` each time."""

    def __init__(self, config: Config) -> None:
        self.config = config
        """The settings in force. A reload puts another object in its place."""
        self.refused: tuple[str, ...] = ()
        """The problems of the file that was read last, if it was refused; else empty."""
        self.waiting: tuple[str, ...] = ()
        """The settings that have changed in the file and need a restart, by their path."""

    def warnings(self) -> Iterator[str]:
        """What an operator should know about the difference between the file and the settings in force."""
        for problem in self.refused:
            yield f"the new configuration is refused and the old one in force: {problem}"
        if self.waiting:
            yield f"the configuration has changed where it needs a restart: {', '.join(self.waiting)}"
