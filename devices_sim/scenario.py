"""Scenario files: named groups of devices and their faults.

``scenarios/rough.yaml`` describes the keys. All problems of a file are reported together, each with its path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import yaml

from devices_sim.downlink import Reply
from devices_sim.exchange import Clock
from devices_sim.sensors import KINDS
from devices_sim.wire import FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from importlib.resources.abc import Traversable

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


class ScenarioError(Exception):
    """A scenario that cannot be used; the text has one ``path: problem`` per line."""


@dataclass(frozen=True, slots=True)
class Faults:
    """The faults of each device of a group. Durations are in seconds; 0 is never."""

    disconnect_every: float = 0.0
    """Mean time between connections lost without a close frame."""
    silent_every: float = 0.0
    """Mean time until the device hangs again."""
    silent_for: float = 10.0
    """How long it hangs."""
    duplicates: float = 0.0
    """Share of the messages that are sent twice, 0 to 1."""
    bad_values: float = 0.0
    """Share of the readings that the gateway must refuse, 0 to 1."""
    clock_skew: float = 0.0
    """How far the device's clock is off at most, ahead or behind."""
    outage: float = 0.0
    """How much of every two days is missing from its past."""
    ignores_throttle: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """``count`` devices of one kind; an ``interval`` (seconds), ``prefix`` or ``format`` of None is the command's.

    Devices with a ``clock`` ask the gateway for the time.
    """

    name: str
    kind: str
    count: int
    interval: float | None = None
    faults: Faults = Faults()
    commands: Mapping[str, Reply] = field(default_factory=dict)
    prefix: str | None = None
    clock: Clock | None = None
    format: str | None = None
    unknown_settings: frozenset[str] = frozenset()


def parse_duration(text: object) -> float:
    """Seconds of ``500ms``, ``20s``, ``1.5m``, ``2h``, ``1d``.

    Raises:
        ValueError: it is not one.
    """
    found = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"not a duration such as 500ms, 20s or 5m: {text!r}")
    return float(found[1]) * _UNITS[found[2]]


def default_scenario() -> tuple[Group, ...]:
    """The groups of a run without a scenario file."""
    return load_scenario(bundled_scenarios()["mixed"])


def bundled_scenarios() -> dict[str, Traversable]:
    """The scenarios that come with the simulator, by name."""
    directory = files("devices_sim").joinpath("scenarios")
    return {path.name.removesuffix(".yaml"): path for path in directory.iterdir() if path.name.endswith(".yaml")}


def load_scenario(path: Traversable) -> tuple[Group, ...]:
    """The groups of a file.

    Raises:
        ScenarioError: it does not describe a fleet.
        OSError: it cannot be read.
    """
    return parse_scenario(path.read_text(encoding="utf-8"))


def parse_scenario(text: str) -> tuple[Group, ...]:
    """The groups of a file's text; raises `ScenarioError`."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ScenarioError(f"not YAML: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("groups"), list) or not document["groups"]:
        raise ScenarioError("groups: a list of groups is needed")
    problems = [f"{key}: unknown key (known: groups)" for key in document if key != "groups"]
    groups = [_group(item, f"groups[{n}]", problems) for n, item in enumerate(document["groups"])]
    names = [group.name for group in groups if group.name]
    problems += [f"groups: the name {name!r} is used twice" for name in sorted(set(names)) if names.count(name) > 1]
    if problems:
        raise ScenarioError("\n".join(problems))
    return tuple(groups)


def scaled(groups: tuple[Group, ...], devices: int) -> tuple[Group, ...]:
    """The same mixture with ``devices`` devices in all; the largest remainders get what rounding leaves over."""
    total = sum(group.count for group in groups)
    shares = [group.count * devices / total for group in groups]
    counts = [int(share) for share in shares]
    by_remainder = sorted(range(len(groups)), key=lambda n: counts[n] - shares[n])
    for n in by_remainder[: devices - sum(counts)]:
        counts[n] += 1
    return tuple(replace(group, count=count) for group, count in zip(groups, counts, strict=True) if count)


def _kind(value: object) -> str:
    if value not in KINDS:
        raise ValueError(f"must be one of {', '.join(KINDS)}")
    return str(value)


def _format(value: object) -> str:
    if value not in FORMATS:
        raise ValueError(f"must be one of {', '.join(FORMATS)}")
    return str(value)


def _keys(value: object) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(key, str) for key in value):
        raise ValueError("must be a list of texts")
    return frozenset(value)


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError("must be a whole number above 0")
    return value


def _name(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("must be a text")
    return value


def _switch(value: object) -> bool:
    if value not in (True, False):
        raise ValueError("must be true or false")
    return bool(value)


def _interval(value: object) -> float:
    seconds = parse_duration(value)
    if seconds < 0.001:
        raise ValueError("must be at least 1ms")
    return seconds


def _share(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise ValueError("must be a number from 0 to 1")
    return float(value)


def _offset(value: object) -> float:
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and text.startswith("-"):
        return -parse_duration(text[1:])
    return parse_duration(text)


def _ppm(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= 10_000:
        raise ValueError("must be a number of millionths from -10000 to 10000")
    return float(value)


_GROUP: Mapping[str, Callable[[object], Any]] = {
    "name": _name, "kind": _kind, "count": _count, "interval": _interval,
    "prefix": _name, "format": _format, "unknown_settings": _keys,
}  # fmt: skip
_REPLY: Mapping[str, Callable[[object], Any]] = {
    "value": lambda value: value,
    "error": _name,
    "delay": parse_duration,
    "silent": _switch,
}
_CLOCK: Mapping[str, Callable[[object], Any]] = {"offset": _offset, "drift": _ppm, "ask": _interval}
_FAULTS: Mapping[str, Callable[[object], Any]] = {
    **{fault.name: parse_duration for fault in fields(Faults)},
    "duplicates": _share,
    "bad_values": _share,
    "ignores_throttle": _switch,
}


def _group(item: object, path: str, problems: list[str]) -> Group:
    given = dict(item) if isinstance(item, dict) else {}
    faults = _checked(given.pop("faults", {}), f"{path}.faults", _FAULTS, problems)
    commands = _replies(given.pop("commands", {}), f"{path}.commands", problems)
    clock = None
    if "clock" in given:
        clock = Clock(**_checked(given.pop("clock"), f"{path}.clock", _CLOCK, problems))
    values = _checked(given, path, _GROUP, problems)
    problems += [f"{path}.{key}: is missing" for key in ("name", "kind", "count") if key not in given]
    return Group(
        name=values.get("name", ""),
        kind=values.get("kind", ""),
        count=values.get("count", 1),
        interval=values.get("interval"),
        prefix=values.get("prefix"),
        clock=clock,
        format=values.get("format"),
        unknown_settings=values.get("unknown_settings", frozenset()),
        faults=Faults(**faults),
        commands=commands,
    )


def _replies(given: object, path: str, problems: list[str]) -> dict[str, Reply]:
    if not isinstance(given, dict):
        problems.append(f"{path}: must be a mapping")
        return {}
    return {str(name): Reply(**_checked(reply, f"{path}.{name}", _REPLY, problems)) for name, reply in given.items()}


def _checked(
    given: object, path: str, known: Mapping[str, Callable[[object], Any]], problems: list[str]
) -> dict[str, Any]:
    """The values of ``given`` that pass their check; what does not pass is added to ``problems``."""
    if not isinstance(given, dict):
        problems.append(f"{path}: must be a mapping")
        return {}
    values = {}
    for key, value in given.items():
        if key not in known:
            problems.append(f"{path}.{key}: unknown key (known: {', '.join(known)})")
            continue
        try:
            values[key] = known[key](value)
        except ValueError as error:
            problems.append(f"{path}.{key}: {error}")
    return values
