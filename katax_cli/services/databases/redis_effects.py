"""The harm that a Redis command can do, by its words: what loses data that it does not name."""

from __future__ import annotations

from collections.abc import Sequence

_LOSE_DATA = frozenset(
    {"FLUSHALL", "FLUSHDB", "SWAPDB", "SHUTDOWN", "DEBUG", "REPLICAOF", "SLAVEOF", "FAILOVER"}
)
_ADMINISTER = frozenset({"EVAL", "EVALSHA", "FCALL", "MODULE", "CLUSTER", "MIGRATE"})
_ADMINISTER_BY = {
    "CONFIG": frozenset({"SET", "REWRITE", "RESETSTAT"}),
    "ACL": frozenset({"SETUSER", "DELUSER", "LOAD", "SAVE"}),
    "CLIENT": frozenset({"KILL", "PAUSE"}),
    "SCRIPT": frozenset({"FLUSH", "KILL"}),
    "FUNCTION": frozenset({"DELETE", "FLUSH", "KILL", "LOAD", "RESTORE"}),
}


def loses_data(words: Sequence[str]) -> bool:
    """True for a command that loses more than the keys that it names."""
    return _command(words)[0] in _LOSE_DATA


def administers(words: Sequence[str]) -> bool:
    """True for a command that changes the server or its clients, or runs a script that may do anything."""
    name, sub = _command(words)
    return name in _ADMINISTER or sub in _ADMINISTER_BY.get(name, ())


def _command(words: Sequence[str]) -> tuple[str, str]:
    # The driver sends a first word that holds blanks as several.
    spelled = [*words[0].split(), *words[1:2]] if words else []
    name, sub, *_ = [*(word.strip().upper() for word in spelled[:2]), "", ""]
    return name, sub
