"""The settings table as a JSON schema, for clients."""

from __future__ import annotations

from typing import Any

from .setting import Setting
from .table import SETTINGS

_JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", tuple: "array"}


def json_schema() -> dict[str, Any]:
    """The table as a JSON schema (draft 2020-12): one object with the canonical names and the aliases of each."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "AnimateDiff",
        "type": "object",
        "properties": {setting.name: _property(setting) for setting in SETTINGS.values()},
        "additionalProperties": False,
    }


def _property(setting: Setting) -> dict[str, Any]:
    schema = {
        "type": ["string", "number", "array"] if setting.accepts_numbers else _JSON_TYPES[setting.type],
        "title": setting.label,
        "description": setting.full_help,
        "default": list(setting.default) if setting.type is tuple else setting.default,
        "minimum": setting.minimum,
        "maximum": setting.maximum,
        **_choices(setting),
        "examples": list(setting.suggestions) or None,
        "aliases": list(setting.aliases) or None,
    }
    return {name: value for name, value in schema.items() if value is not None}


def _choices(setting: Setting) -> dict[str, Any]:
    enum = {"enum": list(setting.choices)} if setting.choices else {}
    return {"items": {"type": "string", **enum}, "minItems": 1} if setting.type is tuple else enum
