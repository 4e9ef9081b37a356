"""Graceful shutdown of anything that holds connections: hooks, then pools, within one deadline."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from katax_cli.core.callables import completed, plain
from katax_cli.core.resilience.shutdown import Shutdown, ShutdownReport, Stage, Step
from katax_cli.core.text.duration import Duration, in_seconds
from katax_cli.profiles.model.model import ShutdownSettings
from katax_cli.services.calls import left_behind
from katax_cli.services.program.closing import closer_of, is_staged, stages_of
from katax_cli.services.program.signals import Terminator

TIMEOUT = ShutdownSettings().timeout
SIGNALS = (signal.SIGTERM, signal.SIGINT)
Hook = Callable[[], object]


class Log(Protocol):
    """The methods that shutdown needs of a logger; katax's and the standard library's have them."""

    def info(self, message: str, /) -> object: ...

    def error(self, message: str, /) -> object: ...


_log: Any = logging.getLogger("katax.shutdown")


class ShutdownController:
    """Ends a target once, whether a signal, another thread or the program itself asks first."""

    def __init__(
        self,
        target: object,
        *,
        timeout: Duration = TIMEOUT,
        on_shutdown: Hook | None = None,
        logger: Log | None = None,
        signals: Iterable[signal.Signals] = SIGNALS,
        reraise: bool = False,
    ) -> None:
        stages_of(target)  # what cannot be shut down is found out now
        if isinstance(target, list | tuple) and len(target) == 1:
            # A container ends once for all callers, in a list of its own too.
            [target] = target
        self._target = target
        self._hooks = [] if on_shutdown is None else [plain(on_shutdown, "on_shutdown")]
        self._timeout = in_seconds(timeout)
        self._log: Log = logger or _log
        self._signals = tuple(signals)
        self._reraise = reraise
        self._shutdown = target.ending if is_staged(target) else Shutdown()

    def execute(self) -> ShutdownReport:
        """Shuts down and says what came of it; called again, or meanwhile, waits for the same report.

        Takes at most the timeout and a moment: what hangs is left behind in its daemon thread and named.
        """
        if not self._shutdown.begin():
            report = self._shutdown.wait()
            assert report is not None
            return report
        _tell(self._log.info, f"shutting down, at most {self._timeout:g} s")
        stages = [*hook_stages(self._hooks), *stages_of(self._target)]
        report = self._shutdown.run(stages, self._timeout, left_behind.start)
        _tell(self._log.info if report.clean else self._log.error, str(report))
        return report

    def is_shutting_down(self) -> bool:
        """True from the moment at which the shutdown began, and after it."""
        return self._shutdown.begun

    def register_signals(self) -> None:
        """From now on the first signal shuts down and ends the process, a second one ends it at once.

        The process exits with 0, or with 1 when something did not finish; with 128 + signal when forced. The
        main thread keeps running while others drain; it is ended by SystemExit. To be called on the main
        thread (ValueError).
        """
        Terminator(
            self.execute,
            unfinished=lambda: self._shutdown.running,
            timeout=self._timeout,
            reraise=self._reraise,
            log=self._log,
        ).register(self._signals)


def _tell(log: Callable[[str], object], message: str) -> None:
    try:
        log(message)
    except Exception:  # noqa: BLE001 - the program's logger; others wait for the report
        _log.exception("the logger of a shutdown failed")


def hook_stages(hooks: Iterable[Hook]) -> list[Stage]:
    """Hooks run one after the other, in the order in which they were added."""
    return [_hook_stage(hook) for hook in hooks]


def _hook_stage(hook: Hook) -> Stage:
    name = getattr(hook, "__qualname__", type(hook).__name__).rpartition("<locals>.")[2]

    def run(_seconds: float) -> Sequence[str]:
        completed(hook(), hook, "on_shutdown")
        return ()

    return lambda: [Step(f"hook {name}", run)]


def graceful_shutdown(
    target: object,
    *,
    timeout: Duration = TIMEOUT,
    on_shutdown: Hook | None = None,
    logger: Log | None = None,
) -> ShutdownReport:
    """Calls the hook, waits for what is in use, closes; at most `timeout` seconds. Raises no error of a step.

    The target is a Katax, a database, a SQLAlchemy engine, any object with dispose() or close(), or a list of
    them. Raises TypeError for anything else.
    """
    return ShutdownController(target, timeout=timeout, on_shutdown=on_shutdown, logger=logger).execute()


def register_shutdown_handlers(
    target: object,
    *,
    signals: Iterable[signal.Signals] = SIGNALS,
    timeout: Duration = TIMEOUT,
    on_shutdown: Hook | None = None,
    logger: Log | None = None,
    reraise: bool = False,
) -> ShutdownController:
    """Shuts down on a signal: hook, then pools, then exit 0; a second signal leaves at once.

    With `reraise` the process ends by the signal itself, which its parent can see, instead of by an exit code.
    """
    controller = ShutdownController(
        target, timeout=timeout, on_shutdown=on_shutdown, logger=logger, signals=signals, reraise=reraise
    )
    controller.register_signals()
    return controller


create_shutdown_controller = ShutdownController
"""The same, to be set off by `execute()` or by `register_signals()`."""


def shutdown_database(database: object) -> None:
    """Closes one database at once, without hooks and without waiting for what is in use."""
    closer_of(database)(0.0)
