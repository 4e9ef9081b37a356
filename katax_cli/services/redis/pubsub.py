"""Messages by channel: published, and handed to functions in one thread and in their order."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from logging import getLogger
from threading import Lock
from typing import Any, Self

from katax_cli.core.callables import completed, plain
from katax_cli.core.forks import follow
from katax_cli.core.text.duration import Duration
from katax_cli.core.text.text import to_bytes
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.redis.subscription import Message, Subscription
from katax_cli.services.redis.values import JSON, Codec, encoded


class PubSub:
    """Publishes values as JSON and calls functions for those that arrive, in one thread, in their order.

    `subscribe(channel, fn)` calls `fn(message)`, `psubscribe(pattern, fn)` calls `fn(pattern, channel,
    message)`; a message is JSON where it is JSON, else its text, unless a `codec` is given. What a function or
    the codec raises is logged and the others go on. `on_gap(seconds)` hears of every time that messages may have been
    lost. `timeout` is seconds for a whole call; without it each answer is waited for 2 s at most.
    """

    def __init__(
        self,
        redis: RedisDatabase,
        *,
        codec: Codec = JSON,
        on_gap: Callable[[float], object] = lambda _: None,
    ) -> None:
        self._redis = redis
        self._codec = codec
        self._on_gap = plain(on_gap, "on_gap()")
        self._channels: dict[str, list[Callable[[Any], object]]] = {}
        self._patterns: dict[str, list[Callable[[str, str, Any], object]]] = {}
        self._subscription: Subscription | None = None
        self._changing = Lock()
        follow(self)

    def after_fork(self) -> None:
        self._changing = Lock()

    def publish(self, channel: str, value: Any, *, timeout: Duration | None = None) -> int:
        """Sends a value; returns how many received it (of a cluster: on the node that was asked)."""
        return publish_raw(self._redis, channel, encoded(self._codec, value), timeout=timeout)

    def subscribe(
        self, channel: str, fn: Callable[[Any], object], *, timeout: Duration | None = None
    ) -> None:
        """Calls `fn(message)` for each message from now on. Raises Unavailable when the first connect fails."""
        plain(fn, "subscribe()")
        with self._changing:
            first = channel not in self._channels
            self._channels.setdefault(channel, []).append(fn)
            if first:
                self._listen("SUBSCRIBE", channel, timeout)

    def psubscribe(
        self, pattern: str, fn: Callable[[str, str, Any], object], *, timeout: Duration | None = None
    ) -> None:
        """Calls `fn(pattern, channel, message)` for each message on channels that match a glob."""
        plain(fn, "psubscribe()")
        with self._changing:
            first = pattern not in self._patterns
            self._patterns.setdefault(pattern, []).append(fn)
            if first:
                self._listen("PSUBSCRIBE", pattern, timeout)

    def unsubscribe(self, channel: str, fn: Callable[[Any], object] | None = None) -> None:
        """Ends one function's subscription, or all of the channel's."""
        with self._changing:
            if self._without(self._channels, channel, fn) and self._subscription is not None:
                self._subscription.remove("UNSUBSCRIBE", channel)

    def punsubscribe(self, pattern: str, fn: Callable[[str, str, Any], object] | None = None) -> None:
        """The same for a pattern."""
        with self._changing:
            if self._without(self._patterns, pattern, fn) and self._subscription is not None:
                self._subscription.remove("PUNSUBSCRIBE", pattern)

    def close(self) -> None:
        """Ends all subscriptions."""
        with self._changing:
            subscription, self._subscription = self._subscription, None
            self._channels.clear()
            self._patterns.clear()
        if subscription is not None:
            subscription.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _listen(self, command: str, name: str, timeout: Duration | None) -> None:
        if self._subscription is not None:
            self._subscription.add(command, name)
            return
        on_gap = partial(_call, "on_gap()", self._on_gap)
        subscription = Subscription(self._redis, on_message=self._dispatch, on_gap=on_gap, codec=self._codec)
        patterns = command == "PSUBSCRIBE"
        try:
            subscription.start(
                channels=[] if patterns else [name], patterns=[name] if patterns else [], timeout=timeout
            )
        except BaseException:
            self._channels.pop(name, None)
            self._patterns.pop(name, None)
            raise
        self._subscription = subscription

    @staticmethod
    def _without(known: dict[str, list[Any]], name: str, fn: Callable[..., object] | None) -> bool:
        """Removes a function, or all; True when none is left."""
        listeners = [each for each in known.get(name, []) if fn is not None and each != fn]
        if listeners:
            known[name] = listeners
            return False
        return known.pop(name, None) is not None

    def _dispatch(self, message: Message) -> None:
        if not message.is_readable():
            return
        subscriber = f"a subscriber of {message.channel!r}"
        if message.pattern is None:
            for fn in list(self._channels.get(message.channel, ())):
                _call(subscriber, fn, message.value)
        else:
            for heard in list(self._patterns.get(message.pattern, ())):
                _call(subscriber, heard, message.pattern, message.channel, message.value)


def _call(name: str, fn: Callable[..., object], *args: object) -> None:
    try:
        completed(fn(*args), fn, "a subscription")
    except Exception:  # the program's function; the other subscribers hear the message all the same
        getLogger("katax").exception("%s failed", name)


def publish_raw(redis: RedisDatabase, channel: str, data: bytes, *, timeout: Duration | None = None) -> int:
    """Sends bytes as they are; returns how many received them."""
    full = to_bytes(redis.settings.prefix + channel)
    return int(redis.within(timeout).redis("PUBLISH", full, data))
