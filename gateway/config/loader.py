"""Reads files and environment variables into a `Config`, or reports every problem.

Rules that hold here:

* The YAML file overrides the defaults, secret files override the YAML file, and the environment overrides both.
* All problems are reported together: a wrong setting does not hide conflicts between others.
* The only files read are the configuration, the secret files and, for a gateway that serves, those of TLS.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from gateway.config.checks import conflicts, missing_secrets
from gateway.config.model import Config
from gateway.config.problems import explain, problem
from gateway.config.sections import StateSection
from gateway.config.sources import SettingsSource, credentials, environment, merged, yaml_file
from gateway.config.tls import unusable
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gateway.config.checks import Conflict
    from gateway.config.sources import Location

TLS_FILES = "certificate", "key", "client_ca"
INSTALLED_CONFIG = Path("/etc/telemetry-gateway/config.yaml")
INSTALLED_STATE = Path("/var/lib/telemetry-gateway")


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A configuration, and where each setting that is not a default was set."""

    config: Config
    origins: Mapping[Location, str]
    """For example ``config.yaml line 7``."""


def find() -> Path | None:
    """The configuration file to use when none is named."""
    return next((path for path in (Path("config.yaml"), INSTALLED_CONFIG) if path.is_file()), None)


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """The configuration from the file at ``path`` (none: defaults) and from the environment.

    Raises:
        ConfigError: with every problem, each as ``path: text``.
    """
    return read(path, environ).config


def read(
    path: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, Any] | None = None,
    *,
    serving: bool = False,
    writing: bool = False,
) -> LoadedConfig:
    """As `load`, with origins; ``overrides`` are nested values that override all others.

    ``writing`` also requires the secrets that writing to the database needs. ``serving`` requires them too, and checks
    the files that only a gateway that serves reads.

    Raises:
        ConfigError: with every problem, each as ``path: text``.
    """
    source = yaml_file(path) if path is not None else SettingsSource()
    source = source.overridden_by(credentials(environ.get("CREDENTIALS_DIRECTORY")))
    source = source.overridden_by(environment(environ)).overridden_by(SettingsSource(dict(overrides or {})))
    values = _anchored(source.values, _file_home(path), _state_home(path, environ))
    config, faults = _validated(values, source.origins)
    found = list(conflicts(config))
    if serving or writing:
        found += missing_secrets(config)
    if serving:
        found += unusable(config)
    problems = [*source.problems, *faults.values(), *_without_hidden(found, faults, source.origins)]
    if problems:
        raise ConfigError(problems)
    return LoadedConfig(config, source.origins)


def _validated(values: dict[str, Any], origins: Mapping[Location, str]) -> tuple[Config, dict[Location, str]]:
    """The configuration without the settings that are wrong, and the problem of each.

    A wrong setting can hide a problem of its section. So wrong settings are removed until there is no new problem.
    """
    faults: dict[Location, str] = {}
    while True:
        try:
            return Config(**values), faults
        except ValidationError as error:
            found = explain(error, origins)
            faults |= found
            values = _without(values, found)


def _file_home(path: Path | None) -> Path:
    return path.absolute().parent if path is not None else Path.cwd()


def _state_home(path: Path | None, environ: Mapping[str, str]) -> Path:
    """The directory that contains a relative state.directory.

    $STATE_DIRECTORY of the service manager comes first. The other two do not depend on the working directory of a
    command, so that ``gateway devices add`` finds the registry of the running gateway.
    """
    given = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    home = _file_home(path)
    return INSTALLED_STATE if home == INSTALLED_CONFIG.parent else home


def _anchored(values: dict[str, Any], file_home: Path, state_home: Path) -> dict[str, Any]:
    state = values.get("state") or {}
    server = values.get("server") or {}
    tls = server.get("tls") or {} if isinstance(server, dict) else {}
    placed: dict[str, Any] = {}
    if isinstance(state, dict):
        directory = state.get("directory", str(StateSection().directory))
        placed["state"] = _below(state_home, {"directory": directory})
    if isinstance(tls, dict) and tls:
        placed["server"] = {"tls": _below(file_home, {name: tls.get(name) for name in TLS_FILES})}
    profiles = values.get("profiles")
    if isinstance(profiles, dict):
        named = {name: profile for name, profile in profiles.items() if isinstance(profile, dict)}
        placed["profiles"] = {
            name: _below(file_home, {"client_ca": profile["client_ca"]})
            for name, profile in named.items()
            if "client_ca" in profile
        }
    return merged(values, placed)


def _below(home: Path, paths: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: str(home / Path(path).expanduser()) if isinstance(path, str) else path for name, path in paths.items()
    }


def _without(values: Mapping[str, Any], locations: Iterable[Location]) -> dict[str, Any]:
    rest = dict(values)
    for location in locations:
        inner = rest.get(location[0])
        if len(location) > 1 and isinstance(inner, dict):
            rest[location[0]] = _without(inner, [location[1:]])
        else:
            rest.pop(location[0], None)
    return rest


def _without_hidden(
    found: Iterable[Conflict], faults: Iterable[Location], origins: Mapping[Location, str]
) -> list[str]:
    known_wrong = list(faults)
    return [
        problem(conflict.paths[0], conflict.text, origins)
        for conflict in found
        if not any(path[: len(wrong)] == wrong for path in conflict.paths for wrong in known_wrong)
    ]
