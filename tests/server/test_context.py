from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from gateway.registry_layout import Device
from gateway.server.context import Context

if TYPE_CHECKING:
    import pytest


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
    context.registry = SimpleNamespace(holds=lambda _device: False)
    cast("Context", context).credentials_changed("broken")
    assert connection.aborted
    assert "could not be told so" in caplog.text
