from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from gateway.config import (
    AuthSection,
    Config,
    FieldSection,
    InfluxdbSection,
    KeepaliveSection,
    ProfileSection,
    ServerSection,
    SpoolSection,
    SqliteSection,
    StateSection,
)

if TYPE_CHECKING:
    from gateway.config.sections import Section


def refused(section: type[Section], **values: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        section(**values)
    return str(caught.value)


def test_values_are_written_as_in_the_file_and_read_in_base_units() -> None:
    keepalive = KeepaliveSection.model_validate({"ping_interval": "1m", "timeout": "90s"})
    assert (keepalive.ping_interval, keepalive.timeout) == (60.0, 90.0)
    spool = SpoolSection.model_validate({"max_bytes": "2GiB", "commit_interval": "10ms"})
    assert (spool.max_bytes, spool.commit_interval) == (2**31, 0.01)
    assert ServerSection.model_validate({"listen": "[::1]:9"}).listen == ("::1", 9)
    assert SqliteSection.model_validate({"retention": None}).retention is None


def test_sections_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        KeepaliveSection().timeout = 3.0
    with pytest.raises(ValidationError, match="frozen"):
        Config().sink = "influxdb"


@pytest.mark.parametrize(
    ("section", "values"),
    [
        (KeepaliveSection, {"ping_interval": "50ms"}),
        (KeepaliveSection, {"timeout": "3h"}),
        (AuthSection, {"timeout": "0s"}),
        (ServerSection, {"max_message_bytes": "512B"}),
        (ServerSection, {"max_message_bytes": "17MiB"}),
        (SpoolSection, {"segment_bytes": "2GiB"}),
        (SpoolSection, {"commit_interval": "2s"}),
        (SqliteSection, {"retention": "1s"}),
    ],
)
def test_bounds_are_told(section: type[Section], values: dict[str, str]) -> None:
    assert "must be from" in refused(section, **values)


def test_a_token_fits_a_header_and_is_never_shown() -> None:
    token = "correct-horse-battery"
    auth = AuthSection.model_validate({"admin_token": token})
    assert auth.admin_token is not None
    assert auth.admin_token.get_secret_value() == token
    for wrong in ("with a space in it.", "nön-ascii-nön-ascii", "tab\tinside-the-token", ""):
        text = refused(AuthSection, admin_token=wrong)
        assert "printable ASCII" in text
        assert not wrong or wrong not in text
    config = Config(auth=auth, influxdb=InfluxdbSection.model_validate({"token": token, "password": token}))
    assert token not in f"{config!r} {config} {config.model_dump_json()} {config.model_dump()}"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("influx:8086", "expected an address"),
        ("ftp://x", "expected an address"),
        ("http://", "expected an address"),
        ("http://u:secret@x", "do not belong here"),
        ("http://x/?a=1", "nothing may follow"),
    ],
)
def test_a_database_address_is_checked(url: str, words: str) -> None:
    text = refused(InfluxdbSection, url=url)
    assert words in text
    assert "secret" not in text


def test_a_database_address_may_have_a_path() -> None:
    assert InfluxdbSection(url="https://proxy.example/influx/").url == "https://proxy.example/influx"


@pytest.mark.parametrize("origin", ["https://a.example/", "a.example", "https://", "ws://a.example", "https://a/b"])
def test_an_origin_is_scheme_and_host(origin: str) -> None:
    assert ServerSection(allowed_origins=("*", "https://a.example:1", "http://b")).allowed_origins
    assert "expected an origin" in refused(ServerSection, allowed_origins=[origin])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"type": "bool", "min": 1}, "a bool has no min or max"),
        ({"type": "string", "max": 1}, "a string has no min or max"),
        ({"min": 2, "max": 1.5}, "min 2 is greater than max 1.5"),
        ({"min": "1"}, "expected a number"),
        ({"max": True}, "expected a number"),
        ({"max": float("inf")}, "expected a number"),
        ({"min": float("nan")}, "expected a number"),
    ],
)
def test_a_fields_range_makes_sense(values: dict[str, Any], words: str) -> None:
    assert words in refused(FieldSection, **values)


def test_a_fields_range_keeps_its_kind_of_number() -> None:
    field = FieldSection(type="int", min=-(2**63), max=2**63 - 1)
    assert (field.min, field.max) == (-(2**63), 2**63 - 1)
    assert isinstance(FieldSection(min=0.5).min, float)


@pytest.mark.parametrize(
    "values",
    [
        {"strict": True},
        {"tags": {"device": "x"}},
        {"tags": {"site": "a\nb"}},
        {"fields": {"_x": {}}},
        {"allowed_tags": ["time"]},
        {"measurement": "#x"},
    ],
)
def test_a_profile_is_possible_in_the_database(values: dict[str, Any]) -> None:
    assert refused(ProfileSection, **values)


def test_the_default_profile_always_exists() -> None:
    kiln = ProfileSection(measurement="kiln")
    assert Config(profiles={"kiln": kiln}).profiles == {"default": ProfileSection(), "kiln": kiln}
    assert Config(profiles={"default": kiln}).profiles == {"default": kiln}


def test_files_are_below_the_state_directory_unless_absolute() -> None:
    config = Config(state=StateSection(directory=Path("/s")))
    assert (config.spool.directory, config.sqlite.path) == (Path("/s/spool"), Path("/s/telemetry.db"))
    config = Config(spool=SpoolSection(directory=Path("/x")), sqlite=SqliteSection(path=Path("/y/z.db")))
    assert (config.spool.directory, config.sqlite.path) == (Path("/x"), Path("/y/z.db"))
