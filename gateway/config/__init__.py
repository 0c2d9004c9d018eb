"""The gateway's configuration: frozen sections, read from YAML, secret files and the environment.

`load` is the way in; it raises `gateway.errors.ConfigError` with every problem at once. The sections can also be built
directly, with values as they stand in the file (``KeepaliveSection(timeout="30s")``), for example in tests.
"""

from __future__ import annotations

from gateway.config.loader import find, load
from gateway.config.model import Config
from gateway.config.sections import (
    DEFAULT_PROFILE,
    AuthSection,
    BatchSection,
    FieldSection,
    InfluxdbSection,
    KeepaliveSection,
    LimitsSection,
    LoggingSection,
    ProfileSection,
    ServerSection,
    SpoolSection,
    SqliteSection,
    StateSection,
    TlsSection,
)
from gateway.config.units import ListenAddress

__all__ = [
    "DEFAULT_PROFILE",
    "AuthSection",
    "BatchSection",
    "Config",
    "FieldSection",
    "InfluxdbSection",
    "KeepaliveSection",
    "LimitsSection",
    "ListenAddress",
    "LoggingSection",
    "ProfileSection",
    "ServerSection",
    "SpoolSection",
    "SqliteSection",
    "StateSection",
    "TlsSection",
    "find",
    "load",
]
