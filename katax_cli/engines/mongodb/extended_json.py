"""JSON with MongoDB's own types: `{"$oid": …}`, `{"$date": …}`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bson.json_util import loads

from katax_cli.engines.base import Engine


def create(engine: Engine) -> Callable[[str], Any]:
    """What reads MongoDB Extended JSON, the relaxed and the canonical form. It raises ValueError or TypeError."""
    return loads
