"""The sources of settings: the YAML file, secret files and the environment. A later one overrides an earlier one.

Rules that hold here:

* Every value is kept with its origin, so that a problem can be reported with its place.
* A file that cannot be read raises `ConfigError` at once. The values themselves are checked elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic_settings import EnvSettingsSource

from gateway.config.model import Config
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic.fields import FieldInfo

Location = tuple[str, ...]
"""The keys that lead to a setting, from the outermost."""

CREDENTIALS: Mapping[str, Location] = {
    "influxdb_token": ("influxdb", "token"),
    "influxdb_password": ("influxdb", "password"),
    "admin_token": ("auth", "admin_token"),
    "viewer_token": ("auth", "viewer_token"),
}
"""Names of secret files in ``$CREDENTIALS_DIRECTORY``, and the settings they hold."""

_PREFIX = "GATEWAY_"
_MAX_DEPTH = 6
"""One more than the keys that lead to the deepest setting. It ends the loop of an anchor that contains itself."""


@dataclass(slots=True)
class SettingsSource:
    """Nested values, where each was found, and problems that only the source can see."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Location, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def overridden_by(self, other: SettingsSource) -> SettingsSource:
        """The values of both; where both have one, that of ``other``."""
        return SettingsSource(
            merged(self.values, other.values), self.origins | other.origins, [*self.problems, *other.problems]
        )


def merged(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    """``low`` with the values of ``high`` put over it, section by section."""
    both = dict(low)
    for key, value in high.items():
        below = both.get(key)
        both[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return both


def yaml_file(path: Path) -> SettingsSource:
    """The settings in the file at ``path``.

    Raises:
        ConfigError: there is no such file, or it is not YAML; with line and column.
    """
    source = SettingsSource()
    try:
        text = path.read_text(encoding="utf-8")
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        _remember_lines(source, node, path, ())  # before YAML's merge keys are resolved
        values = loader.construct_document(node) if node else None
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: {_syntax(error)}"]) from error
    if values is not None and not isinstance(values, dict):
        raise ConfigError([f"{path}: expected sections of settings, found {text.strip()[:40]!r}"])
    if source.problems:
        raise ConfigError(source.problems)
    source.values = values or {}
    return source


def _syntax(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem or error.context}"
    return " ".join(str(error).split())


def _remember_lines(source: SettingsSource, node: yaml.Node | None, path: Path, location: Location) -> None:
    if not isinstance(node, yaml.MappingNode) or len(location) > _MAX_DEPTH:
        return
    seen: dict[str, int] = {}
    for key, value in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        if key.tag == "tag:yaml.org,2002:merge":
            continue
        if key.tag != "tag:yaml.org,2002:str":
            source.problems.append(f'{path}: line {line}: `{name}` is not text in YAML; write "{name}"')
        if name in seen:
            source.problems.append(f"{path}: line {line}: `{name}` was given already in line {seen[name]}; keep one")
        seen[name] = line
        source.origins[(*location, name)] = f"{path.name} line {line}"
        _remember_lines(source, value, path, (*location, name))


def credentials(directory: str | None) -> SettingsSource:
    """The secrets in ``directory``, as systemd (LoadCredential=) or a container puts them there."""
    source = SettingsSource()
    for name, (section, key) in CREDENTIALS.items() if directory else ():
        path = Path(directory or "") / name
        try:
            text = path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            source.problems.append(f"{section}.{key}: {path} cannot be read: {error}")
            continue
        source.values.setdefault(section, {})[key] = text
        source.origins[section, key] = f"credential {name}"
    return source


class _Environment(EnvSettingsSource):
    """Leaves text that is not JSON as it is, so that validation reports it together with all other problems."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


def environment(environ: Mapping[str, str]) -> SettingsSource:
    """The settings in variables such as ``GATEWAY_INFLUXDB__TOKEN``; empty variables count as not set."""
    variables = {name.upper(): text for name, text in environ.items() if text and name.upper().startswith(_PREFIX)}
    reader = _Environment(Config)
    reader.env_vars = {name.lower(): text for name, text in variables.items()}
    source = SettingsSource(reader())
    for location in leaves(source.values):
        names = (_PREFIX + "__".join(location[:end]).upper() for end in range(len(location), 0, -1))
        source.origins[location] = next(name for name in names if name in variables)
    for name in variables:
        section, nested, rest = name.removeprefix(_PREFIX).lower().partition("__")
        # Kubernetes gives every pod variables such as GATEWAY_PORT for a service called gateway: those are not ours.
        if nested and section not in Config.model_fields:
            source.values.setdefault(section, {})[rest] = None
            source.origins[(section,)] = name
    return source


def leaves(values: Mapping[str, Any], location: Location = ()) -> Iterator[Location]:
    """The locations of all values that are not sections; an empty section counts as a value."""
    for key, value in values.items():
        here = (*location, str(key))
        if isinstance(value, dict) and value:
            yield from leaves(value, here)
        else:
            yield here
