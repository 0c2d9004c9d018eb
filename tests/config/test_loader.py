from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config import Config, find, load, loader
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def problems_of(path: Path | None, environ: Mapping[str, str]) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        loader.read(path, environ, writing=True)
    return caught.value.problems


def test_without_a_file_the_defaults_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load(None, {})
    assert config.state.directory == tmp_path / "data"
    assert config.model_dump(exclude={"state", "spool", "sqlite"}) == Config().model_dump(
        exclude={"state", "spool", "sqlite"}
    )


def test_the_environment_of_the_process_is_read_only_where_it_is_handed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_SINK", "influxdb")
    assert Config().sink == "sqlite"
    assert load(None, {}).sink == "sqlite"
    assert load(None, os.environ).sink == "influxdb"


def test_what_overrides_what(path: Path, tmp_path: Path) -> None:
    path.write_text(
        "auth: {admin_token: from-the-yaml-file, viewer_token: from-the-yaml-file-too}\n"
        "influxdb: {token: from-the-yaml-file, password: from-the-yaml-file, bucket: b, gzip: true}\n"
    )
    (tmp_path / "influxdb_token").write_text("from-a-secret-file")
    (tmp_path / "influxdb_password").write_text("from-a-secret-file")
    (tmp_path / "viewer_token").write_text("viewer-from-a-secret-file")
    environ = {
        "CREDENTIALS_DIRECTORY": str(tmp_path),
        "GATEWAY_INFLUXDB__TOKEN": "from-the-environment",
        "GATEWAY_INFLUXDB__BUCKET": "c",
    }
    loaded = loader.read(path, environ, {"sink": "influxdb"})
    config = loaded.config
    secrets = (config.influxdb.token, config.influxdb.password, config.auth.admin_token, config.auth.viewer_token)
    assert [secret and secret.get_secret_value() for secret in secrets] == [
        "from-the-environment", "from-a-secret-file", "from-the-yaml-file", "viewer-from-a-secret-file",
    ]  # fmt: skip
    assert (config.influxdb.bucket, config.influxdb.gzip, config.sink) == ("c", True, "influxdb")
    assert loaded.origins["influxdb", "token"] == "GATEWAY_INFLUXDB__TOKEN"
    assert loaded.origins["influxdb", "password"] == "credential influxdb_password"
    assert loaded.origins["influxdb", "gzip"] == "config.yaml line 2"
    assert ("influxdb", "url") not in loaded.origins


def test_every_problem_is_told_at_once_with_path_and_place(path: Path, tmp_path: Path) -> None:
    path.write_text(
        """\
server:
  listn: 127.0.0.1:1
  max_connections: lots
  tls: {certificate: c.pem}
auth: {mode: opne, admin_token: "two words"}
keepalive: {timeout: 10s}
spool: {max_readings: 7, segment_bytes: 900MiB}
limits: {burst: 0.5}
sqlite:
profiles:
  kiln:
    tags: {site: no}
    fields:
      _a: {}
      b: {type: bool, min: 1}
      c: {foo: 1}
nats: {url: x}
"""
    )
    (tmp_path / "viewer_token").write_bytes(b"\xff")
    environ = {
        "CREDENTIALS_DIRECTORY": str(tmp_path),
        "GATEWAY_SINK": "influxdb",
        "GATEWAY_BATCH__MAX_AGE": "5",
        "GATEWAY_BACH__MAX_AGE": "5s",
        "GATEWAY_SERVER__ALLOWED_ORIGINS": "*",
    }
    found = dict(problem.split(": ", 1) for problem in problems_of(path, environ))
    assert found.pop("auth.viewer_token").startswith(f"{tmp_path}/viewer_token cannot be read")
    assert found == {
        "server.listn": "unknown setting; did you mean listen? (config.yaml line 2)",
        "server.max_connections": "expected a whole number, got 'lots' (config.yaml line 3)",
        "server.tls.key": "needed together with server.tls.certificate (config.yaml line 4)",
        "server.allowed_origins": "expected a list, such as [a, b] (GATEWAY_SERVER__ALLOWED_ORIGINS)",
        "auth.mode": "expected 'token' or 'open', got 'opne' (config.yaml line 5)",
        "auth.admin_token": "a token is made of printable ASCII characters and has no space (config.yaml line 5)",
        "keepalive.timeout": "must be longer than keepalive.ping_interval (20s), otherwise no device could answer a"
        " ping in time (config.yaml line 6)",
        "spool.max_readings": "unknown setting here; did you mean batch.max_readings? (config.yaml line 7)",
        "limits.burst": "expected a whole number, got 0.5 (config.yaml line 8)",
        "batch.max_age": "expected a duration such as 500ms, 20s, 5m, 1h or 30d, got 5 (GATEWAY_BATCH__MAX_AGE)",
        "bach": "unknown setting; did you mean batch? (GATEWAY_BACH__MAX_AGE)",
        "profiles.kiln.tags.site": "expected text; put numbers, dates and words such as yes, no, on in quotes"
        " (config.yaml line 12)",
        "profiles.kiln.fields._a": "`time` and names beginning with _ belong to the database (config.yaml line 14)",
        "profiles.kiln.fields.b": "a bool has no min or max (config.yaml line 15)",
        "profiles.kiln.fields.c.foo": "unknown setting; known here: type, min, max, unit (config.yaml line 16)",
        "nats": "unknown setting; known here: " + ", ".join(Config.model_fields) + " (config.yaml line 17)",
        "influxdb.token": "needed for sink: influxdb with api: v2, as GATEWAY_INFLUXDB__TOKEN or a credential"
        " influxdb_token",
    }


def test_conflicts_with_a_setting_that_is_itself_wrong_are_not_guessed(path: Path) -> None:
    path.write_text("auth: {mode: open}\nserver: {listen: 0.0.0.0}\nkeepalive: {timeout: 10s, ping_interval: x}\n")
    assert [problem.split(": ")[0] for problem in problems_of(path, {})] == ["server.listen", "keepalive.ping_interval"]


def test_secrets_are_never_shown(path: Path) -> None:
    path.write_text("auth: [hunter2]\ninfluxdb: {token: {hunter2: 1}, pasword: hunter2}\nsqlite: hunter2\n")
    environ = {"GATEWAY_AUTH__ADMIN_TOKEN": "hunter2", "GATEWAY_BATCH": '{"x": "hunter2'}
    assert "hunter2" not in " ".join(problems_of(path, environ)).replace("influxdb.token.hunter2", "")


def test_a_section_may_be_left_empty(path: Path) -> None:
    path.write_text("server:\n  tls:\nsqlite:\nprofiles:\n  default:\n  kiln:\n")
    config = load(path, {})
    assert config.server == Config().server
    assert set(config.profiles) == {"default", "kiln"}


@pytest.mark.parametrize(
    ("directory", "environ", "expected"),
    [
        ("data", {}, "{here}/data"),
        ("/srv/x", {}, "/srv/x"),
        ("/srv/x", {"STATE_DIRECTORY": "/var/lib/a"}, "/srv/x"),
        ("data", {"STATE_DIRECTORY": "/var/lib/a"}, "/var/lib/a/data"),
        ("data", {"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, "/var/lib/a/data"),
        (".", {"STATE_DIRECTORY": "/var/lib/a"}, "/var/lib/a"),
        ("data", {"GATEWAY_STATE__DIRECTORY": "/srv/y"}, "/srv/y"),
        ("data", {"GATEWAY_STATE__DIRECTORY": "y"}, "{here}/y"),
        ("~/x", {}, "{home}/x"),
    ],
)
def test_where_the_state_directory_is(path: Path, directory: str, environ: dict[str, str], expected: str) -> None:
    path.write_text(f"state: {{directory: {directory}}}\n")
    config = load(path, environ)
    where = Path(expected.format(here=path.parent, home=Path.home()))
    assert config.state.directory == where
    assert config.spool.directory == where / "spool"
    assert config.sqlite.path == where / "telemetry.db"


def test_the_installed_file_has_its_state_in_var_lib(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text("")
    monkeypatch.setattr(loader, "INSTALLED_CONFIG", path)
    assert load(path, {}).state.directory == Path("/var/lib/telemetry-gateway/data")


def test_certificates_are_beside_the_file(path: Path) -> None:
    path.write_text("server: {tls: {certificate: c.pem, key: /etc/k.pem}}\n")
    tls = load(path, {"STATE_DIRECTORY": "/var/lib/a"}).server.tls
    assert (tls.certificate, tls.key) == (path.parent / "c.pem", Path("/etc/k.pem"))
    tls = load(path, {"GATEWAY_SERVER__TLS__KEY": "k.pem"}).server.tls
    assert tls.key == path.parent / "k.pem"


def test_the_file_is_looked_for_here_and_then_in_etc(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loader, "INSTALLED_CONFIG", tmp_path / "etc.yaml")
    assert find() is None
    (tmp_path / "etc.yaml").write_text("")
    assert find() == tmp_path / "etc.yaml"
    path.write_text("")
    assert find() == Path("config.yaml")
    assert loader.INSTALLED_CONFIG.is_absolute()


_KEYS = st.sampled_from(
    [*Config.model_fields, "listen", "tls", "key", "token", "default", "fields", "tags", "min", "directory", "x", ""]
)
_TREES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(_KEYS, _TREES, max_size=5), st.dictionaries(_KEYS, st.text(max_size=5), max_size=3))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_given_ends_in_a_configuration_or_in_problems(
    tmp_path: Path, tree: dict[str, Any], variables: dict[str, str]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    environ = {f"GATEWAY_{name.upper()}__{name.upper()}": text for name, text in variables.items()}
    problems: tuple[str, ...] | None = None
    try:
        load(path, environ)
    except ConfigError as error:
        problems = error.problems
    assert problems is None or problems
    assert len(set(problems or ())) == len(problems or ())
