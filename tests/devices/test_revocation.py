"""A real registry, fleet and authorities; the connection is one that remembers what it was told."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from gateway.config import Config
from gateway.config.active_config import ActiveConfig
from gateway.devices.fleet import Fleet
from gateway.devices.presence import Presence
from gateway.devices.profiles import Profiles
from gateway.devices.revocation import Revocation
from gateway.http.client_certificates import Authorities
from gateway.ledger import Ledger
from gateway.protocol.field_rules import Rulebook
from gateway.protocol.field_types import FieldTypes
from gateway.protocol.series_budgets import Budgets
from gateway.state.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Connection:
    """Of a device that came with a certificate of the kilns' authority, or with a token."""

    chain = b"own", b"kilns"

    def __init__(self, device: Any) -> None:
        self.device = device
        self.told: list[str] = []

    def revoke(self) -> None:
        self.told.append("revoked")

    def abort(self) -> None:
        self.told.append("aborted")


class Broken(Connection):
    def revoke(self) -> None:
        raise AssertionError("a bug")


class World:
    def __init__(self, directory: Path) -> None:
        profiles: Any = {"default": {}, "kiln": {}, "oven": {}}
        active = ActiveConfig(Config.model_validate({"auth": {"mode": "token"}, "profiles": profiles}))
        self.registry = Registry(directory / "registry.db")
        self.fleet = Fleet(Ledger())
        self.authorities = Authorities({b"kilns": frozenset({"kiln"}), b"ovens": frozenset({"oven"})})
        rules = Profiles(active, Rulebook(FieldTypes(), Budgets(1)))
        self.revocation = Revocation(active, self.registry, self.authorities, rules, self.fleet)

    def connect(self, kind: type[Connection], token: str | None) -> Connection:
        known = self.registry.devices.lookup("d") if token is None else self.registry.devices.authenticate("d", token)
        assert known is not None
        connection: Any = kind(replace(known, proof=b"") if token is None else known)
        Presence(self.fleet, lambda _entry, _owner: None).connected("d", connection, 1)
        found: Connection = connection
        return found

    def change_profile(self, profile: str) -> None:
        self.registry.enrol("d", profile, None, 7, replaces=True)
        self.registry.refresh()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    made.registry.add("d", "kiln", {})
    made.registry.refresh()
    yield made
    made.registry.close()


@pytest.mark.parametrize(("profile", "told"), [("kiln", []), ("oven", ["revoked"])])
def test_a_device_with_a_certificate_goes_when_its_new_profile_has_another_authority(
    world: World, profile: str, told: list[str]
) -> None:
    connection = world.connect(Connection, None)
    world.change_profile(profile)
    world.revocation.authorities_changed(connection)  # type: ignore[arg-type]
    assert connection.told == told


def test_a_device_with_a_token_is_not_judged_by_authorities(world: World) -> None:
    token = world.registry.rotate("d")
    world.registry.refresh()
    connection = world.connect(Connection, token)
    world.authorities.renew({})
    world.revocation.authorities_changed(connection)  # type: ignore[arg-type]
    world.revocation.credentials_changed("d")
    assert connection.told == []


@pytest.mark.parametrize(("kind", "told"), [(Connection, ["revoked"]), (Broken, ["aborted"])])
def test_a_revoked_device_goes_and_one_that_cannot_be_told_is_cut_off(
    world: World, kind: type[Connection], told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    token = world.registry.rotate("d")
    world.registry.refresh()
    connection = world.connect(kind, token)
    world.registry.revoke("d")
    world.registry.refresh()
    world.revocation.credentials_changed("d")
    assert connection.told == told
    assert ("could not be told so" in caplog.text) == (kind is Broken)
