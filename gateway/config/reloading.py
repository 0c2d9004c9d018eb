"""What a new configuration changes in a gateway that runs, and what has to wait for a restart.

Rules that hold here:

* Every setting is in exactly one of `LIVE` and `AT_START`; nothing else decides what a reload does.
* A setting waits for a restart where devices were told it for the length of their session, or where files or sockets
  that are in use stand for it. TLS is not turned on or off under way, only its files are changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from gateway.config.model import Config

if TYPE_CHECKING:
    from collections.abc import Iterator

M = TypeVar("M", bound=BaseModel)

LIVE = frozenset({
    "server.tls.certificate", "server.tls.key", "server.tls.client_ca", "server.max_connections",
    "server.allowed_origins", "server.trusted_proxies",
    "auth.admin_token", "auth.viewer_token", "auth.enrol", "auth.enrol_expiry",
    "sink", "influxdb.url", "influxdb.api", "influxdb.org", "influxdb.bucket", "influxdb.token", "influxdb.database",
    "influxdb.username", "influxdb.password", "influxdb.gzip", "influxdb.timeout", "sqlite.retention",
    "limits.readings_per_second", "limits.burst", "limits.messages_per_second", "limits.message_burst",
    "limits.bytes_per_second", "limits.byte_burst", "limits.backlog", "limits.max_unacked", "limits.strikes_per_minute",
    "limits.series_per_day",
    "profiles", "logging.level", "logging.format",
})  # fmt: skip
"""In force as soon as the file is read again."""

AT_START = frozenset({
    "server.connects_per_second", "server.connect_burst",
    "server.listen", "server.ack_delay", "server.max_message_bytes", "server.allow_open_network",
    "auth.mode", "auth.timeout",
    "keepalive.ping_interval", "keepalive.timeout", "keepalive.message_timeout",
    "spool.directory", "spool.commit_interval", "spool.segment_bytes", "spool.max_bytes", "spool.when_full",
    "spool.keep_delivered", "spool.min_free",
    "batch.max_readings", "batch.max_age", "batch.max_in_flight", "sqlite.path",
    "state.directory",
})  # fmt: skip
"""In force from the next start on."""

_TLS_FILES = "server.tls.certificate", "server.tls.key", "server.tls.client_ca"


@dataclass(frozen=True, slots=True)
class Change:
    """``config`` is in force now; ``live`` changed with it, ``waiting`` are the settings that need a restart."""

    config: Config
    live: tuple[str, ...]
    waiting: tuple[str, ...]


def change(old: Config, new: Config) -> Change:
    """What becomes of ``old``, which is in force, when the file says ``new``."""
    differing = [name for name in settings() if _value(old, name) != _value(new, name)]
    switched = (old.server.tls.certificate is None) != (new.server.tls.certificate is None)
    waits = AT_START | {*_TLS_FILES} if switched else AT_START
    waiting = tuple(name for name in differing if name in waits)
    config = new
    for name in waiting:
        config = _with(config, name.split("."), _value(old, name))
    return Change(config, tuple(name for name in differing if name not in waits), waiting)


def settings(model: type[BaseModel] = Config, above: str = "") -> Iterator[str]:
    """Every setting by its path; the profiles are one setting."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from settings(field.annotation, f"{above}{name}.")
        else:
            yield above + name


def _value(config: BaseModel, name: str) -> Any:
    value: Any = config
    for key in name.split("."):
        value = getattr(value, key)
    return value


def _with(model: M, path: list[str], value: Any) -> M:
    key, *rest = path
    return model.model_copy(update={key: _with(getattr(model, key), rest, value) if rest else value})


@dataclass(slots=True)
class Standing:
    """How the file stands to what is in force: ``refused`` are its problems, ``waiting`` as in `Change`."""

    refused: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()

    def warnings(self) -> Iterator[str]:
        """What an operator should know."""
        for problem in self.refused:
            yield f"the new configuration is refused and the old one in force: {problem}"
        if self.waiting:
            yield f"the configuration has changed where it needs a restart: {', '.join(self.waiting)}"
