"""Sessions: a JSON object each, with a lifetime, and an index of every user's so that all can be revoked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_urlsafe
from typing import Any

from katax_cli.core.wire import stringify
from katax_cli.errors import RecordExists
from katax_cli.services.cache import decode, positive_ms
from katax_cli.services.clients import RedisDatabase
from katax_cli.services.guard import Safety
from katax_cli.services.merging import merge
from katax_cli.services.scripts_lua import INDEX_ADD

PREFIX = "session:"
DEFAULT_TTL = 86400.0
_INDEX = "user:"
_USER_FIELDS = ("user_id", "userId")


@dataclass(frozen=True, slots=True)
class UserSession:
    """One session of a user."""

    id: str
    data: Any
    created_at: datetime
    expires_at: datetime


class SessionStore:
    """Sessions at `<prefix><id>`, plain JSON for any reader; `ttl` is seconds.

    The user of a session is its field `user_id` or `userId`. The index of a user is written before a session
    and cleared after it, so that a revocation never misses one; what has ended drops out by itself.
    """

    def __init__(self, redis: RedisDatabase, prefix: str = PREFIX, ttl: float = DEFAULT_TTL) -> None:
        positive_ms(ttl)
        self._redis = redis
        self._prefix = redis.settings.prefix + prefix
        self._ttl = ttl

    def create(self, data: Mapping[str, Any], *, id: str | None = None, user: str | None = None) -> str:
        """Stores a new session and returns its id: 256 random bits unless given.

        A `user` that the data does not name is added to it as `user_id`. Raises RecordExists for an id in use.
        """
        stored = dict(data) if user is None or _user(data) == user else {**data, "user_id": user}
        chosen = token_urlsafe(32) if id is None else id
        key = self._key(chosen)
        self._index(stored, chosen)
        milliseconds = positive_ms(self._ttl)
        if self._redis.redis("SET", key, stringify(stored).encode(), "NX", "PX", milliseconds) is None:
            raise RecordExists(self._prefix + chosen)
        return chosen

    def set(self, id: str, data: Mapping[str, Any], ttl: float | None = None) -> None:
        """Stores a session as a whole, new or not."""
        key, milliseconds = self._key(id), positive_ms(self._ttl if ttl is None else ttl)
        self._index(data, id, ttl)
        self._redis.redis("SET", key, stringify(dict(data)).encode(), "PX", milliseconds)

    def get(self, id: str) -> Any:
        """The data of a session, None when there is none."""
        data = self._redis.redis("GET", self._key(id), safety=Safety.READ)
        return None if data is None else decode(data)

    def update(self, id: str, changes: Mapping[str, Any]) -> dict[str, Any] | None:
        """Merges fields into a session and keeps its lifetime; the whole, None when there is none."""
        whole = merge(self._redis, self._key(id), changes, ttl=None)
        if whole is not None and any(field in changes for field in _USER_FIELDS):
            left = self._redis.redis("PTTL", self._key(id), safety=Safety.READ)
            self._index(whole, id, max(left, 1) / 1000)
        return whole

    def touch(self, id: str, ttl: float | None = None) -> bool:
        """Lets a session live for `ttl` more seconds from now; False when there is none."""
        milliseconds = positive_ms(self._ttl if ttl is None else ttl)
        data = self._redis.redis("GETEX", self._key(id), "PX", milliseconds)
        if data is None:
            return False
        self._index(decode(data), id, ttl)
        return True

    def extend(self, id: str, ttl: float | None = None) -> bool:
        """The same as `touch`."""
        return self.touch(id, ttl)

    def destroy(self, id: str) -> bool:
        """Ends a session; False when there was none."""
        data = self._redis.redis("GETDEL", self._key(id))
        if data is None:
            return False
        if (user := _user(decode(data))) is not None:
            self._redis.redis("HDEL", self._index_key(user), id)
        return True

    def list_for_user(self, user: str | int) -> list[UserSession]:
        """The sessions of a user that live, oldest first."""
        known = self._known(user)
        commands = [("GET", self._key(id)) for id, _, _ in known]
        found = self._redis.pipeline(commands, safety=Safety.READ) if commands else []
        return [
            UserSession(id, decode(data), created, expires)
            for (id, created, expires), data in zip(known, found, strict=True)
            if data is not None and _user(decode(data)) == str(user)
        ]

    def revoke(self, user: str | int, *, older_than: float | None = None) -> int:
        """Ends a user's sessions, or those created more than so many seconds ago; returns how many."""
        latest = self._now().timestamp() - (older_than or 0.0)
        doomed = [each.id for each in self.list_for_user(user) if each.created_at.timestamp() <= latest]
        if not doomed:
            return 0
        ended = sum(self._redis.pipeline([("UNLINK", self._key(id)) for id in doomed]))
        self._redis.redis("HDEL", self._index_key(str(user)), *doomed)
        return int(ended)

    def _key(self, id: str) -> bytes:
        if not id or id.startswith(_INDEX):
            raise ValueError(
                f"{id!r} is no id of a session; expected text that does not begin with {_INDEX!r}"
            )
        return (self._prefix + id).encode("utf-8", "surrogateescape")

    def _index_key(self, user: str) -> bytes:
        return f"{self._prefix}{_INDEX}{user}".encode("utf-8", "surrogateescape")

    def _index(self, data: Any, id: str, ttl: float | None = None) -> None:
        user = _user(data)
        if user is not None:
            milliseconds = positive_ms(self._ttl if ttl is None else ttl)
            INDEX_ADD(self._redis, [self._index_key(user)], id, milliseconds, safety=Safety.IDEMPOTENT)

    def _known(self, user: str | int) -> list[tuple[str, datetime, datetime]]:
        """Ids with their creation and end, oldest first; those past their end are left out."""
        flat: list[bytes] = self._redis.redis("HGETALL", self._index_key(str(user)), safety=Safety.READ)
        now = self._now()
        rows = []
        for id, times in zip(flat[0::2], flat[1::2], strict=True):
            created, expires = map(_moment, times.split())
            rows.append((id.decode("utf-8", "surrogateescape"), created, expires))
        return sorted(((id, made, ends) for id, made, ends in rows if ends > now), key=lambda row: row[1])

    def _now(self) -> datetime:
        seconds, microseconds = self._redis.redis("TIME", safety=Safety.READ)
        return datetime.fromtimestamp(int(seconds) + int(microseconds) / 1e6, UTC)


def _moment(milliseconds: bytes) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)


def _user(data: Any) -> str | None:
    named = (data.get(field) for field in _USER_FIELDS) if isinstance(data, Mapping) else iter(())
    return next((str(user) for user in named if user is not None), None)
