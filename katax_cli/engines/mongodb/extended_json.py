"""JSON with MongoDB's own types: `{"$oid": …}`, `{"$date": …}`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bson.json_util import loads

from katax_cli.engines.base import Engine


def create(engine: Engine) -> Callable[[str], Any]:
    """A reader of MongoDB Extended JSON, relaxed and canonical. It raises ValueError or TypeError."""
    return loads
