"""The least that a Redis user needs for katax, by the group of commands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from katax_cli.errors import unknown_name

_READS: Mapping[str, tuple[str, ...]] = {
    "cache": (
        *("get", "mget", "exists", "ttl", "pttl", "scan", "dbsize", "info", "type", "dump"),
        *("memory|usage", "config|get"),
    ),
    "session": ("get", "hgetall", "time", "pttl"),
    "limit": ("get", "pttl", "hgetall", "time"),
    "lock": ("get", "pttl", "scan", "time"),
    "pubsub": ("subscribe", "psubscribe", "unsubscribe", "punsubscribe"),
    "record": ("get", "mget", "scan", "subscribe", "unsubscribe"),
}
_SCRIPTS = ("eval", "evalsha")
_WRITES: Mapping[str, tuple[str, ...]] = {
    "cache": (
        *("set", "mset", "unlink", "pexpire", "persist", "incrby", "restore", "flushdb"),
        *(*_SCRIPTS, "time"),  # remember computes under a lock
    ),
    "session": ("set", "getex", "unlink", "hset", "hget", "hdel", "pexpireat", *_SCRIPTS),
    "limit": ("set", "hincrby", "hdel", "pexpire", "unlink", *_SCRIPTS),
    "lock": ("set", "pexpire", "unlink", *_SCRIPTS),
    "pubsub": ("publish",),
    "record": ("set", "getdel", "publish", *_SCRIPTS),
}
GROUPS = tuple(_READS)
_EVERY_CLIENT = ("ping", "client|setname")
_READ_ONLY_GUARD = ("command|info",)
_CLUSTER = ("cluster|info", "cluster|slots", "cluster|shards", "cluster|nodes", "readonly")


def least_rule(
    user: str,
    prefix: str,
    groups: Iterable[str] = GROUPS,
    *,
    read_only: bool = False,
    cluster: bool = False,
) -> str:
    """`ACL SETUSER …` for a user of these groups on the keys and channels of one prefix.

    The password stands as `>PASSWORD`, to be replaced. Without a prefix the flush of the whole database is in
    the rule; with one it is not. Raises ValueError for an unknown group.
    """
    words = {*_EVERY_CLIENT, *(_READ_ONLY_GUARD if read_only else ()), *(_CLUSTER if cluster else ())}
    for group in groups:
        if group not in _READS:
            raise ValueError(unknown_name("group", group, GROUPS, "groups"))
        words |= {*_READS[group], *(() if read_only else _WRITES[group])}
    if prefix:
        words -= {"flushdb"}
    allowed = " ".join(f"+{word}" for word in sorted(words))
    glob = "".join(f"\\{c}" if c in "*?[]\\" else c for c in prefix)
    return f"ACL SETUSER {user} on >PASSWORD ~{glob}* &{glob}* {allowed}"
