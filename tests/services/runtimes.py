"""Runtimes as a program gets them: from a profile's file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from katax_cli.services.runtime.runtime import Runtime
from tests.waiting import SECONDS, connecting

Connection = str | Mapping[str, object]
QUICK = "[retry]\ninitial = 0.01\nmax = 0.05\n"
"""Attempts as usual, without the waits that suit a real outage."""
CALM = "[health]\ndegraded_ms = 60000\nunhealthy_ms = 60000\n"
"""A busy machine is no slow server."""


class OpenRuntime(Protocol):
    """`open_runtime(QUICK, main=url, other={"url": url, "read_only": True})`; closed after the test."""

    def __call__(
        self, extra: str = "", /, *, one_shot: bool = False, **connections: Connection
    ) -> Runtime: ...


def patient(connection: Connection) -> dict[str, Any]:
    """The connection, for whose opening, place in the pool and answers a busy machine has a minute."""
    keys: dict[str, Any] = {"url": connection} if isinstance(connection, str) else dict(connection)
    return {"connect_timeout": SECONDS, **keys, "pool": {"timeout": SECONDS, **keys.get("pool", {})}}


def write_profile(folder: Path, extra: str = "", /, **connections: Connection) -> None:
    """`profiles/test.toml` with these connections; `extra` is TOML of other tables."""
    file = folder / "profiles" / "test.toml"
    file.parent.mkdir(exist_ok=True)
    tables = [
        _table(name, {"url": each} if isinstance(each, str) else each) for name, each in connections.items()
    ]
    file.write_text("\n".join(['role = "dev"', *tables, extra]))


def _table(name: str, keys: Mapping[str, Any]) -> str:
    engine = urlsplit(keys["url"]).scheme
    given = {"type": engine, "connect_timeout": connecting(keys["url"]), **keys}
    lines = [f"{key} = {_toml(value)}" for key, value in given.items()]
    return "\n".join([f"[connections.{name}]", *lines])


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + " }"
    return json.dumps(value)
