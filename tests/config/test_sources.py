from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway.config.sources import credentials, environment, merged, yaml_file
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def problems_of(path: Path, text: str | bytes) -> tuple[str, ...]:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as caught:
        yaml_file(path)
    return caught.value.problems


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.yaml"


def test_values_are_remembered_with_their_lines(path: Path) -> None:
    path.write_text("# comment\nsink: sqlite\nserver:\n  listen: 127.0.0.1:1\n  tls: {key: k}\nspool:\n")
    source = yaml_file(path)
    assert source.values == {"sink": "sqlite", "server": {"listen": "127.0.0.1:1", "tls": {"key": "k"}}, "spool": None}
    assert source.origins == {
        ("sink",): "gateway.yaml line 2",
        ("server",): "gateway.yaml line 3",
        ("server", "listen"): "gateway.yaml line 4",
        ("server", "tls"): "gateway.yaml line 5",
        ("server", "tls", "key"): "gateway.yaml line 5",
        ("spool",): "gateway.yaml line 6",
    }


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "---\n", "{}"])
def test_a_file_without_settings_is_fine(path: Path, text: str) -> None:
    path.write_text(text)
    assert yaml_file(path).values == {}


def test_a_missing_file_is_named(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        yaml_file(path)
    assert caught.value.problems == (f"{path}: No such file or directory",)
    with pytest.raises(ConfigError, match="Is a directory"):
        yaml_file(path.parent)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: b\nserver: {listen: x\n", "line 3, column 1: "),
        ("a: b: c\n", "line 1, column 5: mapping values are not allowed here"),
        ("a:\n\t- b\n", "line 2, column 1: found character '\\t' that cannot start any token"),
        ("a: *nowhere\n", "line 1, column 4: found undefined alias 'nowhere'"),
        ("a: 1\n---\nb: 2\n", "line 2, column 1: but found another document"),
        ("? [a]\n: b\n", "line 1, column 3: found unhashable key"),
        ("a: !!python/object:os.system x\n", "line 1, column 4: could not determine a constructor"),
        (b"a: \xff\n", "'utf-8' codec can't decode byte 0xff in position 3: invalid start byte"),
        (b"a: \x00\n", "unacceptable character #x0000"),
        ("- a\n", "expected sections of settings, found '- a'"),
        ("sqlite", "expected sections of settings, found 'sqlite'"),
        ("sink: a\nspool: {}\nsink: b\n", "line 3: `sink` was given already in line 1; keep one"),
        ("on: x\n", 'line 1: `on` is not text in YAML; write "on"'),
        ("profiles:\n  12: {}\n", 'line 2: `12` is not text in YAML; write "12"'),
    ],
)
def test_what_is_not_yaml_is_shown_where_it_is(path: Path, text: str | bytes, problem: str) -> None:
    (found,) = problems_of(path, text)
    assert found.startswith(f"{path}: {problem}")


def test_anchors_and_merges_are_yaml_too(path: Path) -> None:
    path.write_text("profiles:\n  a: &a {strict: false}\n  b:\n    <<: *a\n    strict: true\n")
    assert yaml_file(path).values == {"profiles": {"a": {"strict": False}, "b": {"strict": True}}}
    path.write_text("profiles: &p\n  a: *p\n")
    assert yaml_file(path).origins["profiles", "a", "a"] == "gateway.yaml line 2"


def test_secret_files_hold_the_secrets_they_are_named_after(tmp_path: Path) -> None:
    for name in ("influxdb_token", "influxdb_password", "admin_token", "viewer_token"):
        (tmp_path / name).write_text(f"  the {name}\n")
    (tmp_path / "tls_key").write_text("somebody else's")
    source = credentials(str(tmp_path))
    assert source.values == {
        "influxdb": {"token": "the influxdb_token", "password": "the influxdb_password"},
        "auth": {"admin_token": "the admin_token", "viewer_token": "the viewer_token"},
    }
    assert source.origins["influxdb", "token"] == "credential influxdb_token"
    assert source.problems == []


def test_secret_files_need_not_be_there(tmp_path: Path) -> None:
    assert credentials(None).values == credentials("").values == credentials(str(tmp_path)).values == {}
    assert credentials(str(tmp_path / "nowhere")).values == {}


def test_a_secret_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "admin_token").mkdir()
    (tmp_path / "viewer_token").write_bytes(b"\xff")
    admin, viewer = credentials(str(tmp_path)).problems
    assert admin.startswith(f"auth.admin_token: {tmp_path}/admin_token cannot be read: ")
    assert viewer.startswith(f"auth.viewer_token: {tmp_path}/viewer_token cannot be read: ")


def test_variables_are_paths_and_lists_and_sections_are_json() -> None:
    source = environment(
        {
            "GATEWAY_INFLUXDB__TOKEN": "t",
            "gateway_sink": "influxdb",
            "GATEWAY_SERVER__TLS__KEY": "k",
            "GATEWAY_SERVER__ALLOWED_ORIGINS": '["*"]',
            "GATEWAY_PROFILES": '{"kiln": {"strict": true}}',
            "GATEWAY_PROFILES__DEFAULT__TAGS__SITE": "north",
            "GATEWAY_SPOOL__DIRECTORY": "",
            "OTHER": "x",
        }
    )
    assert source.values == {
        "influxdb": {"token": "t"},
        "sink": "influxdb",
        "server": {"tls": {"key": "k"}, "allowed_origins": ["*"]},
        "profiles": {"kiln": {"strict": True}, "default": {"tags": {"site": "north"}}},
    }
    assert source.origins == {
        ("influxdb", "token"): "GATEWAY_INFLUXDB__TOKEN",
        ("sink",): "GATEWAY_SINK",
        ("server", "tls", "key"): "GATEWAY_SERVER__TLS__KEY",
        ("server", "allowed_origins"): "GATEWAY_SERVER__ALLOWED_ORIGINS",
        ("profiles", "kiln", "strict"): "GATEWAY_PROFILES",
        ("profiles", "default", "tags", "site"): "GATEWAY_PROFILES__DEFAULT__TAGS__SITE",
    }


def test_text_that_is_not_json_is_left_for_validation() -> None:
    source = environment({"GATEWAY_SERVER__ALLOWED_ORIGINS": "a,b", "GATEWAY_BATCH": "{", "GATEWAY_SPOOL__X": "1"})
    assert source.values == {"server": {"allowed_origins": "a,b"}, "batch": "{", "spool": {"x": "1"}}


def test_variables_of_others_are_left_alone_and_misspelt_sections_are_not() -> None:
    assert environment({"GATEWAY_SERVICE_HOST": "10.0.0.1", "GATEWAY_PORT_80_TCP": "tcp://10.0.0.1:80"}).values == {}
    source = environment({"GATEWAY_SPOL__DIRECTORY": "/x"})
    assert source.values == {"spol": {"directory": None}}
    assert source.origins[("spol",)] == "GATEWAY_SPOL__DIRECTORY"


def test_merging_overrides_single_settings() -> None:
    low = {"a": {"x": 1, "y": 2}, "b": 1, "c": {"z": 1}}
    assert merged(low, {"a": {"y": 3}, "b": {"w": 1}, "c": None}) == {"a": {"x": 1, "y": 3}, "b": {"w": 1}, "c": None}
    assert low == {"a": {"x": 1, "y": 2}, "b": 1, "c": {"z": 1}}
