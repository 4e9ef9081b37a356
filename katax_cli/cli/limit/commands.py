"""`katax limit`: rate limits by hand, and for shell scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.options import limit, one_of
from katax_cli.cli.shell.redis import REDIS
from katax_cli.cli.shell.scope import scope

if TYPE_CHECKING:
    from katax_cli.services.redis.limits import Decision, RateLimiter

group = Group()

# Repeated from services.limits, which is imported only when a limit is asked; a test compares them.
ALGORITHMS = ("fixed", "sliding", "gcra")
ON_ERROR = ("open", "closed")

Key = Annotated[str, typer.Argument(help="Key of the limit, such as api:42.")]
Max = Annotated[int, typer.Option("--max", min=1, help="Maximum in one window.")]
Window = Annotated[str, typer.Option("--window", metavar="DURATION", help="Length of the window.")]
Algorithm = Annotated[
    str, typer.Option("--algorithm", callback=one_of("algorithm", ALGORITHMS), help="fixed|sliding|gcra.")
]
OnError = Annotated[
    str | None,
    typer.Option("--on-error", metavar="open|closed", help="Answer when Redis cannot be asked; else exit 3."),
]


@group.command("check")
def check(
    call: Invocation,
    key: Key,
    max: Max = 100,
    window: Window = "60s",
    algorithm: Algorithm = "fixed",
    peek: Annotated[bool, typer.Option("--peek", help="Consume nothing.")] = False,
    on_error: OnError = None,
) -> ExitCode:
    """Consume one unit if the limit allows it; exit 1 when it does not."""
    with scope(call, REDIS) as chosen:
        limiter = _limiter(chosen.redis, max, window, algorithm, on_error)
        return _answer(call, limiter.peek(key) if peek or call.shared.dry_run else limiter.check(key))


@group.command("consume")
def consume(
    call: Invocation,
    key: Key,
    n: Annotated[int, typer.Argument(min=1, help="Number of units.")] = 1,
    max: Max = 100,
    window: Window = "60s",
    algorithm: Algorithm = "fixed",
    on_error: OnError = None,
) -> ExitCode:
    """Consume N units, all or none; exit 1 when they exceed the limit."""
    with scope(call, REDIS) as chosen:
        limiter = _limiter(chosen.redis, max, window, algorithm, on_error)
        return _answer(call, limiter.peek(key) if call.shared.dry_run else limiter.take(key, n))


@group.command("reset")
def reset(call: Invocation, key: Key) -> ExitCode:
    """Reset a limit to unused; exit 1 when it was unused."""
    from katax_cli.core.roles import Tier
    from katax_cli.services.redis.limits import RateLimiter

    if call.only_planned(key=key, reset=False):
        return ExitCode.DONE
    with scope(call, REDIS) as chosen:
        chosen.confirm(Tier.DISRUPTIVE, f"reset the limit of {key!r}")
        done = RateLimiter(chosen.redis).reset(key)
    call.out.action({"key": key, "reset": done})
    return ExitCode.DONE if done else ExitCode.NO


def _limiter(database: Any, max: int, window: str, algorithm: Any, on_error: Any) -> RateLimiter:
    from katax_cli.services.redis.limits import RateLimiter

    if on_error is not None:
        one_of("answer for --on-error", ON_ERROR)(on_error)
    return RateLimiter(database, max, limit(window), algorithm=algorithm, on_error=on_error)


def _answer(call: Invocation, decision: Decision) -> ExitCode:
    call.out.action(
        {
            "allowed": decision.allowed,
            "limit": decision.limit,
            "remaining": decision.remaining,
            "reset_at": decision.reset_time.isoformat(timespec="milliseconds"),
            "retry_after_seconds": round(decision.retry_after, 3),
        }
    )
    return ExitCode.DONE if decision.allowed else ExitCode.NO
