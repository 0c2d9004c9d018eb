from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.config import Config
from gateway.config.reload_plan import plan, settings
from gateway.config.sections import Applies, Section


def test_every_setting_says_when_a_change_of_it_counts() -> None:
    found = dict(settings())
    assert found["limits.burst"] is Applies.LIVE
    assert found["spool.directory"] is Applies.AT_START


def test_a_setting_that_does_not_say_so_is_a_mistake() -> None:
    class Forgotten(Section):
        number: int = 1

    with pytest.raises(TypeError, match=r"part\.number is neither Live nor AtStart"):
        list(settings(Forgotten, "part."))


def test_a_profile_and_a_limit_change_and_a_directory_waits() -> None:
    old = Config(state={"directory": "/state"})  # type: ignore[arg-type]
    new = Config(
        state={"directory": "/other"},  # type: ignore[arg-type]
        limits={"burst": 5000},  # type: ignore[arg-type]
        profiles={"kiln": {"measurement": "kiln"}},  # type: ignore[dict-item]
        server={"listen": "127.0.0.1:9999", "max_connections": 7},  # type: ignore[arg-type]
    )
    found = plan(old, new)
    assert found.live == ("server.max_connections", "limits.burst", "profiles")
    assert found.waiting == ("server.listen", "spool.directory", "sqlite.path", "state.directory")
    assert found.config.server.listen == old.server.listen
    assert found.config.server.max_connections == 7
    assert found.config.spool.directory == Path("/state/spool")
    assert found.config.profiles["kiln"].measurement == "kiln"
    again = plan(found.config, new)
    assert (again.live, again.waiting) == ((), found.waiting)


@pytest.mark.parametrize("on_first", [True, False])
def test_tls_is_not_switched_under_way(on_first: bool) -> None:
    files = {"certificate": "/c.pem", "key": "/k.pem"}
    plain, secured = Config(), Config(server={"tls": files})  # type: ignore[arg-type]
    old, new = (secured, plain) if on_first else (plain, secured)
    found = plan(old, new)
    assert found.live == ()
    assert found.waiting == ("server.tls.certificate", "server.tls.key")
    assert found.config == old


def test_other_files_of_tls_are_taken_at_once() -> None:
    def secured(name: str) -> Config:
        files: dict[str, Any] = {"certificate": f"/{name}.pem", "key": "/k.pem"}
        return Config(server={"tls": files})  # type: ignore[arg-type]

    found = plan(secured("a"), secured("b"))
    assert (found.live, found.waiting) == (("server.tls.certificate",), ())
