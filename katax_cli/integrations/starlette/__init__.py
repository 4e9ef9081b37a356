"""katax in Starlette and FastAPI applications: one container for each process, health, sessions, rate limits."""

from katax_cli.integrations.starlette.errors import error_handlers as error_handlers
from katax_cli.integrations.starlette.health import health_routes as health_routes
from katax_cli.integrations.starlette.lifespan import Lifespan as Lifespan
from katax_cli.integrations.starlette.lifespan import current_katax as current_katax
from katax_cli.integrations.starlette.limits import RateLimit as RateLimit
from katax_cli.integrations.starlette.sessions import SessionsMiddleware as SessionsMiddleware
from katax_cli.integrations.starlette.sessions import WebSession as WebSession
from katax_cli.integrations.starlette.sessions import load_session as load_session

__all__ = [
    "Lifespan",
    "RateLimit",
    "SessionsMiddleware",
    "WebSession",
    "current_katax",
    "error_handlers",
    "health_routes",
    "load_session",
]
