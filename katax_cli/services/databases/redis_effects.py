"""The harm that a Redis command can do, by its words: what loses data that it does not name."""

from __future__ import annotations

from collections.abc import Sequence

from katax_cli.core.sql.lexer import keywords

_LOSE_DATA = keywords("FLUSHALL FLUSHDB SWAPDB SHUTDOWN DEBUG REPLICAOF SLAVEOF FAILOVER")
# What changes the server, its clients or its replicas, or runs a script that may do anything. Of some of them a few
# subcommands only look: the engine's `only_reads` tells them.
_ADMINISTER = keywords(
    """ACL BGREWRITEAOF BGSAVE CLIENT CLUSTER CONFIG EVAL EVALSHA FCALL FUNCTION LATENCY MEMORY MIGRATE MODULE MONITOR
    PFDEBUG PFSELFTEST PSYNC REPLCONF RESTORE-ASKING SAVE SCRIPT SLOWLOG SYNC"""
)


def loses_data(words: Sequence[str]) -> bool:
    """True for a command that loses more than the keys that it names."""
    return _name(words) in _LOSE_DATA


def administers(words: Sequence[str]) -> bool:
    """True for a command that, unless it only reads, changes the server or its clients, or runs a script."""
    return _name(words) in _ADMINISTER


def _name(words: Sequence[str]) -> str:
    # The driver sends a first word that holds blanks as several.
    return (words[0].split() or [""])[0].upper() if words else ""
