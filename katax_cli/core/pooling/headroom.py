"""Limits that are getting near, when they will be reached, and remedies: rules over values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from katax_cli.snapshot import Headroom

SCARCE_SHARE = 0.8
SOON_SECONDS = 7 * 86400.0
OLD_TRANSACTION_SECONDS = 3600.0
SHORT_OPLOG_SECONDS = 86400.0
LARGE_WAL_BYTES = 64 * 2**20

_REMEDIES: Mapping[str, str] = {
    "connections": "make pools smaller, or raise the server's limit",
    "wraparound_age": "let VACUUM FREEZE run on the oldest tables before the server refuses to write",
    "replication_slots": "drop the slots that nobody reads any more, or their WAL fills the disk",
    "memory": "raise maxmemory, shorten lifetimes, or choose a maxmemory-policy that evicts",
    "disk": "make room on the file system",
}


def paced(now: Headroom, earlier: Headroom | None, seconds: float) -> Headroom:
    """The same with the time until its limit: (limit − used) / (growth since `earlier`, `seconds` ago)."""
    if earlier is None or now.limit is None or seconds <= 0 or now.used <= earlier.used:
        return now
    pace = (now.used - earlier.used) / seconds
    return now._replace(seconds_left=round(max(0.0, now.limit - now.used) / pace, 1))


def advice(rooms: Iterable[Headroom], *, engine: str) -> tuple[str, ...]:
    """One line for each thing that gets scarce."""
    return tuple(text for room in rooms if (text := _advice(room, engine)) is not None)


def _advice(room: Headroom, engine: str) -> str | None:
    if room.limit:
        return _limited(room, room.limit)
    if room.name == "oldest_transaction" and room.used > OLD_TRANSACTION_SECONDS:
        return (
            f"a transaction has been open for {room.used:.0f} s; end it, or nothing behind it is cleaned up"
        )
    if room.name == "oplog_window" and room.used < SHORT_OPLOG_SECONDS:
        return f"the oplog reaches back {room.used / 3600:.1f} h; make it larger, or members that pause must resync"
    if room.name == "wal" and engine == "sqlite" and room.used > LARGE_WAL_BYTES:
        return f"the write-ahead log has {room.used / 2**20:.0f} MiB; end the reader that keeps it from being merged"
    return None


def _limited(room: Headroom, limit: float) -> str | None:
    is_scarce = room.used >= SCARCE_SHARE * limit
    is_soon = room.seconds_left is not None and room.seconds_left < SOON_SECONDS
    # A pace of seconds means little far from the limit: one more connection is no trend.
    if not is_scarce and not (is_soon and room.used >= limit / 2):
        return None
    when = "" if room.seconds_left is None else f", and in {room.seconds_left:.0f} s all at this pace"
    share = f"{room.used / limit:.0%} of {limit:.0f} {room.unit} ({room.name}) are used{when}"
    return f"{share}; {_REMEDIES.get(room.name, 'make room')}"
