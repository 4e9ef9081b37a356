"""How far an import of documents came: one document in the target, saved behind each batch.

MongoDB has no lock that ends with its holder. The runner counts a beat up each second; who comes second takes the
checkpoint over when that runner's process is gone, or its beat stands still.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields, replace
from hashlib import sha256
from threading import Event, Thread
from typing import Any

from katax_cli.core.clock import SYSTEM
from katax_cli.errors import KataxError, LockHeld
from katax_cli.services.locks.runner_identity import RunnerIdentity, this_runner
from katax_cli.services.transfer.checkpoint import IMPORTS_TABLE, ImportCheckpoint, now_text
from katax_cli.services.transfer.documents.collections import Collections

BEAT_SECONDS = 1.0
_PATIENCE, _PAUSE = 10.0, 0.25
"""Seconds in which a runner that lives counts its beat up, and between two looks."""
_GIVEN_BACK_WITHIN = 5.0
"""Seconds for each of two writes on the way out: a majority that is away holds no one there."""
_FIELDS = tuple(field.name for field in fields(ImportCheckpoint))


class DocumentCheckpoints:
    """The checkpoint of one import; see the module. `start` makes the `_id` of documents that have none."""

    def __init__(self, collections: Collections, *, digest: str, target: str) -> None:
        self._collections = collections
        self._target = target
        self._id = sha256(f"{digest}\n{target}".encode()).hexdigest()
        self._runner = this_runner(session="")
        self.start = b""

    @contextmanager
    def leased(self) -> Iterator[None]:
        """Keeps others from this import. Raises LockHeld when another run of it lives."""
        while not self._taken():
            self._wait_for_its_end()
            SYSTEM.sleep(_PAUSE)
        ended = Event()
        beating = Thread(target=self._beat, args=(ended,), name="katax-import-beat", daemon=True)
        beating.start()
        try:
            yield
        finally:
            ended.set()
            # Without an answer of the server the next run finds that this process is gone.
            with suppress(KataxError):
                self._give_back()

    def find(self) -> ImportCheckpoint | None:
        """How far this import came; None when it was never begun."""
        found = self._collections.fetch(IMPORTS_TABLE, {"_id": self._id})
        if found is None or "start" not in found:
            return None
        self.start = bytes(found["start"])
        return _checkpoint(found)

    def unfinished(self) -> ImportCheckpoint | None:
        """How far another file came that went into the collection in part; None when there is none."""
        found = self._collections.fetch(IMPORTS_TABLE, {**self._others, "position": {"$gt": 0}})
        return None if found is None else _checkpoint(found)

    def claim(self, options: str) -> ImportCheckpoint:
        """Sets the checkpoint to the beginning; those of other files that stopped are gone.

        Raises LockHeld while one of those may still be written.
        """
        for other in self._collections.fetch_all(IMPORTS_TABLE, self._others):
            holder = other.get("runner")
            if holder is not None and self._counts_on(other):
                raise LockHeld(
                    f"import into {self._target}",
                    holder=f"an import of another file, by the process {holder['pid']} on {holder['host']}",
                )
            self._collections.remove(
                IMPORTS_TABLE, {"_id": other["_id"], **_of(holder), "beat": other["beat"], "state": "running"}
            )
        self.start = int(SYSTEM.now()).to_bytes(4, "big") + os.urandom(8)
        return self._saved(ImportCheckpoint(options=options), {"start": self.start})

    def turn(self) -> None:
        """Before a batch. Raises LockHeld when another run took the import over."""
        if not self._collections.save(IMPORTS_TABLE, self._mine, {"$inc": {"beat": 1}}):
            raise self._held()

    def save(self, now: ImportCheckpoint) -> ImportCheckpoint:
        """Behind a batch; returns what was saved. Raises LockHeld as `turn`."""
        return self._saved(now, {})

    def _saved(self, now: ImportCheckpoint, more: Mapping[str, Any]) -> ImportCheckpoint:
        saved = replace(now, updated_at=now_text())
        if not self._collections.save(IMPORTS_TABLE, self._mine, {"$set": {**asdict(saved), **more}}):
            raise self._held()
        return saved

    @property
    def _mine(self) -> Mapping[str, Any]:
        return {"_id": self._id, "runner.id": self._runner.id}

    @property
    def _others(self) -> Mapping[str, Any]:
        return {"target": self._target, "_id": {"$ne": self._id}, "state": "running"}

    def _taken(self) -> bool:
        """True when the checkpoint is this run's: made, given back, or left by a process that is gone."""
        runner = self._runner._asdict()
        fresh = {"_id": self._id, "target": self._target, "beat": 0, "runner": runner}
        found = self._collections.fetch(IMPORTS_TABLE, {"_id": self._id})
        if found is None:
            return self._collections.start(IMPORTS_TABLE, fresh)
        holder = found.get("runner")
        if holder is None or RunnerIdentity(**holder).is_gone:
            return self._take_from(holder)
        return bool(holder["id"] == self._runner.id)

    def _take_from(self, holder: Mapping[str, Any] | None) -> bool:
        change = {"$set": {"runner": self._runner._asdict()}}
        return self._collections.save(IMPORTS_TABLE, {"_id": self._id, **_of(holder)}, change)

    def _give_back(self) -> None:
        # What the server has decides: a run may end before it has read the checkpoint that it took over.
        begun = {**self._mine, "start": {"$exists": True}}
        change = {"$set": {"runner": None}}
        if not self._collections.save(IMPORTS_TABLE, begun, change, timeout=_GIVEN_BACK_WITHIN):
            fresh = {**self._mine, "start": {"$exists": False}}
            self._collections.remove(IMPORTS_TABLE, fresh, timeout=_GIVEN_BACK_WITHIN)

    def _counts_on(self, other: Mapping[str, Any]) -> bool:
        """True once the runner of a checkpoint, or its next one, counts on; False when it is gone or stands still."""
        gives_up_at = SYSTEM.monotonic() + _PATIENCE
        while not RunnerIdentity(**other["runner"]).is_gone and SYSTEM.monotonic() < gives_up_at:
            now = self._collections.fetch(IMPORTS_TABLE, {"_id": other["_id"]})
            if now is None:
                return False
            if (now.get("runner"), now["beat"]) != (other["runner"], other["beat"]):
                return True
            SYSTEM.sleep(_PAUSE)
        return False

    def _wait_for_its_end(self) -> None:
        """Returns once the holder has ended or stands still. Raises LockHeld when it counts on."""
        first = self._collections.fetch(IMPORTS_TABLE, {"_id": self._id})
        gives_up_at = SYSTEM.monotonic() + _PATIENCE
        while first is not None and (holder := first.get("runner")) is not None:
            if RunnerIdentity(**holder).is_gone:
                return
            now = self._collections.fetch(IMPORTS_TABLE, {"_id": self._id}) or {}
            if now.get("runner") != holder:
                return
            if now["beat"] != first["beat"]:
                raise self._held()
            if SYSTEM.monotonic() >= gives_up_at:
                self._take_from(holder)
                return
            SYSTEM.sleep(_PAUSE)

    def _beat(self, ended: Event) -> None:
        while not ended.wait(BEAT_SECONDS):
            # What ends it is told where a batch is saved.
            with suppress(KataxError):
                self.turn()

    def _held(self) -> LockHeld:
        return LockHeld(f"import into {self._target}", holder="another run of the same import")


def _of(holder: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The filter of a checkpoint that has still this runner."""
    return {"runner": None} if holder is None else {"runner.id": holder["id"]}


def _checkpoint(found: Mapping[str, Any]) -> ImportCheckpoint:
    return ImportCheckpoint(**{name: found[name] for name in _FIELDS})
