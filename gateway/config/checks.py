"""What settings ask of each other, beyond what each may be on its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gateway.config.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.config.model import Config
    from gateway.config.sources import Location


class Conflict(NamedTuple):
    """Settings that do not go together: the paths it is about, the one to change first, and what is wrong."""

    paths: tuple[Location, ...]
    text: str


def conflicts(config: Config) -> Iterator[Conflict]:
    """Every conflict in ``config``."""
    yield from _network(config)
    yield from _tokens(config)
    yield from _proportions(config)
    if config.sink == "influxdb":
        yield from _influxdb(config)


def _network(config: Config) -> Iterator[Conflict]:
    server = config.server
    if config.auth.mode == "open" and not server.listen.loopback and not server.allow_open_network:
        yield Conflict(
            (("auth", "mode"), ("server", "listen"), ("server", "allow_open_network")),
            f"open lets anyone who can reach {server.listen} send readings as any device; use token, "
            "or say that it is meant: server.allow_open_network: true",
        )
    if (server.tls.certificate is None) != (server.tls.key is None):
        missing, given = ("key", "certificate") if server.tls.key is None else ("certificate", "key")
        yield Conflict((("server", "tls", missing), ("server", "tls", given)), f"needed beside server.tls.{given}")
    if server.tls.client_ca is not None and server.tls.certificate is None:
        yield Conflict(
            (("server", "tls", "certificate"), ("server", "tls", "client_ca")),
            "needed beside server.tls.client_ca: without TLS no device can show a certificate",
        )

    for name, profile in config.profiles.items():
        if profile.client_ca is not None and server.tls.certificate is None:
            yield Conflict(
                (("server", "tls", "certificate"), ("profiles", name, "client_ca")),
                f"needed beside profiles.{name}.client_ca: without TLS no device can show a certificate",
            )


def _tokens(config: Config) -> Iterator[Conflict]:
    if config.auth.enrol != "never" and config.auth.mode == "open":
        yield Conflict(
            (("auth", "enrol"), ("auth", "mode")),
            "with auth.mode: open every device is let in, and none would ever ask: use token, or never here",
        )
    if config.auth.viewer_token is not None and config.auth.viewer_token == config.auth.admin_token:
        yield Conflict(
            (("auth", "viewer_token"), ("auth", "admin_token")),
            "is the admin token; viewers would be administrators",
        )


def _proportions(config: Config) -> Iterator[Conflict]:
    keepalive = config.keepalive
    if keepalive.timeout <= keepalive.ping_interval:
        yield Conflict(
            (("keepalive", "timeout"), ("keepalive", "ping_interval")),
            f"must be longer than keepalive.ping_interval ({format_duration(keepalive.ping_interval)}), "
            "or no device could answer a ping in time",
        )


def _influxdb(config: Config) -> Iterator[Conflict]:
    influxdb = config.influxdb
    needed = ("url", "database") if influxdb.api == "v1" else ("url", "org", "bucket", "token")
    for name in needed:
        value = getattr(influxdb, name)
        if not (value.get_secret_value() if name == "token" and value is not None else value):
            hint = ", as GATEWAY_INFLUXDB__TOKEN or a credential influxdb_token" if name == "token" else ""
            yield Conflict(
                (("influxdb", name), ("influxdb", "api"), ("sink",)),
                f"needed for sink: influxdb with api: {influxdb.api}{hint}",
            )
    if influxdb.api == "v1" and (influxdb.username is None) != (influxdb.password is None):
        missing, given = ("password", "username") if influxdb.password is None else ("username", "password")
        yield Conflict((("influxdb", missing), ("influxdb", given)), f"needed beside influxdb.{given}")
