"""Checks that need more than one setting."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gateway.config.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.config.model import Config
    from gateway.config.sources import Location


class Conflict(NamedTuple):
    """Settings that contradict each other."""

    paths: tuple[Location, ...]
    """The settings concerned; the first is the one to change."""
    text: str


def conflicts(config: Config) -> Iterator[Conflict]:
    """Every conflict in ``config``, except `missing_secrets`."""
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
            f"open lets every machine that can reach {server.listen} send readings as any device; use token, "
            "or confirm it with server.allow_open_network: true",
        )
    if (server.tls.certificate is None) != (server.tls.key is None):
        missing, given = ("key", "certificate") if server.tls.key is None else ("certificate", "key")
        yield Conflict(
            (("server", "tls", missing), ("server", "tls", given)), f"needed together with server.tls.{given}"
        )
    if server.tls.client_ca is not None and server.tls.certificate is None:
        yield Conflict(
            (("server", "tls", "certificate"), ("server", "tls", "client_ca")),
            "needed together with server.tls.client_ca: without TLS no device can show a certificate",
        )

    for name, profile in config.profiles.items():
        if profile.client_ca is not None and server.tls.certificate is None:
            yield Conflict(
                (("server", "tls", "certificate"), ("profiles", name, "client_ca")),
                f"needed together with profiles.{name}.client_ca: without TLS no device can show a certificate",
            )


def _tokens(config: Config) -> Iterator[Conflict]:
    if config.auth.enrol != "never" and config.auth.mode == "open":
        yield Conflict(
            (("auth", "enrol"), ("auth", "mode")),
            "with auth.mode: open every device may connect, so none asks for enrolment: use token there, or never here",
        )
    if config.auth.viewer_token is not None and config.auth.viewer_token == config.auth.admin_token:
        yield Conflict(
            (("auth", "viewer_token"), ("auth", "admin_token")),
            "equals the admin token; every viewer would be an administrator",
        )


def _proportions(config: Config) -> Iterator[Conflict]:
    keepalive = config.keepalive
    if keepalive.timeout <= keepalive.ping_interval:
        yield Conflict(
            (("keepalive", "timeout"), ("keepalive", "ping_interval")),
            f"must be longer than keepalive.ping_interval ({format_duration(keepalive.ping_interval)}), "
            "otherwise no device could answer a ping in time",
        )


def _influxdb(config: Config) -> Iterator[Conflict]:
    influxdb = config.influxdb
    for name in ("url", "database") if influxdb.api == "v1" else ("url", "org", "bucket"):
        if not getattr(influxdb, name):
            yield _needed(config, name)
    if influxdb.api == "v1" and influxdb.username is None and influxdb.password is not None:
        yield Conflict((("influxdb", "username"), ("influxdb", "password")), "needed together with influxdb.password")


def missing_secrets(config: Config) -> Iterator[Conflict]:
    """Secrets of the database that are missing. Only a process that writes to the database needs them."""
    influxdb = config.influxdb
    if config.sink != "influxdb":
        return
    if influxdb.api == "v1":
        if influxdb.username is not None and influxdb.password is None:
            hint = "as GATEWAY_INFLUXDB__PASSWORD or a credential influxdb_password"
            paths = ("influxdb", "password"), ("influxdb", "username")
            yield Conflict(paths, f"needed together with influxdb.username, {hint}")
    elif influxdb.token is None or not influxdb.token.get_secret_value():
        yield _needed(config, "token", ", as GATEWAY_INFLUXDB__TOKEN or a credential influxdb_token")


def _needed(config: Config, name: str, hint: str = "") -> Conflict:
    paths = ("influxdb", name), ("influxdb", "api"), ("sink",)
    return Conflict(paths, f"needed for sink: influxdb with api: {config.influxdb.api}{hint}")
