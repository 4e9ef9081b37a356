"""Several servers of one name over one Redis: events go to all of them, and each is watched for going deaf.

A server that publishes but does not hear is worse than one that is down, and nobody notices. So each server sends
a beat through the channel, has to hear its own, and subscribes anew when it does not; answers to questions come
back on a list of Redis, so that a deaf server can still find out who is deaf.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from logging import getLogger
from queue import Empty, Full, Queue
from secrets import token_hex
from threading import BoundedSemaphore, Event, Thread
from typing import Any

from socketio.async_pubsub_manager import AsyncPubSubManager

from katax_cli.core.clock import SYSTEM
from katax_cli.errors import KataxError, Refused, Unavailable
from katax_cli.services.background import start
from katax_cli.services.clients import RedisDatabase
from katax_cli.services.guard import Safety
from katax_cli.services.pubsub import Message, Subscription
from katax_cli.services.ws.cluster import Answer, Answerer, Poll, Worker, this_worker
from katax_cli.services.ws.wire import LocalManager

BEAT_EVERY = 1.5
DEAF_AFTER = 5.0
"""Seconds without its own beat after which a server subscribes anew."""
ALIVE_SECONDS = 15.0
"""A server that has not signed the register for so long is gone."""
UNSENT = 10_000
"""So many commands may wait for Redis; what comes on top is lost, and logged."""
_UNREAD = 1_000
_BATCH = 200
_CALL_SECONDS = 2.0
_PAUSE = 0.25
_ASK_EVERY = 0.01

_log = getLogger("katax.ws")
Command = tuple[bytes | str | int | float, ...]


class SharedManager(AsyncPubSubManager, LocalManager):  # type: ignore[misc]
    """python-socketio's own protocol between servers, over katax's Redis connections."""

    name = "katax"

    def __init__(self, shared: Shared) -> None:
        super().__init__(channel=shared.channel)
        self._shared = shared

    async def _publish(self, data: Any) -> None:
        self._shared.publish(data)

    async def _listen(self) -> AsyncIterator[Any]:
        while True:
            yield await self._shared.received()

    async def _handle_emit(self, message: dict[str, Any]) -> None:
        if not isinstance(message.get("event"), str) or "data" not in message:
            _log.warning("somebody published an event without name or data on %s", self.channel)
            return
        await super()._handle_emit(message)


class Shared:
    """One server among those of its name; `hears` is False once its own beat did not come for 5 s."""

    def __init__(
        self, redis: RedisDatabase, name: str, *, answer: Answerer, soon: Callable[..., object]
    ) -> None:
        if redis.settings.read_only:
            raise Refused(f"{redis.name!r} is read-only, and servers that share it publish on it")
        self.channel = f"ws:{name}"
        self._redis, self._answer, self._soon = redis, answer, soon
        self._full = (redis.settings.prefix + self.channel).encode("utf-8", "surrogateescape")
        self._register = self._full + b":workers"
        self._worker = this_worker(0)
        self._unsent = Queue[Command](UNSENT)
        self._unread: asyncio.Queue[Any] = asyncio.Queue()
        self._room = BoundedSemaphore(_UNREAD)
        self._heard_at = self._subscribed_at = SYSTEM.monotonic()
        self._subscription: Subscription | None = None
        self._closed = Event()
        self._lost = 0

    @property
    def hears(self) -> bool:
        return SYSTEM.monotonic() - self._heard_at < DEAF_AFTER

    def manager(self) -> SharedManager:
        return SharedManager(self)

    def start(self, port: int) -> None:
        """Subscribes, signs the register and begins to beat. Raises Unavailable, AuthenticationFailed."""
        self._worker = this_worker(port)
        self._subscribe()
        self._beat()
        Thread(target=self._work, name=f"katax-{self.channel.replace(':', '-')}-redis", daemon=True).start()

    def publish(self, data: Any) -> None:
        """Sends to all servers of the name, in order, without waiting; kept while Redis is away."""
        self._send("PUBLISH", self._full, json.dumps(data))

    async def received(self) -> Any:
        """The next message of another server."""
        message = await self._unread.get()
        self._room.release()
        return message

    def workers(self) -> list[Worker]:
        """Who signed the register lately, in the order of host and process."""
        now = self._now()
        rows = self._call("HGETALL", self._register)
        found = [Worker(**json.loads(value)) for value in rows[1::2]]
        alive = [each for each in found if now - each.seen_at < ALIVE_SECONDS]
        return sorted(alive, key=lambda each: (each.host, each.pid, each.port))

    def ask(self, what: str, argument: Any, *, seconds: float = 2.0) -> Poll:
        workers = self.workers()
        expected = {each.id for each in workers}
        replies = self._full + b":" + token_hex(8).encode()
        question = {"method": "katax", "ask": what, "argument": argument, "replies": replies.decode()}
        started = SYSTEM.monotonic()
        self._call("PUBLISH", self._full, json.dumps(question))
        answers: dict[str, Answer] = {}
        while not expected <= answers.keys() and SYSTEM.monotonic() - started < seconds:
            for row in self._call("LRANGE", replies, len(answers), -1):
                worker, value = json.loads(row)
                answers[worker] = Answer(worker, value, (SYSTEM.monotonic() - started) * 1000)
            SYSTEM.sleep(_ASK_EVERY)
        deaf = [each for each in workers if each.id not in answers]
        return Poll(list(answers.values()), deaf, workers, self._subscribers())

    def close(self) -> None:
        self._closed.set()
        with suppress(KataxError):
            self._call("HDEL", self._register, self._worker.id)
        if self._subscription is not None:
            self._subscription.close()

    def _call(self, *command: bytes | str | int | float) -> Any:
        return self._redis.redis(*command, timeout=_CALL_SECONDS, safety=Safety.IDEMPOTENT)

    def _now(self) -> float:
        seconds, microseconds = self._call("TIME")
        return int(seconds) + int(microseconds) / 1e6

    def _subscribers(self) -> int:
        return int(self._call("PUBSUB", "NUMSUB", self._full)[1])

    def _send(self, *command: bytes | str | int | float) -> None:
        try:
            self._unsent.put_nowait(command)
        except Full:
            self._lost += 1
            if self._lost == 1 or self._lost % 1000 == 0:
                _log.error("%d messages for other servers are lost: Redis has been away too long", self._lost)

    def _subscribe(self) -> None:
        before = self._subscription
        self._subscribed_at = SYSTEM.monotonic()
        subscription = Subscription(self._redis, on_message=self._on_message, on_end=self._on_end)
        # Its thread may sleep or wait for Redis, so nobody waits for its end.
        if before is not None:
            start(f"katax-{self.channel}-old", before.close)
        self._subscription = subscription
        subscription.start(channels=[self.channel])

    def _on_end(self, error: BaseException) -> None:
        _log.error("%s does not hear the other servers any more: %s", self.channel, error)

    def _on_message(self, message: Message) -> None:
        try:
            data = json.loads(message.data)
        except ValueError:
            _log.warning("somebody published what is no JSON on %s", self.channel)
            return
        if not isinstance(data, dict):
            return
        if data.get("method") != "katax":
            # Waiting here is what slows Redis down when this server cannot keep up.
            while not self._room.acquire(timeout=1.0):
                if self._closed.is_set():
                    return
            self._soon(self._unread.put_nowait, data)
        elif data.get("beat") == self._worker.id:
            self._heard_at = SYSTEM.monotonic()
        elif "ask" in data:
            self._soon(self._reply, data)

    def _reply(self, question: dict[str, Any]) -> None:
        """On the loop, which owns what it tells."""
        value = self._answer(question["ask"], question.get("argument"))
        replies = question["replies"]
        self._send("RPUSH", replies, json.dumps([self._worker.id, value]))
        self._send("EXPIRE", replies, 30)

    def _work(self) -> None:
        beat_at = SYSTEM.monotonic() + BEAT_EVERY
        unsent: list[Command] = []
        while not self._closed.is_set():
            unsent = unsent or self._waiting(max(0.0, beat_at - SYSTEM.monotonic()))
            if SYSTEM.monotonic() >= beat_at:
                beat_at = SYSTEM.monotonic() + BEAT_EVERY
                self._attempt(self._beat)
                self._attempt(self._hear_again)
            try:
                self._deliver(unsent)
                unsent = []
            except Unavailable as error:
                # It was not sent, so it is kept: nothing arrives twice.
                _log.warning("%s cannot reach Redis: %s", self.channel, error)
                self._closed.wait(_PAUSE)
            except KataxError as error:
                _log.error(
                    "%s may have lost %d messages for other servers: %s", self.channel, len(unsent), error
                )
                unsent = []

    def _attempt(self, work: Callable[[], object]) -> None:
        try:
            work()
        except KataxError as error:
            _log.warning("%s cannot reach Redis: %s", self.channel, error)

    def _waiting(self, seconds: float) -> list[Command]:
        """What is to be sent, waiting `seconds` for the first."""
        found: list[Command] = []
        with suppress(Empty):
            found.append(self._unsent.get(timeout=seconds) if seconds > 0 else self._unsent.get_nowait())
            while len(found) < _BATCH:
                found.append(self._unsent.get_nowait())
        return found

    def _deliver(self, commands: Sequence[Command]) -> None:
        if len(commands) == 1 or self._redis.settings.topology == "cluster":
            for command in commands:
                self._redis.redis(*command, timeout=_CALL_SECONDS)
        elif commands:
            self._redis.pipeline(commands, timeout=_CALL_SECONDS)

    def _beat(self) -> None:
        me = replace(self._worker, seen_at=self._now())
        self._call("HSET", self._register, me.id, json.dumps(asdict(me)))
        self._call("EXPIRE", self._register, 60)
        self._call("PUBLISH", self._full, json.dumps({"method": "katax", "beat": me.id}))

    def _hear_again(self) -> None:
        now = SYSTEM.monotonic()
        if self.hears or now - self._subscribed_at < DEAF_AFTER:
            return
        _log.warning(
            "%s has not heard itself for %.0f s and subscribes again", self.channel, now - self._heard_at
        )
        self._subscribe()
