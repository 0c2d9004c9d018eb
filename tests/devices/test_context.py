from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.devices.context import Context
from gateway.http.client_certificates import Authorities
from gateway.state.registry_layout import Device


class Connection:
    """Of a device that was let in by a certificate, or by a token where there is a ``proof``."""

    def __init__(self, proof: bytes) -> None:
        self.device = Device(id="d", profile="kiln", proof=proof)
        self.chain = b"own", b"kilns"
        self.told: list[str] = []

    def revoke(self) -> None:
        self.told.append("revoked")


@pytest.mark.parametrize(
    ("profile", "proof", "told"), [("kiln", b"", []), ("oven", b"", ["revoked"]), ("oven", b"token", [])]
)
def test_a_device_that_gets_another_profile_needs_a_certificate_that_counts_for_it(
    profile: str, proof: bytes, told: list[str]
) -> None:
    connection = Connection(proof)
    context: Any = Context.__new__(Context)
    context.config = SimpleNamespace(auth=SimpleNamespace(mode="token"), profiles={"kiln": None, "oven": None})
    context.fleet = SimpleNamespace(views={"d": SimpleNamespace(connection=connection)})
    devices = SimpleNamespace(holds=lambda _device: True, lookup=lambda name: Device(id=name, profile=profile))
    context.registry = SimpleNamespace(devices=devices)
    context.authorities = Authorities({b"kilns": frozenset({"kiln"}), b"ovens": frozenset({"oven"})})
    cast("Context", context).credentials_changed("d")
    assert connection.told == told


class Broken:
    """A connection that meets a bug when it is to be closed in words."""

    def __init__(self) -> None:
        self.device = Device(id="broken")
        self.aborted = False

    def revoke(self) -> None:
        raise AssertionError("a bug")

    def abort(self) -> None:
        self.aborted = True


def test_a_revoked_device_that_cannot_be_told_is_cut_off_and_nobody_hears_of_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    connection = Broken()
    context: Any = Context.__new__(Context)
    context.config = SimpleNamespace(auth=SimpleNamespace(mode="token"))
    context.fleet = SimpleNamespace(views={"broken": SimpleNamespace(connection=connection)})
    context.registry = SimpleNamespace(devices=SimpleNamespace(holds=lambda _device: False))
    cast("Context", context).credentials_changed("broken")
    assert connection.aborted
    assert "could not be told so" in caplog.text
