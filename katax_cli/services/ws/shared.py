"""Several servers of one name over one Redis: events go to all of them, and each is watched for going deaf.

A server that publishes but does not hear is worse than one that is down, and nobody notices. So each server sends
a beat through the channel, has to hear its own, and subscribes anew when it does not; answers to questions come
back on a list of Redis, so that a deaf server can still find out who is deaf.

How long it stays deaf when Redis is there: DEAF_AFTER until it notices, or at most one attempt that still ends
(connect_timeout and _CONFIRM_SECONDS), one call (_CALL_SECONDS) and TRY_EVERY: 6 s with a connect_timeout of 2 s.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from logging import getLogger
from queue import Empty, Full, Queue
from secrets import token_hex
from threading import BoundedSemaphore, Event, Thread
from typing import Any

from socketio.async_pubsub_manager import AsyncPubSubManager

from katax_cli.core.clock import SYSTEM
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.resilience.retry import ONCE
from katax_cli.core.text.js_json import jsonable
from katax_cli.core.text.text import to_bytes
from katax_cli.errors import KataxError, Refused, Unavailable
from katax_cli.services.calls.guard import Guard, Safety
from katax_cli.services.calls.left_behind import start
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.databases.database import classify_with
from katax_cli.services.redis.subscription import Message, Subscription
from katax_cli.services.ws.cluster import Answer, Answerer, Poll, Worker, this_worker
from katax_cli.services.ws.transport.socketio_server import LocalManager

BEAT_EVERY = 1.0
DEAF_AFTER = 3.5
"""Seconds without its own heartbeat after which a server is deaf, reports it and subscribes again."""
TRY_EVERY = 2.0
"""Seconds between two attempts to subscribe."""
ALIVE_SECONDS = 6.0
"""A server that has not signed the register for so long hangs, or is gone."""
FORGOTTEN_SECONDS = 600.0
UNSENT = 10_000
"""So many commands may wait for Redis; what comes on top is lost, and logged."""
_UNREAD = 1_000
_BATCH = 200
_CALL_SECONDS = 1.5
_CONFIRM_SECONDS = 2.0
_PAUSE = 0.25
_ASK_EVERY = 0.01

_log = getLogger("katax.ws")
RedisCommand = tuple[bytes | str | int | float, ...]
_NOTHING: RedisCommand = ()


class SharedManager(AsyncPubSubManager, LocalManager):  # type: ignore[misc]
    """python-socketio's own protocol between servers, over katax's Redis connections."""

    name = "katax"

    def __init__(self, shared: ClusterMember) -> None:
        super().__init__(channel=shared.channel)
        self._shared = shared

    async def _publish(self, data: Any) -> None:
        self._shared.publish(data)

    async def _listen(self) -> AsyncIterator[Any]:
        while True:
            yield await self._shared.received()

    async def _handle_emit(self, message: dict[str, Any]) -> None:
        if not isinstance(message.get("event"), str) or "data" not in message:
            _log.warning("an event without name or data was published on %s", self.channel)
            return
        await super()._handle_emit(message)


class ClusterMember:
    """One server among those of its name; `hears` is False once its own beat did not come for 3.5 s."""

    def __init__(
        self, redis: RedisDatabase, name: str, *, answer: Answerer, soon: Callable[..., object]
    ) -> None:
        if redis.settings.read_only:
            raise Refused(f"{redis.name!r} is read-only, and servers that share it publish on it")
        self.channel = f"ws:{name}"
        self._given, self._redis = redis, _always_tried(redis)
        self._answer, self._soon = answer, soon
        self._full = to_bytes(redis.settings.prefix + self.channel)
        self._register = self._full + b":workers"
        self._worker = this_worker(0)
        self._unsent = Queue[RedisCommand](UNSENT)
        self._unread: asyncio.Queue[Any] = asyncio.Queue()
        self._room = BoundedSemaphore(_UNREAD)
        self._heard_at = self._subscribed_at = SYSTEM.monotonic()
        self._subscription: Subscription | None = None
        self._subscriptions = 0
        self._lags = False
        self._closed = Event()
        self._sender: Thread | None = None
        self._lost = 0

    @property
    def hears(self) -> bool:
        return SYSTEM.monotonic() - self._heard_at < DEAF_AFTER

    def manager(self) -> SharedManager:
        return SharedManager(self)

    def start(self, port: int) -> None:
        """Subscribes, signs the register and begins to beat. Raises Unavailable, AuthenticationFailed."""
        self._worker = this_worker(port)
        self._given.redis("PING", timeout=_CALL_SECONDS, safety=Safety.READ)
        self._subscribe()
        self._beat()
        self._heard_at = SYSTEM.monotonic()
        self._sender = self._thread("sender", self._send_all)
        self._thread("keeper", self._keep)

    def publish(self, data: Any) -> None:
        """Sends to all servers of the name, in order, without waiting; kept while Redis is away."""
        self._send("PUBLISH", self._full, json.dumps(data, default=jsonable))

    async def received(self) -> Any:
        """The next message of another server."""
        message = await self._unread.get()
        self._room.release()
        return message

    def ask(self, what: str, argument: Any, *, seconds: float = 2.0) -> Poll:
        alive, silent = self._workers()
        expected = {each.id for each in alive}
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
        subscribers = int(self._call("PUBSUB", "NUMSUB", self._full)[1])
        # Who was killed has no subscription either; who hangs still has.
        workers = [*alive, *silent] if subscribers > len(alive) else alive
        deaf = [each for each in workers if each.id not in answers]
        return Poll(list(answers.values()), deaf, workers, subscribers)

    def close(self, seconds: float) -> None:
        """Sends what waits, if Redis is there, and signs off; within `seconds`."""
        deadline = Deadline(min(seconds, 2 * _CALL_SECONDS))
        self._closed.set()
        with suppress(Full):
            self._unsent.put_nowait(_NOTHING)
        if self._sender is not None:
            self._sender.join(deadline.remaining() / 2)
        with suppress(KataxError):
            self._call("HDEL", self._register, self._worker.id, seconds=max(0.05, deadline.remaining()))
        start(f"katax-{self.channel}-end", self._disconnect).ended(deadline.remaining())

    def _disconnect(self) -> None:
        if self._subscription is not None:
            self._subscription.close()
        self._redis.close()

    def _thread(self, name: str, work: Callable[[], object]) -> Thread:
        made = Thread(target=work, name=f"katax-{self.channel.replace(':', '-')}-{name}", daemon=True)
        made.start()
        return made

    def _workers(self) -> tuple[list[Worker], list[Worker]]:
        """The workers that signed the register lately, and those before; each in the order of host and process."""
        now = self._now()
        rows = self._call("HGETALL", self._register)
        known = [Worker(**json.loads(value)) for value in rows[1::2]]
        known.sort(key=lambda each: (each.host, each.pid, each.port))
        forgotten = [each.id for each in known if now - each.seen_at > FORGOTTEN_SECONDS]
        if forgotten:
            self._call("HDEL", self._register, *forgotten)
        alive = [each for each in known if now - each.seen_at < ALIVE_SECONDS]
        return alive, [each for each in known if each not in alive and each.id not in forgotten]

    def _call(self, *command: bytes | str | int | float, seconds: float = _CALL_SECONDS) -> Any:
        # Beats and questions are made anew anyway: when one is lost, nobody has to know whether it arrived.
        safety = Safety.READ if self._redis.engine.only_reads(command) else Safety.EXPENDABLE
        return self._redis.redis(*command, timeout=seconds, safety=safety)

    def _now(self) -> float:
        seconds, microseconds = self._call("TIME")
        return int(seconds) + int(microseconds) / 1e6

    def _send(self, *command: bytes | str | int | float) -> None:
        try:
            self._unsent.put_nowait(command)
        except Full:
            self._lost += 1
            if self._lost == 1 or self._lost % 1000 == 0:
                _log.error(
                    "%d messages for other servers are lost: Redis was unreachable for too long", self._lost
                )

    def _subscribe(self) -> None:
        before = self._subscription
        self._subscribed_at = SYSTEM.monotonic()
        # From now on the one before is not listened to: should it still hear, nothing arrives twice.
        self._subscriptions += 1
        subscription = Subscription(
            self._redis,
            on_message=partial(self._on_message, self._subscriptions),
            on_gap=self._tell_gap,
            on_end=self._on_end,
            ping_every=TRY_EVERY,
            dead_after=_CONFIRM_SECONDS,
        )
        # Its thread may sleep or wait for Redis, so nobody waits for its end.
        if before is not None:
            start(f"katax-{self.channel}-old", before.close)
        self._subscription = subscription
        subscription.start(channels=[self.channel])

    def _tell_gap(self, seconds: float) -> None:
        _log.warning(
            "%s did not hear the other servers for %.1f s and has subscribed again; "
            "what they sent meanwhile did not reach the clients here",
            self.channel,
            seconds,
        )

    def _on_end(self, error: BaseException) -> None:
        _log.error("%s does not hear the other servers any more: %s", self.channel, error)

    def _on_message(self, subscription: int, message: Message) -> None:
        try:
            data = json.loads(message.data)
        except ValueError:
            _log.warning("a message that is not JSON was published on %s", self.channel)
            return
        if not isinstance(data, dict) or subscription != self._subscriptions:
            return
        if data.get("method") != "katax":
            if self._has_room():
                self._soon(self._unread.put_nowait, data)
        elif data.get("beat") == self._worker.id:
            self._heard_at = SYSTEM.monotonic()
        elif "ask" in data:
            self._soon(self._reply, data)

    def _has_room(self) -> bool:
        """Waits for room, which slows Redis down when this server cannot keep up; False when it ends."""
        while not self._room.acquire(timeout=BEAT_EVERY):
            self._lags = True
            if self._closed.is_set():
                return False
        self._lags = False
        return True

    def _reply(self, question: dict[str, Any]) -> None:
        """Runs on the loop, which owns the reported data."""
        value = self._answer(question["ask"], question.get("argument"))
        replies = question["replies"]
        self._send("RPUSH", replies, json.dumps([self._worker.id, value]))
        self._send("EXPIRE", replies, 30)

    def _send_all(self) -> None:
        unsent: list[RedisCommand] = []
        while unsent or not self._closed.is_set() or not self._unsent.empty():
            unsent = unsent or self._waiting(BEAT_EVERY)
            try:
                self._deliver(unsent)
                unsent = []
            except Unavailable as error:
                if self._closed.is_set():
                    return
                # It was not sent, so it is kept: nothing arrives twice.
                _log.warning("%s cannot reach Redis: %s", self.channel, error)
                self._closed.wait(_PAUSE)
            except Exception as error:  # noqa: BLE001 - the boundary of this thread, which has to go on
                _log.error(
                    "%s may have lost %d messages for other servers: %s", self.channel, len(unsent), error
                )
                unsent = []

    def _keep(self) -> None:
        """Sends heartbeats, and subscribes again without its own; in a thread that waits for no event."""
        while not self._closed.wait(BEAT_EVERY):
            self._attempt(self._hear_again)
            self._attempt(self._beat)

    def _attempt(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the boundary of this thread, which has to go on
            _log.warning("%s cannot reach Redis: %s", self.channel, error)

    def _waiting(self, seconds: float) -> list[RedisCommand]:
        """The commands to send, waiting `seconds` for the first."""
        found: list[RedisCommand] = []
        with suppress(Empty):
            found.append(self._unsent.get(timeout=seconds))
            while len(found) < _BATCH:
                found.append(self._unsent.get_nowait())
        return [command for command in found if command != _NOTHING]

    def _deliver(self, commands: Sequence[RedisCommand]) -> None:
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
        # Who lags would lose by it what still waits for him.
        if self.hears or self._lags or now - self._subscribed_at < TRY_EVERY:
            return
        self._subscribe()
        self._tell_gap(now - self._heard_at)


def _always_tried(redis: RedisDatabase) -> RedisDatabase:
    """The same server by connections of its own: a breaker would keep it deaf for a minute after an outage."""
    guard = Guard(redis.name, classify_with(redis.engine), retry=ONCE, breaker=None)
    return RedisDatabase(redis.engine, guard)
