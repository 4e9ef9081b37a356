"""The life of a container between its making and its end: hooks that run once, readiness, what it holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from katax_cli.core.callables import completed, plain
from katax_cli.core.clock import SYSTEM
from katax_cli.core.forks import follow
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.resilience.shutdown import Shutdown
from katax_cli.core.text.duration import Duration, in_seconds
from katax_cli.core.waiting import SharedEvent
from katax_cli.errors import ConfigError, Unavailable
from katax_cli.profiles.model.model import Profile
from katax_cli.services.databases.database import Database
from katax_cli.services.program.redis_services import RedisServices

if TYPE_CHECKING:
    from katax_cli.services.program.inventory import ConnectionInfo, ContainerHealth, ContainerInfo
    from katax_cli.snapshot import JobStatus

StartHook = Callable[[], object]
G = TypeVar("G", bound=StartHook)
PROBE_SECONDS = 5.0
WAIT_SECONDS = 30.0
_PAUSE_SECONDS = 0.25


class Phase:
    """Hooks that run once, in the order in which they were added, for the first caller; the others wait for it.

    A hook that fails is raised to every caller, and the hooks after it do not run. One that calls `run` itself does
    not wait for its own end.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._hooks: list[StartHook] = []
        self._begun = False
        self._ended = SharedEvent()
        self._failed: BaseException | None = None
        self._lock = Lock()
        follow(self)

    def after_fork(self) -> None:
        self._lock = Lock()

    @property
    def is_over(self) -> bool:
        """True once all hooks returned."""
        return self._ended.is_set() and self._failed is None

    def add(self, hook: StartHook) -> None:
        """Adds a hook. Raises TypeError for a coroutine function, ConfigError once hooks have begun to run."""
        plain(hook, f"{self._name}()")
        with self._lock:
            if self._begun:
                raise ConfigError(
                    f"{self._name}() comes too late for this hook: its phase has begun; add it before"
                )
            self._hooks.append(hook)

    def run(self) -> None:
        """Runs the hooks unless they ran. Raises what a hook raises."""
        # What a hook has begun inherits this, and may live on.
        if self in _phases.get() and not self._ended.is_set():
            return
        with self._lock:
            is_first, self._begun = not self._begun, True
        if is_first:
            self._run_hooks()
            return
        self._ended.wait()
        if self._failed is not None:
            raise self._failed

    def _run_hooks(self) -> None:
        token = _phases.set((*_phases.get(), self))
        try:
            for hook in self._hooks:
                value: Any = hook()
                completed(value, hook, f"{self._name}()")
        except BaseException as error:
            # An interrupt is the first caller's alone.
            interrupted = ConfigError(f"the hooks of {self._name}() were interrupted; make a new container")
            self._failed = error if isinstance(error, Exception) else interrupted
            raise
        finally:
            _phases.reset(token)
            self._ended.set()


_phases: ContextVar[tuple[Phase, ...]] = ContextVar("katax_phases", default=())
"""Those whose hooks run now and make this call."""


class Lifecycle(RedisServices):
    """Starts, waits until its servers answer, and says how they are."""

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile)
        self._starting = Phase("on_start")
        self._getting_ready = Phase("on_ready")
        self.ending = Shutdown()

    def health_check(self, *names: str, timeout: Duration = PROBE_SECONDS) -> ContainerHealth:
        """Probes these connections, by default all of the profile and of the program, and the registered services.

        All at the same time, within `timeout` seconds and a moment, past the breakers; failures are in the result.
        A registered service is asked if it has `health_check()`: True or None is healthy. Raises UnknownConnection,
        Unavailable after the shutdown.
        """
        from katax_cli.services.program.inventory import checked

        found: dict[str, Any] = {name: self.database(name) for name in names or self._names()}
        others = [one for one in found.values() if not isinstance(one, Database)]
        databases = {name: one for name, one in found.items() if isinstance(one, Database)}
        services = [] if names else list(reversed(self._services))
        databases.update({one.name: one for one in services if isinstance(one, Database)})
        return checked(
            self.profile.name,
            databases,
            [*others, *services],
            policy=self.profile.health,
            seconds=in_seconds(timeout),
        )

    def info(self) -> ContainerInfo:
        """The connections with pools and breakers, the services and the jobs that are held now; asks no server."""
        from katax_cli.services.program.inventory import ContainerInfo, name_of

        return ContainerInfo(
            profile=self.profile.name,
            role=self.profile.role,
            started=self._starting.is_over,
            ready=self._getting_ready.is_over,
            shutting_down=self.ending.begun,
            connections={name: self._connection_info(name) for name in self._names()},
            services=tuple(name_of(service) for service in reversed(self._services)),
            jobs=tuple(self._jobs()),
        )

    def _names(self) -> list[str]:
        """The connections of the profile, and those that the program brought."""
        return list(dict.fromkeys([*self.profile.connections, *self._opened, *self._overrides]))

    def _connection_info(self, name: str) -> ConnectionInfo:
        from katax_cli.services.program.inventory import connection_info

        if self.is_overridden(name):
            return connection_info(self.stand_in(name), replaced=True)
        settings, opened = self._opened.get(name, (self.profile.connections.get(name), None))
        return connection_info(opened or settings, replaced=False)

    def on_start(self, hook: G) -> G:
        """Calls `hook` when the container starts: at the beginning of its `with` block, or of `start`. Returns it.

        Raises ConfigError once the container has started.
        """
        self._starting.add(hook)
        return hook

    def on_ready(self, hook: G) -> G:
        """Calls `hook` at the end of the first `wait` whose servers all answered. Returns it.

        Raises ConfigError when that was before.
        """
        self._getting_ready.add(hook)
        return hook

    def start(self) -> None:
        """Calls the hooks of `on_start`, once, in their order; connects nowhere. Raises what a hook raises."""
        self._starting.run()

    def wait(self, *names: str, timeout: Duration = WAIT_SECONDS) -> ContainerHealth:
        """Starts, waits until all of `health_check(*names)` answer, calls the hooks of `on_ready`, once.

        Servers may come up meanwhile; a degraded one has answered. Raises Unavailable with what is missing after
        `timeout` seconds, UnknownConnection at once, and what a hook raises.
        """
        self.start()
        seconds = in_seconds(timeout)
        deadline = Deadline(seconds)
        while True:
            health = self.health_check(*names, timeout=min(PROBE_SECONDS, max(deadline.remaining(), 0.05)))
            if health.status != "unhealthy":
                break
            if deadline.remaining() <= _PAUSE_SECONDS:
                raise Unavailable(
                    self.profile.name, f"not ready after {seconds:g} s: {'; '.join(health.errors)}"
                )
            SYSTEM.sleep(_PAUSE_SECONDS)
        self._getting_ready.run()
        return health

    def _jobs(self) -> Sequence[JobStatus]:
        """The jobs of the program."""
        return ()
