"""The JSON schema of the settings."""

from __future__ import annotations

import json

from lib_animatediff.request.settings import SETTINGS, json_schema, parse_settings


def test_the_schema_says_what_the_door_lets_in():
    """For each setting: its default is valid, its limits and choices are the table's."""
    properties = json_schema()["properties"]
    assert list(properties) == list(SETTINGS)
    parse_settings({name: entry["default"] for name, entry in properties.items()})
    for name, entry in properties.items():
        setting = SETTINGS[name]
        assert (entry.get("minimum"), entry.get("maximum")) == (setting.minimum, setting.maximum)
        assert tuple(entry.get("items", entry).get("enum", ())) == setting.choices
        assert entry["description"] == setting.full_help
    json.dumps(json_schema())
