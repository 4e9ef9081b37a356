"""The common part of the command groups on Redis: their connection, and keys as words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.invocation import INTERACTIVE_SECONDS, Invocation
from katax_cli.cli.shell.output import PLAIN, Manner
from katax_cli.cli.shell.scope import scope
from katax_cli.cli.shell.target import REDIS as REDIS
from katax_cli.core.roles import Tier
from katax_cli.core.text.text import base64_text, is_utf8, to_text

if TYPE_CHECKING:
    from katax_cli.services.cache.cache import Cache


@contextmanager
def cache(call: Invocation, *, seconds: float | None = INTERACTIVE_SECONDS) -> Iterator[Cache]:
    """The cache on the chosen connection."""
    from katax_cli.services.cache.cache import Cache

    with scope(call, REDIS, seconds=seconds) as chosen:
        yield Cache(chosen.redis)


def answer_each(
    call: Invocation,
    header: Sequence[str] | Callable[[], Sequence[str]],
    work: Callable[[Cache], Sequence[Sequence[object]]],
    *,
    seconds: float | None = INTERACTIVE_SECONDS,
    manner: Manner = PLAIN,
) -> ExitCode:
    """Prints the rows of `work(cache)` for every connection that is meant; see Scope.answer_each."""
    from katax_cli.services.cache.cache import Cache

    with scope(call, REDIS, seconds=seconds) as chosen:
        return chosen.answer_each(header, lambda database: work(Cache(database)), manner=manner)


def harm_of_command(words: Sequence[str], *, reads: bool) -> tuple[Tier, str] | None:
    """The tier and the words of the question before a Redis command runs; None without one, as for what only reads."""
    from katax_cli.services.databases.redis_effects import administers, loses_data

    if reads:
        return None
    if loses_data(words):
        return Tier.DESTRUCTIVE, f"run {words[0].upper()}"
    return (Tier.DISRUPTIVE, f"run {words[0].upper()}") if administers(words) else None


def cell(data: bytes, *, text: bool) -> object:
    """Bytes of the server as they are shown: text; what is none as base64, where the format is JSON (not `text`)."""
    return to_text(data) if text or is_utf8(data) else {"base64": base64_text(data)}
