"""The commands allowed on a read-only connection: those that the server flags as read-only, and a short list."""

from __future__ import annotations

from collections.abc import Sequence

from redis.connection import AbstractConnection
from redis.exceptions import ResponseError

from katax_cli.engines.redis.connection import CommandWords, ask
from katax_cli.engines.refusals import not_known_to_read


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Commands that the server does not flag as read-only although they change no data.
HARMLESS = _words(
    "ASKING AUTH COMMAND DBSIZE DISCARD ECHO EXEC HELLO INFO LASTSAVE MULTI PING PSUBSCRIBE PUNSUBSCRIBE "
    "READONLY READWRITE ROLE SELECT SSUBSCRIBE SUBSCRIBE SUNSUBSCRIBE TIME UNSUBSCRIBE UNWATCH "
    "WATCH"
)
# The same by subcommand: what these containers can do besides is why they are not in the list above.
HARMLESS_SUBCOMMANDS: dict[str, frozenset[str]] = {
    "ACL": _words("CAT DRYRUN GENPASS GETUSER LIST USERS WHOAMI"),
    "CLIENT": _words("GETNAME ID INFO LIST SETINFO SETNAME TRACKINGINFO"),
    "CLUSTER": _words(
        "COUNTKEYSINSLOT GETKEYSINSLOT INFO KEYSLOT LINKS MYID MYSHARDID NODES REPLICAS SHARDS SLOTS"
    ),
    "CONFIG": frozenset({"GET"}),
    "FUNCTION": _words("DUMP LIST STATS"),
    "LATENCY": _words("DOCTOR GRAPH HISTOGRAM HISTORY LATEST"),
    "MEMORY": _words("DOCTOR MALLOC-STATS STATS USAGE"),
    "MODULE": frozenset({"LIST"}),
    "PUBSUB": _words("CHANNELS NUMPAT NUMSUB SHARDCHANNELS SHARDNUMSUB"),
    "SCRIPT": frozenset({"EXISTS"}),
    "SLOWLOG": frozenset({"GET", "LEN"}),
}
# What Redis 7 flags as read-only, for a caller who cannot ask the server; what is not here counts as a write.
READS = _words(
    "BITCOUNT BITFIELD_RO BITPOS DBSIZE DUMP EVALSHA_RO EVAL_RO EXISTS EXPIRETIME FCALL_RO GEODIST GEOHASH GEOPOS "
    "GEORADIUSBYMEMBER_RO GEORADIUS_RO GEOSEARCH GET GETBIT GETRANGE HEXISTS HGET HGETALL HKEYS HLEN HMGET "
    "HRANDFIELD HSCAN HSTRLEN HVALS KEYS LCS LINDEX LLEN LPOS LRANGE MGET PEXPIRETIME PTTL RANDOMKEY SCAN SCARD "
    "SDIFF SINTER SINTERCARD SISMEMBER SMEMBERS SMISMEMBER SORT_RO SRANDMEMBER SSCAN STRLEN SUBSTR SUNION TTL "
    "TYPE XLEN XPENDING XRANGE XREVRANGE ZCARD ZCOUNT ZDIFF ZINTER ZINTERCARD ZLEXCOUNT ZMSCORE ZRANDMEMBER "
    "ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANK ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE "
    "ZUNION"
)
# A script may call anything; its read-only sisters EVAL_RO, EVALSHA_RO and FCALL_RO are held by the server.
NEVER = _words("EVAL EVALSHA FCALL")
_SUBCOMMANDS = 9  # the field of a COMMAND INFO entry, since Redis 7


class ReadOnly:
    """The guard of one client; asks the server once about each command and remembers the answer."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._reads: dict[str, bool] = {}

    def __call__(self, connection: AbstractConnection, command: CommandWords) -> None:
        """Raises Refused before anything is sent unless the command is known to change nothing."""
        words = spelled(command[:2])
        if not words or not self._allows(connection, words, command):
            raise not_known_to_read(self._label, _title(words))

    def _allows(self, connection: AbstractConnection, words: Sequence[bytes], command: CommandWords) -> bool:
        name, subcommand = _upper(words[0]), _upper(words[1]) if len(words) > 1 else ""
        if name in NEVER:
            return False
        by_server = name not in HARMLESS_SUBCOMMANDS
        return _is_harmless(words, command) or (by_server and self._flagged(connection, name, subcommand))

    def _flagged(self, connection: AbstractConnection, name: str, subcommand: str) -> bool:
        known = self._reads
        for key in (name, f"{name}|{subcommand}"):
            if key in known:
                return known[key]
        known.update(_flags_of(connection, name))
        return known.get(name, known.get(f"{name}|{subcommand}", False))


def only_reads(command: CommandWords) -> bool:
    """True for a command that is known to change nothing, without asking a server."""
    words = spelled(command[:2])
    return bool(words) and (_upper(words[0]) in READS or _is_harmless(words, command))


def spelled(command: CommandWords) -> list[bytes]:
    """The words as the server will see them: redis-py splits the first argument at spaces, so do we."""
    if not command:
        return []
    first, *rest = (_encoded(word) for word in command)
    split = isinstance(command[0], str) or b" " in first
    return [*(first.split() if split else [first]), *rest]


def _is_harmless(words: Sequence[bytes], command: CommandWords) -> bool:
    """True by name, by subcommand, or where only an option that is not there would write; `words` begin the command."""
    name, subcommand = _upper(words[0]), _upper(words[1]) if len(words) > 1 else ""
    if name in HARMLESS_SUBCOMMANDS:
        reads = HARMLESS_SUBCOMMANDS[name] | {"HELP"}
        return subcommand in reads or (name == "ACL" and subcommand == "LOG" and not _says("RESET", command))
    if name == "SORT":
        return not _says("STORE", command)
    return name in HARMLESS or (name == "GETEX" and len(spelled(command)) == 2)


def _says(option: str, command: CommandWords) -> bool:
    return option in map(_upper, spelled(command))


def _flags_of(connection: AbstractConnection, name: str) -> dict[str, bool]:
    """The `readonly` flag of a command; for one with subcommands, of each `NAME|SUB` by itself."""
    try:
        (entry,) = ask(connection, "COMMAND", "INFO", name)
    except ResponseError:
        # A user who may not ask gets the careful answer.
        return {name: False}
    if entry is None:
        return {name: False}
    subcommands = entry[_SUBCOMMANDS] if len(entry) > _SUBCOMMANDS else ()
    return {
        _upper(name): any(bytes(flag) == b"readonly" for flag in flags)
        for name, _, flags, *_ in subcommands or (entry,)
    }


def _encoded(word: object) -> bytes:
    return bytes(word) if isinstance(word, bytes | bytearray | memoryview) else str(word).encode()


def _upper(word: bytes) -> str:
    return word.decode("latin-1").upper()


def _title(words: Sequence[bytes]) -> str:
    name = (_upper(words[0]) if words else "") or "an empty command"
    has_subcommand = name in HARMLESS_SUBCOMMANDS and len(words) > 1
    return f"{name} {_upper(words[1])}" if has_subcommand else name
