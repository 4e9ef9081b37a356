"""The common part of the command groups on Redis: their connection, and keys as words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.invocation import INTERACTIVE_SECONDS, Invocation, Target
from katax_cli.core.text.text import base64_text, is_utf8

if TYPE_CHECKING:
    from katax_cli.core.settings import ConnectionSettings
    from katax_cli.profiles.model.model import Profile
    from katax_cli.services.cache.cache import Cache
    from katax_cli.services.databases.clients import RedisDatabase

REDIS = Target(types=("redis",), preferred="cache", lacks="Redis commands")


@contextmanager
def cache(call: Invocation, *, seconds: float | None = INTERACTIVE_SECONDS) -> Iterator[Cache]:
    """The cache on the chosen connection."""
    from katax_cli.services.cache.cache import Cache

    with redis(call, seconds=seconds) as (database, _profile):
        yield Cache(database)


@contextmanager
def redis(
    call: Invocation, *, seconds: float | None = INTERACTIVE_SECONDS, endless: bool = False
) -> Iterator[tuple[RedisDatabase, Profile]]:
    """The chosen connection, and the profile that it is of."""
    with call.runtime(seconds=seconds, endless=endless) as runtime:
        settings: ConnectionSettings = call.settings(runtime, REDIS)
        yield runtime.redis(settings), runtime.profile


def answer_each(
    call: Invocation,
    header: Sequence[str] | Callable[[], Sequence[str]],
    work: Callable[[Cache], Sequence[Sequence[object]]],
    *,
    seconds: float | None = INTERACTIVE_SECONDS,
) -> ExitCode:
    """Prints the rows of `work(cache)` for every connection that is meant; see Invocation.answer_each."""
    from katax_cli.services.cache.cache import Cache

    with call.runtime(seconds=seconds) as runtime:
        return call.answer_each(runtime, REDIS, header, lambda database: work(Cache(database)))


def cell(data: bytes, *, text: bool) -> object:
    """Bytes of the server as they are shown: text; what is none as base64, where the format is JSON (not `text`)."""
    return word(data) if text or is_utf8(data) else {"base64": base64_text(data)}


def word(data: bytes) -> str:
    """A key as it would be typed; bytes that are no text pass through unharmed."""
    return data.decode("utf-8", "surrogateescape")
