"""The databases that readings are written to: one module or package each, named as the setting ``sink`` names it.

Each has a function ``make_sink(config)``, which returns a `gateway.delivery.sink.Sink`. Only the module of the
configured database is imported: influxdb-client alone takes a third of a second.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.delivery.sink import Sink


def make_sink(config: Config) -> Sink:
    """The configured database. It is not contacted yet, so a database that is down does not stop the start."""
    sink: Sink = import_module(f"{__name__}.{config.sink}").make_sink(config)
    return sink
