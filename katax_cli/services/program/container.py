"""`Katax`: everything that a program needs of its data services, made when it is asked for, closed together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from katax_cli.core.callables import plain
from katax_cli.core.forks import follow
from katax_cli.core.resilience.shutdown import ShutdownReport, Stage, Step
from katax_cli.core.settings import Secret
from katax_cli.core.text.duration import Duration, in_seconds
from katax_cli.errors import ConfigError
from katax_cli.profiles.load import load_profile, profile_of
from katax_cli.profiles.model.model import Profile
from katax_cli.services.program.closing import step_for
from katax_cli.services.program.config import Config
from katax_cli.services.program.databases import DEFAULT, shut_down
from katax_cli.services.program.lifecycle import Lifecycle
from katax_cli.services.program.shutdown import Hook, ShutdownController, hook_stages

if TYPE_CHECKING:
    from katax_cli.core.schedule.schedule import Schedule
    from katax_cli.services.cron.definition.jobs import Miss, Overlap
    from katax_cli.services.program.cron import ProgramCron
    from katax_cli.services.program.logger import Logger
    from katax_cli.services.program.sockets import SocketServers
    from katax_cli.services.state.reporter import Reporter
    from katax_cli.services.ws.server import MayJoin, Sockets
    from katax_cli.snapshot import JobStatus

H = TypeVar("H", bound=Hook)


T = TypeVar("T")


class Katax(Lifecycle):
    """The services of one profile; thread-safe. Connects nowhere until a database is used.

    `profile` is a profile's name, or the profile that is meant without one (`katax profile list` shows it);
    `config` is a profile as a mapping, with the keys of its file, and no file is read then (docs/container.md).
    Raises ConfigError when there is no such profile, several and none chosen, or no configuration at all: the
    built-in profile is `Katax("local")`; also for a key of `config` that is wrong, and for both at once.
    """

    _instance: ClassVar[Katax | None] = None
    _instance_lock: ClassVar[threading.RLock] = threading.RLock()

    def __init__(
        self, profile: str | Profile | None = None, *, config: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(_profile_of(profile, config))
        self._hooks: list[Hook] = []
        self._reporter: Reporter | None = None
        follow(self)

    @classmethod
    def get_instance(cls) -> Katax:
        """The one container of this process, made at the first call."""
        with cls._instance_lock:
            if cls._instance is None:
                cls._instance = cls()
            return cls._instance

    @classmethod
    def reset(cls) -> None:
        """Shuts that container down and forgets it; the next `get_instance` makes a new one."""
        with cls._instance_lock:
            instance, cls._instance = cls._instance, None
        if instance is not None:
            instance.shutdown()

    def cron(
        self,
        name: str,
        schedule: str,
        task: Callable[[], object],
        *,
        enabled: bool | Callable[[], bool] = True,
        run_on_init: bool = False,
        timezone: str | None = None,
        timeout: Duration | None = None,
        on_overlap: Overlap = "skip",
        on_miss: Miss = "once",
        retries: int = 0,
        jitter: Duration = 0.0,
        start_deadline: Duration = 60.0,
    ) -> None:
        """Runs `task` on a schedule, in a named thread of this process; see docs/cron.md.

        `timezone` is the profile's, else this machine's; a callable `enabled` is asked at each occurrence. Raises
        ConfigError for a name in use or a schedule that is none.
        """
        from katax_cli.services.cron.definition.jobs import Callback, Job

        plain(task, f"job {name!r}")
        if callable(enabled):
            plain(enabled, f"'enabled' of job {name!r}")
        zone = timezone or self._cron.zone
        job = Job(
            name=name,
            schedule=_schedule(name, schedule, zone),
            work=Callback(task),
            source="program",
            enabled=enabled,
            timezone=zone,
            timeout=None if timeout is None else in_seconds(timeout),
            on_overlap=on_overlap,
            on_miss=on_miss,
            retries=retries,
            jitter=in_seconds(jitter),
            start_deadline=in_seconds(start_deadline),
        )
        self._cron.add(job, run_on_init=run_on_init)

    def cron_jobs(self) -> list[JobStatus]:
        """The jobs of this program."""
        return self._cron.jobs()

    def cron_remove(self, name: str) -> None:
        """Forgets a job; what runs of it goes on. Raises ConfigError for an unknown one."""
        self._cron.remove(name)

    def cron_enable(self, name: str) -> None:
        """Lets a job run again. Raises ConfigError for an unknown one."""
        self._cron.switch(name, on=True)

    def cron_disable(self, name: str) -> None:
        """Keeps a job from running. Raises ConfigError for an unknown one."""
        self._cron.switch(name, on=False)

    def cron_run(self, name: str) -> None:
        """Starts a job now, beside its schedule. Raises ConfigError for an unknown one."""
        self._cron.run(name)

    def _jobs(self) -> Sequence[JobStatus]:
        return self.cron_jobs() if "_cron" in self.__dict__ else ()

    @cached_property
    def _cron(self) -> ProgramCron:
        from katax_cli.services.program.cron import ProgramCron

        return self.register(ProgramCron(self.profile))

    @cached_property
    def config(self) -> Config:
        """`config.set` > environment > .env > [tool.katax] of pyproject.toml > default."""
        return Config(self.profile.folder)

    @cached_property
    def logger(self) -> Logger:
        """JSON lines on stdout, unless the program configured logging itself."""
        from katax_cli.services.program.logger import Logger

        return Logger(level=self.profile.logging.level, secrets=self.secrets)

    def socket(
        self,
        name: str = DEFAULT,
        port: int | None = None,
        path: str | None = None,
        host: str | None = None,
        *,
        redis: str | None = None,
        auth_token: str | None = None,
        cors: Sequence[str] | None = None,
        may_join: MayJoin | None = None,
    ) -> Sockets:
        """The Socket.IO server of this name, the same object every time; listens when this returns.

        What is not given is the profile's `[ws.NAME]`, else port 3001, path /socket.io, host 127.0.0.1. `redis`
        is the connection that joins servers of one name; `may_join(client, room)` lets clients into rooms. Log
        entries with `broadcast=True` go to all sockets as event `log`. Raises ConnectionConflict when the name
        is in use with another configuration, ConfigError when the port is, Refused beyond loopback without a
        token, Unavailable when Redis is.
        """
        if self.is_overridden(name):
            server: Sockets = self.stand_in(name)
            return server
        given = {
            "port": port,
            "path": path or None,
            "host": host or None,
            "redis": redis or None,
            "auth_token": None if auth_token is None else Secret.of(auth_token),
            "cors": None if cors is None else tuple(cors),
        }
        return self._sockets.open(name, given, may_join)

    @cached_property
    def _sockets(self) -> SocketServers:
        from katax_cli.services.program.sockets import SocketServers

        return SocketServers(self.profile, lambda alias: self.cache(alias).redis, self.register, self.logger)

    def report(self, kind: str) -> None:
        """Takes part in the shared state as `kind` until the shutdown.

        Pools, circuits and calls of this program show in the dashboard, and it follows what operators decide.
        The first `kind` stays. Raises Unavailable after the shutdown, and nothing because of the state database.
        """
        with self._lock:
            if self._closed:
                raise shut_down(kind)
            if self._reporter is None:
                from katax_cli.services.state.reporter import report
                from katax_cli.services.ws.report import SocketReport

                self._reporter = self.register(report(self._runtime, kind))
                self._reporter.tell("sockets", SocketReport(self._running_sockets))

    def _running_sockets(self) -> Sequence[Sockets]:
        return self._sockets.running() if "_sockets" in self.__dict__ else ()

    def env(self, key: str, default: T | None = None) -> Any:
        """The value of `config`, where the environment comes first; as `config.get`."""
        return self.config.get(key, default)

    def env_required(self, key: str, type: type[T] = str) -> T:  # type: ignore[assignment]
        """The same, as a value of `type`. Raises ConfigError when it is not set, is empty, or is no such value."""
        return self.config.required(key, type)

    def on_shutdown(self, hook: H) -> H:
        """Calls `hook` first of all when shutting down, in the order in which hooks were added. Returns it."""
        plain(hook, "on_shutdown()")
        with self._lock:
            self._hooks.append(hook)
        return hook

    def shutdown(self, timeout: Duration | None = None) -> ShutdownReport:
        """Hooks, then services, then databases, within `timeout` seconds (the profile's, 30.0 by default).

        Waits for what is in use, leaves behind what hangs, and says so in the report. May be repeated and
        called by several threads: all get the same report.
        """
        seconds = self.profile.shutdown.timeout if timeout is None else timeout
        return ShutdownController(self, timeout=seconds).execute()

    def shutdown_stages(self) -> Sequence[Stage]:
        """The order of the shutdown, for those who run it; see `services.shutdown`."""
        return [*hook_stages(self._hooks), self._end_services, self._end_databases]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.shutdown()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()

    def __repr__(self) -> str:
        return f"<Katax {self.profile.name!r}: {', '.join(self._opened) or 'nothing open'}>"

    def _end_services(self) -> list[Step]:
        return [step_for(service) for service in reversed(self._services)]

    def _end_databases(self) -> list[Step]:
        with self._lock:
            self._closed = True
            return [step_for(database) for _, database in self._opened.values()]


def _schedule(job: str, text: str, zone: str) -> Schedule:
    from katax_cli.core.schedule.schedule import parse_schedule

    try:
        return parse_schedule(text, zone)
    except ValueError as error:
        raise ConfigError(f"job {job!r}: {error}") from error


def _profile_of(profile: str | Profile | None, config: Mapping[str, Any] | None) -> Profile:
    """The profile of this name or of this table, or the one that is meant; never the built-in one by default.

    A program whose configuration is missing would work on an empty file.
    """
    if config is not None:
        if profile is not None:
            raise ConfigError("a container takes a profile or a config, not both; leave one out")
        return profile_of(config)
    if isinstance(profile, Profile):
        return profile
    loaded = load_profile(profile)
    if loaded.name == "local" and not loaded.explicit:
        raise ConfigError(
            "no configuration found for Katax(); write a profile ('katax profile init'), set DATABASE_URL, "
            "use Katax(config={…}) or Katax('local')"
        )
    return loaded
