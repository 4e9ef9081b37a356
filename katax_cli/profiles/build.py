"""Builds a Profile from a checked table, and reports the problems that involve several keys."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from katax_cli.core.engine_names import SQL_ENGINES
from katax_cli.core.settings import ConnectionSettings, Secret
from katax_cli.profiles.model.breakers import breaker_of, inherited
from katax_cli.profiles.model.connections import ConnectionContext, Flaw, build_connection, variants_of
from katax_cli.profiles.model.keys import CONNECTION
from katax_cli.profiles.model.layer import Layer, Path, dotted
from katax_cli.profiles.model.model import (
    BackupSettings,
    CronSettings,
    HealthSettings,
    JournalSettings,
    LoggingSettings,
    MigrateSettings,
    Profile,
    RetrySettings,
    SeedSettings,
    ShutdownSettings,
    StateSettings,
    WsSettings,
)
from katax_cli.profiles.model.problems import Problems, origin_of
from katax_cli.profiles.model.secrets import SecretOrigin, readable_by_everyone, token
from katax_cli.profiles.sources.find import Search

_WORK = ("command", "sql", "python", "katax")
T = TypeVar("T")


class Draft(NamedTuple):
    """The context of a profile besides its table."""

    name: str
    home: str
    source: str | None
    explicit: bool
    layers: tuple[Layer, ...]
    search: Search


def build_profile(
    table: Mapping[str, Any], draft: Draft, problems: Problems, *, notes: list[str]
) -> Profile | None:
    """Returns the profile, or None when something is wrong with it."""
    builder = _ProfileBuilder(table, draft, problems)
    make = builder.make
    connections = builder.connections(notes)
    profile = Profile(
        name=draft.name,
        role=table.get("role", "prod"),
        folder=draft.search.folder,
        home=draft.home,
        source=draft.source,
        connections=connections,
        retry=make(("retry",), RetrySettings),
        breaker=make(("breaker",), breaker_of),
        health=make(("health",), HealthSettings),
        logging=builder.logging(),
        shutdown=make(("shutdown",), ShutdownSettings),
        migrate=builder.migrate(),
        seed=builder.seed(),
        backup=builder.backup(),
        journal=builder.journal(),
        state=builder.state(connections),
        cron=builder.cron(),
        ws=builder.ws(),
        connection_retry=builder.overrides("retry", RetrySettings),
        connection_breaker=builder.overrides("breaker", breaker_of),
        retry_set="attempts" in table.get("retry", {}),
        connection_retry_set=builder.with_own_attempts(),
        explicit=draft.explicit,
        notes=tuple(notes),
        layers=draft.layers,
    )
    return None if problems.stopping else profile


class _ProfileBuilder:
    def __init__(self, table: Mapping[str, Any], draft: Draft, problems: Problems) -> None:
        self._table = table
        self._draft = draft
        self._folder = draft.search.folder
        self._environ = draft.search.environ
        self._problems = problems
        self._variants: dict[str, list[str]] = {}

    def make(self, path: Path, model: Callable[..., T], **defaults: object) -> T:
        """The dataclass of a table; what its constructor refuses is a problem, and the defaults stand in."""
        table: Mapping[str, Any] = self._table
        for part in path:
            table = table.get(part, {})
        try:
            return model(**{**defaults, **table})
        except ValueError as error:
            self._problems.add(path, f"[{dotted(path)}]: {error}")
        return model()

    def migrate(self) -> MigrateSettings:
        made = self.make(("migrate",), MigrateSettings)
        if "connection" in self._table.get("migrate", {}):
            self._check_connection(("migrate", "connection"), made.connection)
        return made._replace(directory=self._absolute(made.directory))

    def seed(self) -> SeedSettings:
        made = self.make(("seed",), SeedSettings)
        return made._replace(directory=self._absolute(made.directory))

    def backup(self) -> BackupSettings:
        made = self.make(("backup",), BackupSettings)
        directory = made.directory if "://" in made.directory else self._absolute(made.directory)
        tools = None if made.tools is None else self._absolute(made.tools)
        return made._replace(
            directory=directory,
            tools=tools,
            smoke=tuple(made.smoke),
            recipients=tuple(made.recipients),
            identity=self._identity(),
        )

    def _identity(self) -> Secret | None:
        said = self._table.get("backup", {}).get("identity")
        if said is None:
            return None
        return token(said, SecretOrigin("[backup] identity", self._folder, environ=self._environ))

    def journal(self) -> JournalSettings:
        made = self.make(("journal",), JournalSettings)
        return (
            made if made.file is None else made._replace(file=self._absolute(os.path.expanduser(made.file)))
        )

    def _absolute(self, path: str) -> str:
        return os.path.normpath(os.path.join(self._folder, path))

    def connections(self, notes: list[str]) -> dict[str, ConnectionSettings]:
        role = self._table.get("role")
        context = ConnectionContext(self._folder, environ=self._environ, read_only=role == "frozen")
        made = {}
        for name, table in self._table.get("connections", {}).items():
            path = ("connections", name)
            if self._is_incomplete(path):
                continue
            try:
                made[name] = build_connection(name, table, context, needs_approval=self._approval(path))
                self._variants[name] = [each.name for each in variants_of(made[name])]
                _note_ignored(variants_of(made[name]), notes)
            except Flaw as flaw:
                at = (*path, flaw.key) if flaw.key else path
                self._problems.add(at, f"{dotted(at)} {flaw}")
            self._note_readable(name, table, notes)
        return made

    def _is_incomplete(self, path: Path) -> bool:
        """True if a key was dropped as wrong: what is missing then is no further problem."""
        start = f"{dotted(path)}."
        keys = (
            error.key.removeprefix(start) for error in self._problems.errors if error.key.startswith(start)
        )
        return any(key.partition(".")[0] in CONNECTION for key in keys)

    def _approval(self, path: Path) -> str | None:
        """The project file whose commands need approval; the user's own folder needs none."""
        layer = origin_of(self._draft.layers, path)
        file = layer.file if layer else None
        own = file is not None and file.startswith(os.path.join(self._draft.search.user.folder, ""))
        return None if own else file

    def _note_readable(self, name: str, table: Mapping[str, Any], notes: list[str]) -> None:
        if "password_file" in table:
            path = self._absolute(table["password_file"])
            if readable_by_everyone(path):
                notes.append(f"password_file of {name!r} is readable by everyone; run: chmod 600 {path}")

    def overrides(self, key: str, model: Callable[..., T]) -> dict[str, T]:
        """The settings in which connections differ from the profile's [retry] or [breaker], with their variants."""
        made: dict[str, T] = {}
        for name, table in self._table.get("connections", {}).items():
            if key in table:
                shared = self._table.get(key, {})
                taken = inherited(shared, table[key]) if key == "breaker" else shared
                policy = self.make(("connections", name, key), model, **taken)
                made.update(dict.fromkeys(self._variants.get(name, (name,)), policy))
        return made

    def with_own_attempts(self) -> frozenset[str]:
        """The connections whose own [retry] says how many attempts, their variants included."""
        tables = self._table.get("connections", {}).items()
        names = [name for name, table in tables if "attempts" in table.get("retry", {})]
        return frozenset(variant for name in names for variant in self._variants.get(name, (name,)))

    def logging(self) -> LoggingSettings:
        role = self._table.get("role")
        defaults = {"queries": "all"} if role == "dev" else {}
        made = self.make(("logging",), LoggingSettings, **defaults)
        if made.query_params == "plain" and role != "dev":
            self._problems.add(
                ("logging", "query_params"),
                f"logging.query_params is 'plain' in the role {role}, expected 'redacted'",
                "only dev may log parameters",
            )
        return made

    def state(self, connections: Mapping[str, ConnectionSettings]) -> StateSettings:
        default = StateSettings(
            ConnectionSettings(name="state", type="sqlite", path=os.path.join(self._draft.home, "state.db"))
        )
        url = self._table.get("state", {}).get("url")
        if url is None:
            return default
        name = None if ":" in url else url
        context = ConnectionContext(self._folder, environ=self._environ)
        try:
            made = build_connection("state", {"url": url}, context) if name is None else connections.get(url)
        except Flaw as flaw:
            self._problems.add(("state", "url"), f"state.url {flaw}")
            return default
        if name is not None:
            self._check_connection(("state", "url"), name)
        return StateSettings(self._usable(made), name) if made else default

    def _usable(self, made: ConnectionSettings) -> ConnectionSettings:
        if made.type not in SQL_ENGINES or made.read_only:
            seen = "read-only" if made.read_only else f"a {made.type} connection"
            self._problems.add(("state", "url"), f"state.url is {seen}, expected a SQL database to write to")
        return made

    def _check_connection(self, path: Path, name: str) -> None:
        known = self._table.get("connections", {})
        if name not in known:
            names = ", ".join(known) or "none"
            self._problems.add(path, f"{dotted(path)} names no connection", f"connections: {names}")

    def cron(self) -> CronSettings:
        for name, job in self._table.get("cron", {}).get("jobs", {}).items():
            path = ("cron", "jobs", name)
            work = [key for key in _WORK if key in job]
            if len(work) != 1:
                seen = " and ".join(work) or "nothing to run"
                self._problems.add(path, f"job {name!r} has {seen}, expected one of {', '.join(_WORK)}")
            if "connection" in job:
                self._check_connection((*path, "connection"), job["connection"])
        made = self.make(("cron",), CronSettings)
        wrong = dict(self._wrong_jobs())
        return made._replace(
            jobs={name: job for name, job in made.jobs.items() if name not in wrong}, wrong=wrong
        )

    def _wrong_jobs(self) -> Iterator[tuple[str, str]]:
        written = {name for layer in self._draft.layers for name in _job_names(layer.table)}
        for name in sorted(written):
            key = dotted(("cron", "jobs", name))
            for problem in self._problems.errors:
                if problem.key == key or problem.key.startswith(f"{key}."):
                    yield name, str(problem)
                    break

    def ws(self) -> dict[str, WsSettings]:
        made = {}
        for name, table in self._table.get("ws", {}).items():
            path = ("ws", name)
            if not 0 <= table.get("port", 0) < 65536:
                self._problems.add((*path, "port"), f"ws.{name}.port is {table['port']}, expected 0 to 65535")
            if "redis" in table:
                self._check_connection((*path, "redis"), table["redis"])
            made[name] = WsSettings(name, **{**table, **self._tokens(name, table)})
        return made

    def _tokens(self, name: str, table: Mapping[str, Any]) -> dict[str, Any]:
        return {
            key: token(table[key], SecretOrigin(f"{key} of ws {name!r}", self._folder, environ=self._environ))
            for key in ("auth_token", "admin_token")
            if key in table
        }


def _job_names(table: Mapping[str, Any]) -> Iterable[str]:
    cron = table.get("cron")
    jobs = cron.get("jobs") if isinstance(cron, dict) else None
    return jobs if isinstance(jobs, dict) else ()


def _note_ignored(variants: Iterable[ConnectionSettings], notes: list[str]) -> None:
    """Names the parameters of other tools in the URLs of a connection."""
    for settings in variants:
        if settings.ignored:
            names = ", ".join(settings.ignored)
            notes.append(f"the url of {settings.name!r} has {names}, which katax does not read")
