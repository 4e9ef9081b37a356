"""Sessions for tasks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from katax_cli.aio.clients import AsyncRedisDatabase
from katax_cli.core.text.duration import Duration
from katax_cli.services.redis.sessions import DEFAULT_TTL, PREFIX, SessionStore, UserSession
from katax_cli.services.redis.values import JSON, Codec


class AsyncSessionStore:
    """Sessions at `<prefix><id>`, plain JSON for any reader unless a `codec` is given; `ttl` is seconds or "1h".

    The user of a session is its field `user_id` or `userId`. `timeout` is seconds for a whole call; without it each
    answer is waited for 2 s at most.
    """

    def __init__(
        self,
        redis: AsyncRedisDatabase,
        prefix: str = PREFIX,
        ttl: Duration = DEFAULT_TTL,
        *,
        codec: Codec = JSON,
    ) -> None:
        self._sessions = SessionStore(redis.wraps, prefix, ttl, codec=codec)
        self._home = redis.home

    async def create(
        self,
        data: Mapping[str, Any],
        *,
        id: str | None = None,
        user: str | None = None,
        ttl: Duration | None = None,
        timeout: Duration | None = None,
    ) -> str:
        """Stores a new session and returns its id: 256 random bits unless given. Raises RecordExists for one in use."""
        return await self._home.call(self._sessions.create, data, id=id, user=user, ttl=ttl, timeout=timeout)

    async def set(
        self,
        id: str,
        data: Mapping[str, Any],
        ttl: Duration | None = None,
        *,
        timeout: Duration | None = None,
    ) -> None:
        """Stores a session as a whole, new or not."""
        await self._home.call(self._sessions.set, id, data, ttl, timeout=timeout)

    async def get(self, id: str, *, timeout: Duration | None = None) -> Any:
        """The data of a session, None when there is none."""
        return await self._home.call(self._sessions.get, id, timeout=timeout)

    async def update(
        self,
        id: str,
        changes: Mapping[str, Any],
        *,
        remove: Collection[str] = (),
        timeout: Duration | None = None,
    ) -> dict[str, Any] | None:
        """Merges fields into a session, drops those of `remove` and keeps its lifetime; the whole, None when there is
        none."""
        return await self._home.call(self._sessions.update, id, changes, remove=remove, timeout=timeout)

    async def touch(self, id: str, ttl: Duration | None = None, *, timeout: Duration | None = None) -> bool:
        """Lets a session live for `ttl` more seconds from now; False when there is none."""
        return await self._home.call(self._sessions.touch, id, ttl, timeout=timeout)

    async def extend(self, id: str, ttl: Duration | None = None, *, timeout: Duration | None = None) -> bool:
        """The same as `touch`."""
        return await self.touch(id, ttl, timeout=timeout)

    async def destroy(self, id: str, *, timeout: Duration | None = None) -> bool:
        """Ends a session; False when there was none."""
        return await self._home.call(self._sessions.destroy, id, timeout=timeout)

    async def list_for_user(self, user: str | int, *, timeout: Duration | None = None) -> list[UserSession]:
        """The sessions of a user that live, oldest first."""
        return await self._home.call(self._sessions.list_for_user, user, timeout=timeout)

    async def revoke(
        self, user: str | int, *, older_than: Duration | None = None, timeout: Duration | None = None
    ) -> int:
        """Ends a user's sessions, or those created more than so many seconds ago; returns how many."""
        return await self._home.call(self._sessions.revoke, user, older_than=older_than, timeout=timeout)
