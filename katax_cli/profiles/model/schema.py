"""The JSON Schema of configuration files, from the same key table that validates them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from katax_cli.core.settings import ConnectionSettings, PoolSettings, TlsSettings
from katax_cli.profiles.model import model
from katax_cli.profiles.model.keys import PROFILE, SHARED, Key

MODELS: Mapping[str, type] = {
    "connection": ConnectionSettings,
    "pool": PoolSettings,
    "tls": TlsSettings,
    "retry": model.RetrySettings,
    "breaker": model.BreakerSettings,
    "health": model.HealthSettings,
    "logging": model.LoggingSettings,
    "shutdown": model.ShutdownSettings,
    "migrate": model.MigrateSettings,
    "seed": model.SeedSettings,
    "backup": model.BackupSettings,
    "journal": model.JournalSettings,
    "cron": model.CronSettings,
    "ws": model.WsSettings,
}
_VARIABLE = {"type": "string", "pattern": r"\$\{env:[^}]+\}"}
_DURATION = {"type": "string", "pattern": r"^\s*[0-9.eE+-]+\s*(ms|s|m|h|d)?\s*$"}
_TYPES: Mapping[str, Mapping[str, Any]] = {
    "string": {"type": "string"},
    "secret": {"type": "string"},
    "boolean": {"anyOf": [{"type": "boolean"}, _VARIABLE]},
    "integer": {"anyOf": [{"type": "integer"}, _VARIABLE]},
    "number": {"anyOf": [{"type": "number"}, _VARIABLE]},
    "seconds": {"anyOf": [{"type": "number", "minimum": 0}, _DURATION, _VARIABLE]},
    "positive": {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, _DURATION, _VARIABLE]},
    "strings": {"type": "array", "items": {"type": "string"}},
    "command": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]},
    "switch": {"type": ["boolean", "string"]},
}


def json_schema() -> dict[str, Any]:
    """The schema of `profiles/NAME.toml` and of `katax.toml` (JSON Schema 2020-12)."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "katax configuration",
        "anyOf": [{"$ref": "#/$defs/profile"}, {"$ref": "#/$defs/katax"}],
        "$defs": {"profile": _table(PROFILE, None), "katax": _table(SHARED, None)},
    }


def default_of(key: str | None, name: str) -> object:
    """The default of one key of a table; None when it has none."""
    if key is None:
        return None
    model = MODELS[key]
    if not dataclasses.is_dataclass(model):
        return getattr(model, "_field_defaults", {}).get(name)
    defaults = {field.name: field.default for field in dataclasses.fields(model)}
    default = defaults.get(name, dataclasses.MISSING)
    return None if default is dataclasses.MISSING else default


def _table(keys: Mapping[str, Key], holder: str | None) -> dict[str, Any]:
    required = [name for name, key in keys.items() if key.required]
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _property(name, key, holder) for name, key in keys.items()},
        **({"required": required} if required else {}),
    }


def _property(name: str, key: Key, holder: str | None) -> dict[str, Any]:
    shape = _shape(key)
    default = default_of(holder, name)
    # Defaults that are objects are the defaults of the keys below them.
    if isinstance(default, bool | int | float | str):
        shape["default"] = default
    return {"description": key.doc, **shape}


def _shape(key: Key) -> dict[str, Any]:
    if key.kind == "table":
        return _table(key.keys or {}, key.model)
    if key.kind == "tables":
        return {"type": "object", "additionalProperties": _table(key.keys or {}, key.model)}
    if key.kind == "choice":
        return {"anyOf": [{"enum": list(key.choices)}, _VARIABLE]}
    return dict(_TYPES[key.kind])
