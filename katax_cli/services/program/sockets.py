"""The Socket.IO servers of a container: one for each name, and its log on all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any

from katax_cli.core.text.js_json import parse
from katax_cli.core.text.text import to_json
from katax_cli.errors import ConnectionConflict
from katax_cli.profiles.model.model import Profile, WsSettings
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.program.logger import Logger
from katax_cli.services.ws.server import MayJoin, Sockets

LOG_EVENT = "log"


class SocketServers:
    """Opens servers that share a log; `register` takes each along, so that it is closed in time."""

    def __init__(
        self,
        profile: Profile,
        redis: Callable[[str], RedisDatabase],
        register: Callable[[Sockets], Sockets],
        logger: Logger,
    ) -> None:
        self._profile = profile
        self._redis = redis
        self._register = register
        self._logger = logger
        self._opened: dict[str, tuple[WsSettings, Sockets]] = {}
        self._opening = Lock()

    def open(self, name: str, given: Mapping[str, object], may_join: MayJoin | None) -> Sockets:
        """The server of this name, with settings that are `given` unless they are None.

        Raises ConnectionConflict when it was opened otherwise.
        """
        with self._opening:
            known, server = self._opened.get(name, (None, None))
            base = known or self._profile.ws.get(name, WsSettings(name))
            changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
            wanted = base._replace(**changes)
            if server is not None and not server.closing:
                if _comparable(wanted) != _comparable(base):
                    raise ConnectionConflict(name)
                return server
            return self._start(wanted, may_join)

    def running(self) -> list[Sockets]:
        """Those that were opened and not closed yet."""
        return [server for _settings, server in list(self._opened.values()) if not server.closing]

    def _start(self, settings: WsSettings, may_join: MayJoin | None) -> Sockets:
        redis = None if settings.redis is None else self._redis(settings.redis)
        server = Sockets(settings, home=self._profile.home, redis=redis, may_join=may_join)
        self._opened[settings.name] = (settings, server)
        self._register(server)
        self._logger.broadcast_to(self._broadcast)
        return server

    def _broadcast(self, entry: Mapping[str, object], room: str | None) -> None:
        shown = parse(to_json(entry))
        for server in self.running():
            server.emit_soon(LOG_EVENT, shown, room=room)


def _comparable(settings: WsSettings) -> tuple[object, ...]:
    tokens = (settings.auth_token, settings.admin_token)
    return (
        *settings._replace(auth_token=None, admin_token=None),
        *(token and token.known for token in tokens),
    )
