"""Answers to clients of an application for katax's errors: what was seen, never by which server or statement."""

from __future__ import annotations

from math import ceil
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from katax_cli.errors import BreakerOpen, OutcomeUnknown, RateLimitExceeded, Unavailable

_UNAVAILABLE = "a service behind this one is not available"
_UNKNOWN = "the request was sent on and not answered: it may have been done or not; look before repeating it"


def error_handlers() -> dict[Any, Any]:
    """Handlers for `FastAPI(exception_handlers=error_handlers())`, and Starlette's, with answers in JSON.

    Unavailable and its kin are 503 with Retry-After, RateLimitExceeded 429 with Retry-After; OutcomeUnknown is 500 and
    says that the work may have been done. No answer holds the name of a server, a statement or a value.
    """
    return {Unavailable: _unavailable, RateLimitExceeded: _limited, OutcomeUnknown: _unknown}


def unavailable(error: Exception) -> JSONResponse:
    """503, with the seconds after which a breaker lets calls through again."""
    later = error.retry_after if isinstance(error, BreakerOpen) else None
    return _answer(503, _UNAVAILABLE, {"Retry-After": whole_seconds(later or 0.0)})


def whole_seconds(seconds: float) -> str:
    """Seconds for Retry-After: whole, rounded up, at least 1."""
    return str(max(ceil(seconds), 1))


async def _unavailable(_request: Request, error: Exception) -> Response:
    return unavailable(error)


async def _limited(_request: Request, error: RateLimitExceeded) -> Response:
    return _answer(429, "too many requests", {"Retry-After": whole_seconds(error.retry_after)})


async def _unknown(_request: Request, _error: Exception) -> Response:
    return _answer(500, _UNKNOWN)


def _answer(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers)
