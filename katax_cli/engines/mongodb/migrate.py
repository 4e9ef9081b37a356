"""Migrations on MongoDB: a lease renewed by a heartbeat, and collections and indexes as text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from logging import getLogger
from threading import Event, Thread
from typing import Any
from uuid import uuid4

from pymongo.errors import DuplicateKeyError, PyMongoError

from katax_cli.engines.migrations import DdlImpact, LockSession, MigrationFacts, ObjectName
from katax_cli.engines.mongodb import MongoEngine

LEASE = timedelta(seconds=30.0)
_BEATS = 3


class MongoMigrations:
    """SessionLocks and Definitions of MongoDB. A lease that was not renewed for 30 s is free for the next one.

    Times are the server's, whatever the clocks of the runners' hosts say.
    """

    facts = MigrationFacts(transactional_ddl=False, long_text="")

    def __init__(self, engine: MongoEngine) -> None:
        self._engine = engine
        self._token = uuid4().hex
        self._stop: Event | None = None

    def lock(self, connection: Any, name: str, note: str) -> bool:
        taken = self._insert(connection, name, note) or self._take_over(connection, name, note)
        if taken:
            self._stop = Event()
            Thread(
                target=self._beat, args=(connection, name, self._stop), name="katax-lease", daemon=True
            ).start()
        return taken

    def _insert(self, connection: Any, name: str, note: str) -> bool:
        document = {"_id": name, "token": self._token, "note": note, "expires": self._expiry(connection)}
        try:
            self._leases(connection, name).insert_one(document)
        except DuplicateKeyError:
            return False
        return True

    def _take_over(self, connection: Any, name: str, note: str) -> bool:
        """Claims a lease that ran out; of two runners that try, one finds it renewed."""
        now = self._now(connection)
        expired = {"_id": name, "expires": {"$lt": now}}
        change = {"$set": {"token": self._token, "note": note, "expires": now + LEASE}}
        return bool(self._leases(connection, name).update_one(expired, change).modified_count)

    def renew(self, connection: Any, name: str, note: str) -> bool:
        change = {"$set": {"note": note, "expires": self._expiry(connection)}}
        return self._update(connection, name, change)

    def _update(self, connection: Any, name: str, change: dict[str, Any]) -> bool:
        mine = {"_id": name, "token": self._token}
        return bool(self._leases(connection, name).update_one(mine, change).matched_count)

    def _beat(self, connection: Any, name: str, stop: Event) -> None:
        while not stop.wait(LEASE.total_seconds() / _BEATS):
            try:
                if not self._update(connection, name, {"$set": {"expires": self._expiry(connection)}}):
                    return
            except PyMongoError as error:
                if stop.is_set():
                    # Its client may be closed already.
                    return
                getLogger("katax").warning("renewing the lease %r failed: %s", name, type(error).__name__)

    def unlock(self, connection: Any, name: str) -> None:
        if self._stop is not None:
            self._stop.set()
        self._leases(connection, name).delete_one({"_id": name, "token": self._token})

    def holder(self, connection: Any, name: str) -> LockSession | None:
        living = {"_id": name, "expires": {"$gte": self._now(connection)}}
        lease = self._leases(connection, name).find_one(living)
        return None if lease is None else LockSession(lease["token"], lease["note"])

    def end_session(self, connection: Any, session: str) -> bool:
        """Drops the lease; its holder finds out before its next step."""
        database = self._database(connection)
        names = [name for name in database.list_collection_names() if name.endswith("_lock")]
        return any(database[name].delete_one({"token": session}).deleted_count for name in names)

    def definitions(self, connection: Any, objects: Sequence[ObjectName] | None = None) -> dict[str, str]:
        database = self._database(connection)
        wanted = None if objects is None else {entity.name.lower() for entity in objects}
        texts: dict[str, str] = {}
        for collection in database.list_collections():
            name = collection["name"]
            if wanted is not None and name.lower() not in wanted:
                continue
            options = json.dumps(collection.get("options", {}), sort_keys=True, default=str)
            indexes = [
                f"index {index['name']} {json.dumps(dict(index['key']))}"
                for index in (database[name].list_indexes() if collection.get("type") != "view" else ())
            ]
            texts[f"{collection.get('type', 'collection')} {name}"] = "\n".join(
                [f"options {options}", *sorted(indexes)]
            )
        return texts

    def impact(self, sql: object) -> DdlImpact:
        return DdlImpact()

    def blockers(self, connection: Any, table: str) -> list[str]:
        return []

    def _database(self, connection: Any) -> Any:
        return connection[self._engine.settings.database]

    def _leases(self, connection: Any, name: str) -> Any:
        return self._database(connection)[f"{name}_lock"]

    def _now(self, connection: Any) -> datetime:
        """The server's time (https://www.mongodb.com/docs/manual/reference/command/hello/, `localTime`)."""
        now: datetime = self._database(connection).command("hello")["localTime"]
        return now

    def _expiry(self, connection: Any) -> datetime:
        return self._now(connection) + LEASE


create = MongoMigrations
