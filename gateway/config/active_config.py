"""The configuration in force, shared by all parts that read settings while the gateway runs."""

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
            yield f"the new configuration was refused, the old one stays in force: {problem}"
        if self.waiting:
            yield f"settings that changed and need a restart: {', '.join(self.waiting)}"
