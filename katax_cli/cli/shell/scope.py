"""The scope of a command, resolved once: the connections that its options mean, and where it asks and answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from katax_cli.cli.shell.exits import ExitCode, worst
from katax_cli.cli.shell.invocation import INTERACTIVE_SECONDS, Invocation
from katax_cli.cli.shell.output import PLAIN, Manner
from katax_cli.cli.shell.target import Target as Target
from katax_cli.errors import ConfigError, WrongEngine

if TYPE_CHECKING:
    from katax_cli.core.roles import Tier
    from katax_cli.core.settings import ConnectionSettings
    from katax_cli.profiles.model.model import Profile
    from katax_cli.services.databases.clients import RedisDatabase
    from katax_cli.services.databases.database import Database
    from katax_cli.services.databases.mongodb import MongoDatabase
    from katax_cli.services.databases.sql import SqlDatabase
    from katax_cli.services.runtime.runtime import Runtime


class Scope(NamedTuple):
    """The invocation, the services on its profile, and the connections that it is for."""

    call: Invocation
    runtime: Runtime
    settings: tuple[ConnectionSettings, ...]

    @property
    def profile(self) -> Profile:
        return self.runtime.profile

    @property
    def one(self) -> ConnectionSettings:
        """The one connection. Raises ConfigError when there are several."""
        if len(self.settings) > 1:
            names, words = ", ".join(settings.name for settings in self.settings), self.call.connections
            asked = f"{', '.join(map(repr, words))} {'matches' if len(words) == 1 else 'match'}"
            raise ConfigError(f"{asked} {names}; {self.call.command!r} works on one connection")
        return self.settings[0]

    @property
    def sql(self) -> SqlDatabase:
        """The one database, of an SQL engine."""
        return self.runtime.sql(self.one)

    @property
    def redis(self) -> RedisDatabase:
        """The one database, of Redis."""
        return self.runtime.redis(self.one)

    @property
    def documents(self) -> MongoDatabase:
        """The one database, of MongoDB."""
        return self.runtime.documents(self.one)

    @property
    def tabular(self) -> SqlDatabase | MongoDatabase:
        """The one database, of an engine that has tables or collections."""
        return self.runtime.tabular(self.one)

    @property
    def databases(self) -> list[Database]:
        """The databases of all connections."""
        return [self.runtime.open(settings) for settings in self.settings]

    def each(
        self, work: Callable[[Any], Any], *, in_turn: bool = False
    ) -> Iterator[tuple[ConnectionSettings, Any]]:
        """`work(database)` on every connection, in parallel; see Runtime.each.

        `in_turn`: one after the other on this thread, for work that asks the person at the terminal.
        """
        return self._in_turn(work) if in_turn else self.runtime.each(self.settings, work)

    def _in_turn(self, work: Callable[[Any], Any]) -> Iterator[tuple[ConnectionSettings, Any]]:
        for settings in self.settings:
            result: Any
            try:
                result = work(self.runtime.open(settings))
            except Exception as error:  # noqa: BLE001 - a value, as of Runtime.each: it costs its own rows only
                result = error
            yield settings, result

    def answer_each(
        self,
        header: Sequence[str] | Callable[[], Sequence[str]],
        work: Callable[[Any], Sequence[Sequence[object]]],
        *,
        named: bool = False,
        manner: Manner = PLAIN,
        in_turn: bool = False,
    ) -> ExitCode:
        """Prints the rows of `work(database)` for every connection, run in parallel or `in_turn`.

        With a pattern each row says which connection it is from (unless the rows are `named` already). A
        connection that fails costs its own rows: its error goes to stderr and into the exit code.
        """
        rows: list[Sequence[object]] = []
        codes: list[ExitCode] = []
        labelled = self.call.is_glob and not named
        for settings, result in self.each(work, in_turn=in_turn):
            if not isinstance(result, BaseException):
                rows += [(settings.name, *row) for row in result] if labelled else result
            elif self.call.is_glob:
                codes.append(self.call.diagnostics.failure(result))
            else:
                raise result
        columns = header() if callable(header) else header
        if labelled and manner.brief:
            manner = manner._replace(brief=("connection", *manner.brief))
        self.call.out.rows(("connection", *columns) if labelled else columns, [rows], manner)
        return worst(codes)

    def confirm(
        self, tier: Tier, what: str, *, of: ConnectionSettings | None = None, typed: bool = False
    ) -> None:
        """Returns when the change of one connection may be made; see `confirm`. Raises Refused."""
        from katax_cli.cli.shell.confirm import confirm

        confirm(self.call, self.profile, of or self.one, tier, what, typed=typed)


@contextmanager
def scope(
    call: Invocation,
    target: Target | Callable[[Profile], Target],
    *,
    seconds: float | None = INTERACTIVE_SECONDS,
    probing: bool = False,
    endless: bool = False,
    named: bool = False,
) -> Iterator[Scope]:
    """The connections that `-c` names or matches, else the default, checked to be of a fitting type.

    For the limits see `Invocation.runtime`. `named`: raises Refused on a built-in profile unless it was named.
    """
    with call.runtime(seconds=seconds, probing=probing, endless=endless) as runtime:
        if named:
            _refuse_unnamed(call, runtime.profile)
        wanted = target if isinstance(target, Target) else target(runtime.profile)
        yield Scope(call, runtime, tuple(_fitting(call, runtime.profile, wanted)))


@contextmanager
def probing_scope(
    call: Invocation,
    patterns: Sequence[str] = (),
    *,
    profile: str | None = None,
    endless: bool = True,
    named: bool = False,
) -> Iterator[Scope]:
    """The connections that patterns and `-c` name or match, in the profile's order, to be probed; none given: all."""
    with call.runtime(probing=True, endless=endless, profile=profile) as runtime:
        if named:
            _refuse_unnamed(call, runtime.profile)
        wanted = [*patterns, *call.connections]
        matching = {settings.name for pattern in wanted for settings in runtime.profile.match(pattern)}
        every = runtime.profile.connections.values()
        chosen = [one for one in every if (one.name in matching if wanted else _is_there(call, one))]
        yield Scope(call, runtime, tuple(chosen))


def _refuse_unnamed(call: Invocation, profile: Profile) -> None:
    from katax_cli.cli.shell.confirm import refuse_unnamed

    refuse_unnamed(call, profile)


def _fitting(call: Invocation, profile: Profile, target: Target) -> Sequence[ConnectionSettings]:
    matches = [profile.match(pattern) for pattern in call.connections] or [
        [profile.default_connection(target.types, target.preferred)]
    ]
    chosen: dict[str, ConnectionSettings] = {}
    for matching in matches:
        fitting = {settings.name: settings for settings in matching if settings.type in target.types}
        if not fitting:
            kind = matching[0].type
            instead = target.instead.get(kind)
            raise WrongEngine(
                kind, target.lacks, wanted_by=call.command, works_on=target.types, instead=instead
            )
        chosen |= fitting
    return list(chosen.values())


def _is_there(call: Invocation, settings: ConnectionSettings) -> bool:
    """False, with a note, for an embedded server on a machine that has none to embed."""
    if not settings.embedded:
        return True
    from katax_cli.services.redis.embedded import available

    if not available():
        call.diagnostics.note(
            f"{settings.name!r} is left out: there is no redis-server to embed; "
            "pip install 'katax[embedded]', or install Redis"
        )
        return False
    return True
