"""The JSON Schema of config.yaml, for editors."""

from __future__ import annotations

from typing import Any

from gateway.config import sections
from gateway.config.model import Config


def json_schema() -> dict[str, Any]:
    """A schema (draft 2020-12) with defaults written as they are in the file."""
    schema = Config.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Telemetry gateway configuration"
    for name, definition in schema["$defs"].items():
        section: sections.Section = getattr(sections, name)()
        written = section.model_dump(mode="json")
        for key, setting in definition["properties"].items():
            if "default" in setting:
                setting["default"] = written[key]
    for setting in schema["properties"].values():
        # A section's default is that of its settings; written out at the top it would be a second, unordered copy.
        if "$ref" in setting or setting.get("type") == "object":
            setting.pop("default", None)
    return schema
