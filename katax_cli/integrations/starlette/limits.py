"""Rate limits on routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from ipaddress import IPv6Address, ip_address, ip_network
from math import ceil
from weakref import WeakKeyDictionary

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from katax_cli.aio.container import AsyncKatax
from katax_cli.aio.redis_services import AsyncRateLimiter
from katax_cli.core.callables import plain
from katax_cli.core.clock import SYSTEM
from katax_cli.core.text.duration import Duration, in_seconds
from katax_cli.integrations.starlette.errors import whole_seconds
from katax_cli.integrations.starlette.lifespan import current_katax
from katax_cli.services.redis.limits import DEFAULT_MAX, DEFAULT_WINDOW, Algorithm, Decision, OnError

LimitKey = Callable[[Request], str]


def client_address(request: Request) -> str:
    """The client's address as the server sees it; of IPv6 the first 64 bits, which one client has for itself.

    Behind a proxy it is the proxy's, unless the server is told to trust its header (`uvicorn --forwarded-allow-ips`).
    """
    host = request.client.host if request.client else ""
    try:
        address = ip_address(host)
    except ValueError:
        return host or "-"
    if not isinstance(address, IPv6Address):
        return host
    return str(address.ipv4_mapped or ip_network((int(address), 64), strict=False))


class RateLimit:
    """At most `max` requests in `window` seconds for each key; a dependency of FastAPI: `Depends(limit)`.

    Limits of one `name` count together, also those of other processes. `key` is a function from the request to text,
    by default the client's address. Answers carry `RateLimit-Policy` and `RateLimit`; what is refused is 429 with
    `Retry-After`. `on_error` says what counts when the Redis connection `redis` cannot be asked: "open" allows,
    "closed" refuses; without it Unavailable is raised, which `error_handlers` makes 503. `timeout`
    is seconds for asking it; without it each answer is waited for 2 s at most. Raises ValueError for a
    maximum, window or algorithm that cannot be, at the first request.
    """

    def __init__(
        self,
        name: str,
        *,
        max: int = DEFAULT_MAX,
        window: Duration = DEFAULT_WINDOW,
        key: LimitKey = client_address,
        algorithm: Algorithm = "fixed",
        on_error: OnError | None = None,
        redis: str = "redis",
        timeout: Duration | None = None,
    ) -> None:
        self.name = name
        self._max = max
        self._window = in_seconds(window)
        self._key = plain(key, "key")
        self._algorithm = algorithm
        self._on_error = on_error
        self._redis = redis
        self._timeout = None if timeout is None else in_seconds(timeout)
        self._limiters: WeakKeyDictionary[AsyncKatax, AsyncRateLimiter] = WeakKeyDictionary()

    async def __call__(self, request: Request, response: Response) -> Decision:
        """Takes one and writes the headers to `response`; raises HTTPException 429 when it does not fit."""
        decision = await self._limiter(current_katax(request)).check(
            self._key(request), timeout=self._timeout
        )
        headers = self.headers(decision)
        if not decision.allowed:
            raise HTTPException(
                429, "too many requests", {**headers, "Retry-After": whole_seconds(decision.retry_after)}
            )
        for name, value in headers.items():
            before = response.headers.get(name)
            response.headers[name] = f"{before}, {value}" if before else value
        return decision

    def endpoint(
        self, handler: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """A handler of Starlette under this limit: `Route("/login", limit.endpoint(login))`."""

        async def limited(request: Request) -> Response:
            told = Response()
            await self(request, told)
            response = await handler(request)
            for name in ("RateLimit-Policy", "RateLimit"):
                response.headers[name] = told.headers[name]
            return response

        return limited

    def headers(self, decision: Decision) -> dict[str, str]:
        """The fields of draft-ietf-httpapi-ratelimit-headers: what is left, and seconds until all is free again."""
        # The server's clock said when, so a clock that differs here may not say more than the window.
        free = min(max(ceil(decision.reset_at - SYSTEM.now()), 0), ceil(self._window))
        policy = f'"{self.name}";q={decision.limit};w={ceil(self._window)}'
        return {"RateLimit-Policy": policy, "RateLimit": f'"{self.name}";r={decision.remaining};t={free}'}

    def _limiter(self, katax: AsyncKatax) -> AsyncRateLimiter:
        limiter = self._limiters.get(katax)
        if limiter is None:
            limiter = self._limiters[katax] = AsyncRateLimiter(
                katax.redis(self._redis),
                self._max,
                self._window,
                algorithm=self._algorithm,
                prefix=f"rate:{self.name}:",
                on_error=self._on_error,
            )
        return limiter
