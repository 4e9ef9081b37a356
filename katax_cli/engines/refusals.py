"""The refusals of read-only connections that several engines say."""

from __future__ import annotations

from katax_cli.errors import Refused


def not_read_only(connection: str) -> Refused:
    """A server that does not keep its session, or a transaction, from writing."""
    return Refused(f"{connection!r} did not become read-only; nothing was run")


def not_known_to_read(connection: str, command: str) -> Refused:
    """A command that is not on the list of those that change nothing."""
    return Refused(
        f"{connection!r} is read-only and {command} is not known to only read; use a connection that may write"
    )
