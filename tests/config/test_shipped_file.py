"""The shipped config.yaml is complete, explained and true."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped, unused-ignore]
from pydantic import BaseModel

from gateway.config import Config, FieldSection, load
from gateway.config.json_schema import json_schema
from gateway.config.sources import yaml_file

if TYPE_CHECKING:
    from collections.abc import Iterator

SHIPPED = Path(__file__).parents[2] / "config.yaml"


def keys_of(model: type[BaseModel], location: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where every setting is, the sections themselves and the one profile that is shipped included."""
    for name, field in model.model_fields.items():
        here = (*location, name)
        yield here
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys_of(field.annotation, here)
    if location == ():
        yield ("profiles", "default")
        yield from keys_of(type(Config().profiles["default"]), ("profiles", "default"))


def test_it_says_what_the_defaults_are() -> None:
    assert load(SHIPPED, {}).model_dump() == load(None, {"STATE_DIRECTORY": str(SHIPPED.parent)}).model_dump()


def test_every_setting_is_in_it_and_nothing_else() -> None:
    assert set(yaml_file(SHIPPED).origins) == set(keys_of(Config))


@pytest.mark.parametrize("location", list(keys_of(Config)), ids=".".join)
def test_every_setting_is_explained(location: tuple[str, ...]) -> None:
    lines = SHIPPED.read_text(encoding="utf-8").splitlines()
    number = int(yaml_file(SHIPPED).origins[location].split()[-1])
    beside = re.search(r"#.*\w{2}", lines[number - 1])
    above = re.match(r"\s*#.*\w{2}", lines[number - 2])
    is_section = location in {key[:-1] for key in keys_of(Config)}
    assert beside or above or is_section


def test_what_a_field_can_have_is_explained() -> None:
    comments = " ".join(line for line in SHIPPED.read_text(encoding="utf-8").splitlines() if "#" in line)
    for name in FieldSection.model_fields:
        assert re.search(rf"\b{name}\b", comments)


def test_the_profile_in_its_comments_is_possible() -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    example = re.search(r"(?m)^#   kiln:\n(#     .*\n)+", text)
    assert example is not None
    profile = yaml.safe_load(re.sub(r"(?m)^# ", "", example.group()))
    fields = Config(profiles=profile).profiles["kiln"].fields
    assert (fields["temp"].unit, fields["cycles"].type) == ("°C", "int")


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_its_schema_accepts_it(validator: Draft202012Validator) -> None:
    shipped = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    assert list(validator.iter_errors(shipped)) == []


@pytest.mark.parametrize(
    "values",
    [
        {"servr": {}},
        {"server": {"listn": "x"}},
        {"server": {"listen": "8080"}},
        {"server": {"max_connections": "many"}},
        {"server": {"max_message_bytes": "64KB"}},
        {"keepalive": {"timeout": 30}},
        {"keepalive": {"timeout": "30"}},
        {"sink": "mysql"},
        {"profiles": {"kiln": {"fields": {"temp": {"type": "flaot"}}}}},
        {"profiles": {"kiln": {"fields": {"temp": {"min": "1"}}}}},
    ],
)
def test_its_schema_refuses_mistakes(validator: Draft202012Validator, values: dict[str, Any]) -> None:
    assert list(validator.iter_errors(values)) != []


def test_its_schema_explains_every_setting_and_gives_defaults_as_they_are_written() -> None:
    schema = json_schema()
    for name, section in schema["$defs"].items():
        for key, setting in section["properties"].items():
            assert setting.get("description") or "$ref" in setting, f"{name}.{key}"
    assert schema["$defs"]["KeepaliveSection"]["properties"]["timeout"]["default"] == "30s"
    assert schema["$defs"]["SpoolSection"]["properties"]["max_bytes"]["default"] == "1GiB"
    assert schema["$defs"]["ServerSection"]["properties"]["listen"]["default"] == "127.0.0.1:8080"
