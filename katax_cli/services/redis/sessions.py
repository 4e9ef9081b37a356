"""Sessions: a JSON object each, with a lifetime, and an index of every user's so that all can be revoked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_urlsafe
from typing import Any

from katax_cli.core.text.duration import Duration, in_seconds
from katax_cli.core.text.text import no_option, to_bytes, to_text
from katax_cli.errors import RecordExists
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.clients import Commands, RedisDatabase
from katax_cli.services.redis.lua import INDEX_ADD
from katax_cli.services.redis.merge import merge
from katax_cli.services.redis.values import JSON, Codec, encoded, positive_ms

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
    """Sessions at `<prefix><id>`, plain JSON for any reader unless a `codec` is given; `ttl` is seconds or "1h".

    The user of a session is its field `user_id` or `userId`. The index of a user is written before a session
    and cleared after it, so that a revocation never misses one; what has ended drops out by itself. `timeout`
    is seconds for a whole call; without it each answer is waited for 2 s at most.
    """

    def __init__(
        self,
        redis: RedisDatabase,
        prefix: str = PREFIX,
        ttl: Duration = DEFAULT_TTL,
        *,
        codec: Codec = JSON,
    ) -> None:
        positive_ms(ttl)
        self._redis = redis
        self._prefix = redis.settings.prefix + prefix
        self._ttl = in_seconds(ttl)
        self._codec = codec

    def create(
        self,
        data: Mapping[str, Any],
        *,
        id: str | None = None,
        user: str | None = None,
        ttl: Duration | None = None,
        timeout: Duration | None = None,
    ) -> str:
        """Stores a new session and returns its id: 256 random bits unless given.

        A `user` that the data does not name is added to it as `user_id`. Raises RecordExists for an id in use.
        """
        stored = dict(data) if user is None or _user(data) == user else {**data, "user_id": user}
        redis, chosen = self._redis.within(timeout), no_option(token_urlsafe(32)) if id is None else id
        key, written, milliseconds = self._key(chosen), encoded(self._codec, stored), self._lifetime(ttl)
        self._index(redis, stored, chosen, milliseconds)
        if redis.redis("SET", key, written, "NX", "PX", milliseconds) is None:
            raise RecordExists(self._prefix + chosen)
        return chosen

    def set(
        self,
        id: str,
        data: Mapping[str, Any],
        ttl: Duration | None = None,
        *,
        timeout: Duration | None = None,
    ) -> None:
        """Stores a session as a whole, new or not."""
        redis, key, stored = self._redis.within(timeout), self._key(id), dict(data)
        written, milliseconds = encoded(self._codec, stored), self._lifetime(ttl)
        self._index(redis, stored, id, milliseconds)
        redis.redis("SET", key, written, "PX", milliseconds)

    def get(self, id: str, *, timeout: Duration | None = None) -> Any:
        """The data of a session, None when there is none."""
        data = self._redis.within(timeout).redis("GET", self._key(id), safety=Safety.READ)
        return None if data is None else self._codec.decode(data)

    def update(
        self,
        id: str,
        changes: Mapping[str, Any],
        *,
        remove: Collection[str] = (),
        timeout: Duration | None = None,
    ) -> dict[str, Any] | None:
        """Merges fields into a session, drops those of `remove` and keeps its lifetime; the whole, None when there is
        none."""
        redis, key = self._redis.within(timeout), self._key(id)
        whole = merge(redis, key, changes, ttl=None, remove=remove, codec=self._codec)
        if whole is not None and any(field in changes for field in _USER_FIELDS):
            left = redis.redis("PTTL", key, safety=Safety.READ)
            self._index(redis, whole, id, max(left, 1))
        return whole

    def touch(self, id: str, ttl: Duration | None = None, *, timeout: Duration | None = None) -> bool:
        """Lets a session live for `ttl` more seconds from now; False when there is none."""
        redis, milliseconds = self._redis.within(timeout), self._lifetime(ttl)
        data = redis.redis("GETEX", self._key(id), "PX", milliseconds)
        if data is None:
            return False
        self._index(redis, self._codec.decode(data), id, milliseconds)
        return True

    def extend(self, id: str, ttl: Duration | None = None, *, timeout: Duration | None = None) -> bool:
        """The same as `touch`."""
        return self.touch(id, ttl, timeout=timeout)

    def destroy(self, id: str, *, timeout: Duration | None = None) -> bool:
        """Ends a session; False when there was none."""
        redis = self._redis.within(timeout)
        data = redis.redis("GETDEL", self._key(id))
        if data is None:
            return False
        if (user := _user(self._codec.decode(data))) is not None:
            redis.redis("HDEL", self._index_key(user), id)
        return True

    def list_for_user(self, user: str | int, *, timeout: Duration | None = None) -> list[UserSession]:
        """The sessions of a user that live, oldest first."""
        return self._of_user(self._redis.within(timeout), user)

    def revoke(
        self, user: str | int, *, older_than: Duration | None = None, timeout: Duration | None = None
    ) -> int:
        """Ends a user's sessions, or those created more than so many seconds ago; returns how many."""
        redis = self._redis.within(timeout)
        latest = _now(redis).timestamp() - (0.0 if older_than is None else in_seconds(older_than))
        sessions = self._of_user(redis, user)
        doomed = [session.id for session in sessions if session.created_at.timestamp() <= latest]
        if not doomed:
            return 0
        ended = sum(redis.pipeline([("UNLINK", self._key(id)) for id in doomed]))
        redis.redis("HDEL", self._index_key(str(user)), *doomed)
        return int(ended)

    def _of_user(self, redis: Commands, user: str | int) -> list[UserSession]:
        known = self._known(redis, user)
        commands = [("GET", self._key(id)) for id, _, _ in known]
        stored = redis.pipeline(commands, safety=Safety.READ) if commands else []
        sessions = [
            UserSession(id, self._codec.decode(data), created, expires)
            for (id, created, expires), data in zip(known, stored, strict=True)
            if data is not None
        ]
        return [session for session in sessions if _user(session.data) == str(user)]

    def _lifetime(self, ttl: Duration | None) -> int:
        return positive_ms(self._ttl if ttl is None else ttl)

    def _key(self, id: str) -> bytes:
        if not id or id.startswith(_INDEX):
            raise ValueError(
                f"{id!r} is no id of a session; expected text that does not begin with {_INDEX!r}"
            )
        return to_bytes(self._prefix + id)

    def _index_key(self, user: str) -> bytes:
        return to_bytes(f"{self._prefix}{_INDEX}{user}")

    def _index(self, redis: Commands, data: Any, id: str, milliseconds: int) -> None:
        user = _user(data)
        if user is not None:
            INDEX_ADD(redis, [self._index_key(user)], id, milliseconds, safety=Safety.IDEMPOTENT)

    def _known(self, redis: Commands, user: str | int) -> list[tuple[str, datetime, datetime]]:
        """Ids with their creation and end, oldest first; those past their end are left out."""
        flat: list[bytes] = redis.redis("HGETALL", self._index_key(str(user)), safety=Safety.READ)
        now = _now(redis)
        rows = []
        for id, times in zip(flat[0::2], flat[1::2], strict=True):
            created, expires = map(_moment, times.split())
            rows.append((to_text(id), created, expires))
        return sorted(((id, made, ends) for id, made, ends in rows if ends > now), key=lambda row: row[1])


def _now(redis: Commands) -> datetime:
    seconds, microseconds = redis.redis("TIME", safety=Safety.READ)
    return datetime.fromtimestamp(int(seconds) + int(microseconds) / 1e6, UTC)


def _moment(milliseconds: bytes) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)


def _user(data: Any) -> str | None:
    named = (data.get(field) for field in _USER_FIELDS) if isinstance(data, Mapping) else iter(())
    return next((str(user) for user in named if user is not None), None)
