"""What a new configuration changes in a running gateway, and what has to wait for a restart.

Rules that hold here:

* The type of each setting decides (`gateway.config.sections.Applies`); nothing else says what a reload does.
* TLS is not turned on or off by a reload, only its files are exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from gateway.config.model import Config
from gateway.config.sections import Applies

if TYPE_CHECKING:
    from collections.abc import Iterator

SectionT = TypeVar("SectionT", bound=BaseModel)

_TLS_FILES = "server.tls.certificate", "server.tls.key", "server.tls.client_ca"


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """What a reload does."""

    config: Config
    """The configuration in force after the reload."""
    live: tuple[str, ...]
    """The settings that change now, by their path."""
    waiting: tuple[str, ...]
    """The settings that have changed in the file and need a restart."""


def plan(old: Config, new: Config) -> ConfigChange:
    """What a reload does to ``old``, which is in force, when the file says ``new``."""
    differing = [(name, applies) for name, applies in settings() if _value(old, name) != _value(new, name)]
    switched = (old.server.tls.certificate is None) != (new.server.tls.certificate is None)
    waiting = tuple(
        name for name, applies in differing if applies is Applies.AT_START or (switched and name in _TLS_FILES)
    )
    config = new
    for name in waiting:
        config = _with(config, name.split("."), _value(old, name))
    return ConfigChange(config, tuple(name for name, _ in differing if name not in waiting), waiting)


def settings(model: type[BaseModel] = Config, above: str = "") -> Iterator[tuple[str, Applies]]:
    """Every setting by its path, and when a change of it counts; the profiles are one setting.

    Raises:
        TypeError: the type of a setting does not say so.
    """
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from settings(field.annotation, f"{above}{name}.")
            continue
        applies = next((mark for mark in field.metadata if isinstance(mark, Applies)), None)
        if applies is None:
            raise TypeError(f"{above}{name} is neither Live nor AtStart")
        yield above + name, applies


def _value(config: BaseModel, name: str) -> Any:
    value: Any = config
    for key in name.split("."):
        value = getattr(value, key)
    return value


def _with(model: SectionT, path: list[str], value: Any) -> SectionT:
    key, *rest = path
    return model.model_copy(update={key: _with(getattr(model, key), rest, value) if rest else value})
