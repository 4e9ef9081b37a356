"""Commands in one round trip, on one server or spread over the nodes of a cluster."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from redis.client import Redis
from redis.connection import AbstractConnection
from redis.exceptions import AskError, MovedError, ReadOnlyError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.sentinel import SentinelConnectionPool

from katax_cli.core.interrupts import settle_doubt
from katax_cli.engines.redis import failures
from katax_cli.engines.redis.connection import CommandWords, RedisNotSent
from katax_cli.errors import PoolTimeout, Refused

# Where the key stands; in all other commands that are sent in batches it comes first.
_KEY_AT = {"EVAL": 3, "EVALSHA": 3, "MEMORY": 2, "OBJECT": 2}


def pipeline(client: Any, commands: Sequence[CommandWords], *, tolerant: bool) -> list[Any]:
    """The replies, in order. Each command has one key, which says where it goes in a cluster.

    A command that the server refused raises once all replies are read; when `tolerant`, what was refused for
    good stands as a Failure in its place.
    """
    replies = _on_one(client, commands) if isinstance(client, Redis) else _on_cluster(client, commands)
    if any(isinstance(reply, ResponseError) for reply in replies):
        return [_settled(reply, tolerant) for reply in replies]
    return replies


def command(client: Redis, words: CommandWords) -> Any:
    """The reply to one command, as the server sent it."""
    return _on_one(client, [words], AbstractConnection.read_response)[0]


def shards(client: Any) -> list[Redis]:
    """One client for each server that owns keys.

    Behind Sentinels they are asked anew: for a while after a failover the old primary takes writes, too.
    """
    if isinstance(client, Redis):
        if isinstance(client.connection_pool, SentinelConnectionPool):
            client.connection_pool.get_master_address()
        return [client]
    return [client.get_redis_connection(node) for node in client.get_primaries()]


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


def _on_one(
    client: Redis,
    commands: Sequence[CommandWords],
    read: Callable[[Any], Any] = _reply,
    *,
    alone: bool = True,
) -> list[Any]:
    """The replies of one server; `alone` when no other one has done a part of it."""
    pool = client.connection_pool
    try:
        connection = pool.get_connection()
    except BaseException as error:
        if alone and not isinstance(error, Exception):
            settle_doubt(error)
        raise
    try:
        connection.send_packed_command(connection.pack_commands(commands))
        return [read(connection) for _ in commands]
    except ReadOnlyError:
        # The server was demoted. Who opens the next connection asks the Sentinels for the primary.
        connection.disconnect()
        raise
    except (ResponseError, Refused):
        raise
    except BaseException:
        # Unread replies would be taken for those of the next command.
        connection.disconnect()
        raise
    finally:
        pool.release(connection)


def _on_cluster(client: Any, commands: Sequence[CommandWords]) -> list[Any]:
    by_node: defaultdict[Any, list[int]] = defaultdict(list)
    for number, command in enumerate(commands):
        by_node[client.get_node_from_key(command[_KEY_AT.get(command[0], 1)])].append(number)
    replies: list[Any] = [None] * len(commands)
    answered = 0
    try:
        for node, numbers in by_node.items():
            words = [commands[number] for number in numbers]
            answers = _on_one(client.get_redis_connection(node), words, alone=not answered)
            answered += len(answers)
            for number, answer in zip(numbers, answers, strict=True):
                moved = isinstance(answer, MovedError | AskError)
                replies[number] = _again(client, commands[number]) if moved else answer
    except (RedisNotSent, PoolTimeout) as error:
        if not answered:
            raise
        # As a whole it was sent: repeated, it would do again what was done.
        raise RedisConnectionError(
            f"{answered} of {len(commands)} commands were answered: {error}"
        ) from error
    return replies


def _again(client: Any, command: CommandWords) -> Any:
    """A command whose slot moves: the cluster client follows it, and remembers its new node."""
    try:
        return client.raw(*command)
    except ResponseError as error:
        return error


def _settled(reply: Any, tolerant: bool) -> Any:
    if not isinstance(reply, ResponseError):
        return reply
    failure = failures.classify(reply)
    if not tolerant or failure.transient:
        raise reply
    return failure
