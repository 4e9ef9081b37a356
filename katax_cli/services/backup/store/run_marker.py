"""The object that marks a backup as being made or removed, and says by which process.

An object store has no locks and renames nothing. What has this mark and no manifest is no backup: it is being made, or
was left behind. It is left behind when its process is gone from this machine, or when the mark is a day old by the
clock of the store itself, which is the same for all; whoever works longer renews it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from katax_cli.core.clock import SYSTEM
from katax_cli.services.backup.store.objects import ObjectStore
from katax_cli.services.processes import identity

MARKER = ".katax-run.json"
_DEAD_AFTER = timedelta(days=1)
_RENEW_SECONDS = 600.0


class RunMarker:
    """The mark of this process on one backup."""

    def __init__(self, objects: ObjectStore, name: str) -> None:
        self._objects = objects
        self._object = f"{name}/{MARKER}"
        self._renewed_at = SYSTEM.monotonic()

    def put(self) -> None:
        self._renewed_at = SYSTEM.monotonic()
        self._objects.put(self._object, json.dumps(_self()).encode())

    def renew(self) -> None:
        """Puts it again when it is some minutes old."""
        if SYSTEM.monotonic() - self._renewed_at > _RENEW_SECONDS:
            self.put()

    def put_at(self) -> datetime:
        """When it was put, by the clock of the store."""
        return self._objects.modified(self._object)

    def remove(self) -> None:
        self._objects.remove(self._object)


def is_dead(objects: ObjectStore, name: str, now: datetime) -> bool:
    """True when nobody works on that backup any more; `now` is a moment of the store's clock."""
    path = f"{name}/{MARKER}"
    try:
        if now - objects.modified(path) > _DEAD_AFTER:
            return True
        made_by = json.loads(objects.read(path))
    except FileNotFoundError:
        return False
    except ValueError:
        return False
    return isinstance(made_by, dict) and _is_gone(made_by)


def _self() -> dict[str, Any]:
    return {
        "boot": identity.boot_id(),
        "namespace": identity.pid_namespace(),
        "pid": os.getpid(),
        "started": identity.started(os.getpid()),
    }


def _is_gone(made_by: Mapping[str, Any]) -> bool:
    """True only for a process of this very boot and world of process numbers."""
    here = _self()
    if here["boot"] is None or here["namespace"] is None:
        return False
    if any(made_by.get(key) != here[key] for key in ("boot", "namespace")):
        return False
    pid = made_by.get("pid")
    return isinstance(pid, int) and 0 < pid < 2**31 and identity.started(pid) != made_by.get("started")
