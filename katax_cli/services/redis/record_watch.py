"""Changes of records as the server notices them: its keyspace events, of which it keeps none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from logging import getLogger
from typing import Literal

from katax_cli.core.text.duration import Duration
from katax_cli.errors import ConfigError, QueryError, Unavailable
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.redis.subscription import Message, Subscription

RecordChange = Literal["saved", "deleted", "expired", "evicted", "missed"]

_SETTING = "notify-keyspace-events"
_NEEDED = "Kg$xe"
"""Events by key, of commands for all types and for text, of expired and of evicted keys."""
_ALL = "g$lshzxetd"
"""The classes that `A` in the setting stands for."""
_CHANGES: dict[bytes, RecordChange] = {
    **dict.fromkeys(
        (b"set", b"append", b"setrange", b"restore", b"rename_to", b"copy_to", b"move_to"), "saved"
    ),
    **dict.fromkeys((b"del", b"rename_from", b"move_from"), "deleted"),
    b"expired": "expired",
    b"evicted": "evicted",
}


@dataclass(frozen=True, slots=True)
class RecordEvent:
    """A record was `saved`, `deleted`, `expired` or `evicted`; or events were `missed`, and `id` is None.

    It tells of a key: what the record is now, and whose it is where a name or an id holds a colon, `load` tells.
    """

    id: str | None
    event: RecordChange
    received_at: datetime


class RecordWatch:
    """One connection and its thread, which hands the events of one resource to `on_event`, in their order.

    `start` says what its server must be set to; nothing is set here. After a lost connection, which is repaired, the
    next event is `missed`: the server keeps none. A slow `on_event` is waited for, so that nothing heaps up here; a
    server whose buffer for this connection fills up cuts it, and that is `missed` too. `on_end(error)` is called when
    it cannot go on, as when the server came back with another setting.
    """

    def __init__(
        self,
        redis: RedisDatabase,
        name: str,
        *,
        on_event: Callable[[RecordEvent], object],
        on_end: Callable[[BaseException], object] = lambda _: None,
    ) -> None:
        settings = redis.settings
        if settings.topology == "cluster":
            raise ConfigError(
                f"{redis.name!r} is a cluster, each server of which tells of its own keys only; "
                "watch works on a single server and behind Sentinel"
            )
        self._redis = redis
        self._on_event = on_event
        self._subscription = Subscription(
            redis,
            prefix=f"__keyspace@{int(settings.database or 0)}__:{settings.prefix}{name}:",
            on_message=self._heard,
            on_gap=self._missed,
            on_end=on_end,
        )

    def start(self, timeout: Duration | None = None) -> None:
        """Returns once the server has confirmed that it will tell.

        Raises ConfigError when its `notify-keyspace-events` lacks what is needed, and what `Subscription.start` does.
        """
        self._check_setting(timeout)
        self._subscription.start(patterns=["*"], timeout=timeout)

    def close(self) -> None:
        """Ends the connection and the thread."""
        self._subscription.close()

    def _heard(self, message: Message) -> None:
        change = _CHANGES.get(message.data)
        if change is not None:
            self._on_event(RecordEvent(message.channel, change, message.received_at))

    def _missed(self, _seconds: float) -> None:
        """After a gap, before anything else is received: the server may be another, or have started anew."""
        try:
            self._check_setting(None)
        except Unavailable as error:
            raise ConnectionError(f"the setting {_SETTING} could not be read") from error
        self._on_event(RecordEvent(None, "missed", datetime.now(UTC)))

    def _check_setting(self, timeout: Duration | None) -> None:
        redis = self._redis.within(timeout)
        try:
            reply = redis.redis("CONFIG", "GET", _SETTING, safety=Safety.READ)
            reason: object = "it knows no such setting"
        except QueryError as error:
            reply, reason = [], error.code or error
        if not reply:
            getLogger("katax").warning(
                "%r does not say its %s (%s); without %s in it no event arrives",
                redis.name,
                _SETTING,
                reason,
                _NEEDED,
            )
            return
        _, setting = reply
        flags = setting.decode().replace("A", _ALL)
        missing = "".join(flag for flag in _NEEDED if flag not in flags)
        if missing:
            raise ConfigError(
                f"{redis.name!r} tells of no changes to records: its {_SETTING} is {setting.decode()!r} and lacks "
                f"{missing!r}; set it on the server: CONFIG SET {_SETTING} {setting.decode()}{missing}"
            )
