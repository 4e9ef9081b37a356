"""The JSON Schema says what validation says."""

from __future__ import annotations

import json
import re
from typing import Any

from katax_cli.core.settings import ConnectionSettings, PoolSettings
from katax_cli.profiles.model.keys import CONNECTION, PROFILE, SHARED
from katax_cli.profiles.model.model import LoggingSettings, RetrySettings
from katax_cli.profiles.model.schema import json_schema


def profile_properties() -> dict[str, Any]:
    properties: dict[str, Any] = json_schema()["$defs"]["profile"]["properties"]
    return properties


def test_it_is_json_and_has_both_kinds_of_file() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert schema["anyOf"] == [{"$ref": "#/$defs/profile"}, {"$ref": "#/$defs/katax"}]
    assert set(schema["$defs"]["profile"]["properties"]) == set(PROFILE)
    assert set(schema["$defs"]["katax"]["properties"]) == set(SHARED)


def test_required_and_unknown_keys() -> None:
    profile = json_schema()["$defs"]["profile"]
    assert profile["required"] == ["role"]
    assert "required" not in json_schema()["$defs"]["katax"]
    connection = profile["properties"]["connections"]["additionalProperties"]
    assert connection["additionalProperties"] is False
    assert set(connection["properties"]) == set(CONNECTION)
    assert connection["properties"]["tls"]["required"] == ["mode"]


def test_the_defaults_are_those_of_the_dataclasses() -> None:
    properties = profile_properties()
    connection = properties["connections"]["additionalProperties"]["properties"]
    assert (
        connection["connect_timeout"]["default"]
        == ConnectionSettings.__dataclass_fields__["connect_timeout"].default
    )
    assert connection["pool"]["properties"]["max"]["default"] == PoolSettings().max
    assert properties["retry"]["properties"]["attempts"]["default"] == RetrySettings().attempts
    assert properties["logging"]["properties"]["queries"]["default"] == LoggingSettings().queries
    assert "default" not in connection["url"]
    assert "default" not in connection["retry"]["properties"]["attempts"]


def test_every_key_has_words() -> None:
    for name, shape in profile_properties().items():
        assert shape["description"], name


def test_choices_durations_and_variables() -> None:
    properties = profile_properties()
    enum, variable = properties["role"]["anyOf"]
    assert enum == {"enum": ["dev", "stage", "prod", "frozen"]}
    assert re.search(variable["pattern"], "${env:ROLE}")
    duration = properties["shutdown"]["properties"]["timeout"]["anyOf"][1]["pattern"]
    assert [bool(re.search(duration, text)) for text in ("250ms", "1.5", "7d", "1 year")] == [
        True,
        True,
        True,
        False,
    ]
