"""One connection that listens to channels, and distinguishes silence from a dead connection."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from redis.client import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from katax_cli.engines.messages import SubscriberMessage

_KINDS = frozenset({b"message", b"pmessage"})


class RedisSubscriber:
    """Messages of channels and patterns; one thread receives, any thread may subscribe."""

    def __init__(self, client: Any) -> None:
        self._client = client
        node = client if isinstance(client, Redis) else client.get_redis_connection(client.get_primaries()[0])
        self._connection = node.connection_pool.get_connection()

    def send(self, command: str, names: Sequence[bytes] = ()) -> None:
        """SUBSCRIBE, PSUBSCRIBE, UNSUBSCRIBE, PUNSUBSCRIBE or PING; what comes back is `receive`'s."""
        self._check()
        self._connection.send_command(command, *names, check_health=False)

    def receive(self, timeout: float) -> SubscriberMessage | None:
        """Returns the next message or sign of life within `timeout` seconds, None without one."""
        self._check()
        if not self._connection.can_read(timeout=timeout):
            return None
        answer = self._connection.read_response(disconnect_on_error=False)
        if isinstance(answer, bytes):
            # A connection without any subscription answers PING as all others do.
            return SubscriberMessage(answer.decode("ascii").lower(), None, b"", b"")
        kind, *rest = answer
        if kind not in _KINDS:
            return SubscriberMessage(kind.decode("ascii"), None, rest[0] or b"", b"")
        *pattern, channel, message = rest
        return SubscriberMessage("message", pattern[0] if pattern else None, channel, message)

    def close(self) -> None:
        """Ends it; a receiver in another thread returns with an error."""
        self._connection.disconnect()
        self._client.close()

    def abandon(self) -> None:
        # The socket is redis-py's own affair, but its ways to close it shut the parent's connection or wait.
        wire, self._connection._sock = self._connection._sock, None
        if wire is not None:
            os.close(wire.detach())

    def _check(self) -> None:
        # redis-py would silently connect anew, without the subscriptions.
        if not self._connection.is_connected:
            raise RedisConnectionError("the connection is closed")
