"""Words on the command line that are JSON."""

from __future__ import annotations

from typing import Any

from katax_cli.cli.shell.invocation import Invocation
from katax_cli.core.text.js_json import parse
from katax_cli.errors import ConfigError


def json_object(call: Invocation, word: str) -> dict[str, Any]:
    """The object that a word, stdin or a file holds. Raises ConfigError for anything else."""
    try:
        value = parse(call.input_bytes(word).decode("utf-8"))
    except ValueError as error:
        raise ConfigError(
            f"the data is no JSON: {error}; expected an object such as '{{\"a\": 1}}'"
        ) from error
    if not isinstance(value, dict):
        raise ConfigError("the data is JSON of another kind; expected an object such as '{\"a\": 1}'")
    return value
