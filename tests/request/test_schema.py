"""The JSON schema of the settings."""

from __future__ import annotations

import json

from lib_animatediff.request.settings import SETTINGS, json_schema, parse_settings


def test_the_schema_says_what_the_door_lets_in():
    """For each setting: its default is valid, its limits and choices are the table's."""
    properties = json_schema()["properties"]
    assert list(properties) == list(SETTINGS)
    parse_settings({name: told["default"] for name, told in properties.items()})
    for name, told in properties.items():
        setting = SETTINGS[name]
        assert (told.get("minimum"), told.get("maximum")) == (setting.minimum, setting.maximum)
        assert tuple(told.get("items", told).get("enum", ())) == setting.choices
        assert told["description"] == setting.full_help
    json.dumps(json_schema())
