"""The parts of `katax ws` that are about words, signals and streams."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import typer

from katax_cli.cli.shell.confirm import Tier, confirm, refuse_unnamed
from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.invocation import INTERACTIVE_SECONDS, Invocation
from katax_cli.cli.shell.signals import ended_by_signals
from katax_cli.core.clock import SYSTEM
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.settings import LOOPBACK, ConnectionSettings, Secret
from katax_cli.core.text.js_json import parse
from katax_cli.errors import ConfigError, DeadlineExceeded, KataxError, Unavailable, unknown_name
from katax_cli.profiles.model.model import Profile, WsSettings

EVENT_HEADER = ("event", "room", "data", "sid", "received_at")
_REPORT_EVERY = 10.0

if TYPE_CHECKING:
    from katax_cli.services.state.store import HealthRecord
    from katax_cli.services.ws.client import Event
    from katax_cli.services.ws.server import Sockets
    from katax_cli.snapshot import HealthStatus

Conditions = Sequence[tuple[list[str], Any]]


def configured(profile: Profile, name: str | None) -> WsSettings:
    """The server of this name; without one the only one, or `default`. Raises ConfigError."""
    known = profile.ws
    if name is None and not known:
        return WsSettings("default")
    if name is None:
        if len(known) > 1 and "default" not in known:
            raise ConfigError(
                f"profile {profile.name!r} has several Socket.IO servers; choose one: {', '.join(known)}"
            )
        name = "default" if "default" in known else next(iter(known))
    if name not in known:
        raise ConfigError(unknown_name("Socket.IO server", name, list(known), "servers"))
    return known[name]


def secret_option(option: str, value: str | None) -> Secret | None:
    """A token by its place, never by its value."""
    if value is None:
        return None
    if not value.startswith(("env:", "file:")):
        raise typer.BadParameter(f"{option} takes env:NAME or file:PATH, so that the token shows nowhere")
    from katax_cli.profiles.model.secrets import SecretOrigin, token

    return token(value, SecretOrigin(option, os.getcwd(), environ=os.environ))


def json_or_text(data: bytes) -> Any:
    """JSON where it is JSON, else its text."""
    text = data.decode("utf-8", "replace")
    try:
        return parse(text)
    except ValueError:
        return text


def run_server(call: Invocation, name: str | None, given: Mapping[str, Any], *, insecure: bool) -> None:
    """Serves on this process until a signal; what is given, and not None, stands for what the profile says."""
    from katax_cli.services.state.reporter import report
    from katax_cli.services.ws.report import SocketReport
    from katax_cli.services.ws.server import Sockets

    with call.runtime(seconds=None) as runtime, ended_by_signals() as ending:
        profile = runtime.profile
        refuse_unnamed(call, profile)
        changes = {key: value for key, value in given.items() if value is not None}
        settings = configured(profile, name)._replace(**changes)
        redis = None
        if settings.redis is not None:
            redis = runtime.redis(_redis_settings(profile, settings.redis))
        server = Sockets(settings, home=profile.home, redis=redis, insecure=insecure, acknowledge=True)
        state = report(runtime, f"ws serve {settings.name}")
        state.tell("sockets", SocketReport(lambda: [server]))
        call.diagnostics.note(f"ws {settings.name!r} listens on {server.url}{settings.path}")
        try:
            while not ending.wait(_REPORT_EVERY):
                state.record(_health(server))
        finally:
            call.diagnostics.note(f"ws {settings.name!r} is ending; notifying {len(server.clients)} clients")
            cut = server.close(profile.shutdown.timeout)
        if cut:
            call.diagnostics.note(f"{cut} clients did not read in time and were cut off")


def _health(server: Sockets) -> HealthRecord:
    """The server's record in the state database."""
    from katax_cli.services.state.store import HealthRecord
    from katax_cli.services.ws.report import trouble

    why = trouble(server)
    status: HealthStatus = "unhealthy" if why else "healthy"
    return HealthRecord(SYSTEM.now(), f"ws.{server.name}", status, None, None, why)


def _redis_settings(profile: Profile, name: str) -> ConnectionSettings:
    settings = profile.connection(name)
    if settings.type != "redis":
        raise ConfigError(f"{name!r} is {settings.type}; --redis takes a Redis connection")
    return settings


class TimedClient(NamedTuple):
    """A connection and the time that a command has."""

    client: Any
    deadline: Deadline

    def request(self, what: str, argument: Any = None) -> Any:
        """A question to the admin namespace. Raises KataxError with what it says against it."""
        answer = self.client.call(what, argument, deadline=self.deadline)
        if not isinstance(answer, dict):
            raise KataxError(f"the server gave no answer to {what!r}")
        if "error" not in answer:
            return answer
        if answer.get("unavailable"):
            raise Unavailable(self.client.where.name, answer["error"])
        raise KataxError(f"the server refused: {answer['error']}")


class ServerTarget:
    """The server that a command is for: one of the profile, or one at a URL."""

    def __init__(self, call: Invocation, name: str | None, url: str | None, token: str | None) -> None:
        self.call = call
        self.profile = call.profile()
        self.settings = configured(self.profile, name)
        self._url = url
        self._token = secret_option("--token", token)

    def deadline(self, seconds: float | None = INTERACTIVE_SECONDS) -> Deadline:
        given = self.call.shared.timeout
        return Deadline(seconds if given is None else given)

    def where(self, *, as_client: bool) -> Any:
        """The address to connect to and the credentials. Raises ConfigError."""
        from katax_cli.services.ws.client import Where
        from katax_cli.services.ws.values import NAMESPACE

        settings = self.settings
        path = settings.path
        if self._url is not None and urlsplit(self._url).path.strip("/"):
            path = urlsplit(self._url).path
        return Where(
            self._address(), path, "/" if as_client else NAMESPACE, self._secret(as_client=as_client)
        )

    @contextmanager
    def client(self, *, as_client: bool = False) -> Iterator[TimedClient]:
        from katax_cli.services.ws.client import SocketClient

        with SocketClient(self.where(as_client=as_client)) as client:
            yield TimedClient(client, self.deadline())

    def _address(self) -> str:
        if self._url is not None:
            return self._url
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.settings.host, self.settings.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.settings.port}"

    def _secret(self, *, as_client: bool) -> Secret | None:
        if self._token is not None:
            return self._token
        if self._url is not None and urlsplit(self._url).hostname not in LOOPBACK:
            # Our tokens are for our servers, not for whatever a URL names.
            if as_client:
                return None
            raise ConfigError("--url names another machine; give its admin token with --token env:NAME")
        if as_client:
            return self.settings.auth_token
        from katax_cli.services.ws.tokens import known_admin_token

        return known_admin_token(self.settings, self.profile.home)


def send_as_client(call: Invocation, asked: TimedClient, event: str, value: Any, room: str | None) -> None:
    """Joins the room if one is named, sends, and prints what the server acknowledges."""
    if room is not None:
        _join(asked.client, room, asked.deadline)
    call.out.action({"event": event, "answer": asked.client.call(event, value, deadline=asked.deadline)})


def _join(client: Any, room: str, deadline: Deadline) -> None:
    """Raises KataxError when the server does not let it in."""
    answer = client.join(room, deadline=deadline)
    if isinstance(answer, dict) and answer.get("ok") is False:
        raise KataxError(
            f"the server did not open room {room!r}: {answer.get('error', 'it gives no reason')}"
        )


def warn_of_deaf(call: Invocation, answer: Any) -> None:
    """Says which servers did not hear the question, so that what they know is missing."""
    if answer["deaf"]:
        call.diagnostics.note(f"no answer from {', '.join(answer['deaf'])}; see 'katax ws doctor'")


def confirm_kick(call: Invocation, target: ServerTarget, sid: str) -> None:
    """Asks on a prod profile."""
    server = ConnectionSettings(target.settings.name, "redis")
    confirm(call, target.profile, server, Tier.DISRUPTIVE, f"kick {sid!r}")


def conditions(words: Sequence[str]) -> Conditions:
    """`a.b=1` as the path and the value. Raises ConfigError."""
    reasons = []
    for word in words:
        path, sign, value = word.partition("=")
        if not sign or not path:
            raise ConfigError(f"--where is {word!r}, expected PATH=VALUE such as user.id=7")
        reasons.append((path.split("."), json_or_text(value.encode())))
    return reasons


def expected(
    call: Invocation,
    target: ServerTarget,
    event: str,
    matches: Conditions,
    *,
    sent: tuple[str, Any] | None,
    room: str | None,
    as_client: bool,
) -> ExitCode:
    """Prints the event that matched; NO when none came in time."""
    deadline = target.deadline()

    def send(client: Any) -> None:
        if sent is None:
            return
        name, data = sent
        if as_client:
            client.emit(name, data, deadline=deadline)
        else:
            TimedClient(client, deadline).request("emit", {"event": name, "data": data, "room": room})

    for row in _rows(call, target, deadline, room=room, as_client=as_client, begin=send):
        if row[0] == event and all(_value_at(row[2], path) == value for path, value in matches):
            call.out.action(dict(zip(EVENT_HEADER, row, strict=True)))
            return ExitCode.DONE
    call.diagnostics.note(f"no matching event {event!r} within {deadline.seconds:g} s")
    return ExitCode.NO


def _value_at(data: Any, path: Sequence[str]) -> Any:
    for part in path:
        if isinstance(data, dict) and part in data:
            data = data[part]
        elif isinstance(data, list) and part.isdecimal() and int(part) < len(data):
            data = data[int(part)]
        else:
            return _NOTHING
    return data


_NOTHING = object()


def print_events(
    call: Invocation,
    target: ServerTarget,
    *,
    event: str | None,
    room: str | None,
    count: int | None,
    as_client: bool,
) -> None:
    """Prints events until there are `count` of them, the deadline or Ctrl-C."""
    deadline = target.deadline(None)
    left = count

    def begin(client: Any) -> None:
        call.diagnostics.note(f"listening at {client.where.name}")

    for row in _rows(call, target, deadline, room=room, as_client=as_client, begin=begin):
        if event is not None and row[0] != event:
            continue
        call.out.arrival(EVENT_HEADER, row)
        left = None if left is None else left - 1
        if left == 0:
            return
    if left is not None:
        doing = f"listening for {count} events"
        raise DeadlineExceeded(target.settings.name, doing=doing, seconds=deadline.seconds or 0.0)


def _rows(
    call: Invocation,
    target: ServerTarget,
    deadline: Deadline,
    *,
    room: str | None,
    as_client: bool,
    begin: Callable[[Any], None],
) -> Iterator[tuple[Any, ...]]:
    """Events as rows while they arrive; an observer's sequence numbers show what was missed."""
    from katax_cli.services.ws.client import SocketClient

    gaps = Gaps(call.diagnostics.note)

    def greet(client: Any) -> None:
        if not as_client:
            gaps.observing(client.call("observe", deadline=Deadline(5.0)))

    where = target.where(as_client=as_client)
    with SocketClient(where, greet=greet, on_loss=gaps.lost, on_gap=gaps.reconnected) as client:
        if as_client and room is not None:
            _join(client, room, deadline)
        else:
            client.connect(deadline=deadline)
        begin(client)
        events = client.events(deadline)
        yield from _received_rows(events, room) if as_client else _observed_rows(events, room, gaps)


def _received_rows(events: Iterable[Event], room: str | None) -> Iterator[tuple[Any, ...]]:
    for event in events:
        yield (event.name, room, event.data, None, datetime.now(UTC))


def _observed_rows(events: Iterable[Event], room: str | None, gaps: Gaps) -> Iterator[tuple[Any, ...]]:
    for event in events:
        if event.name == "seen":
            seen = event.data
            gaps.count(seen["seq"])
            if room is None or seen["room"] == room:
                yield (seen["event"], seen["room"], seen["data"], seen["sid"], datetime.now(UTC))


class Gaps:
    """Counts what an observer missed, by the numbers that the server gives to what passes."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._worker: str | None = None
        self._seq = 0
        self._missed: int | None = None

    def observing(self, answer: Any) -> None:
        """The observer is known to the server, which has counted so far."""
        same = self._worker == answer["worker"]
        self._missed = answer["seq"] - self._seq if same else None
        self._worker, self._seq = answer["worker"], answer["seq"]

    def count(self, seq: int) -> None:
        self._seq = seq

    def lost(self) -> None:
        self._note("the connection is lost; reconnecting")

    def reconnected(self, seconds: float) -> None:
        missed = "events sent meanwhile" if self._missed is None else f"{self._missed} events"
        self._note(f"reconnected after {seconds:.1f} s; {missed} are missing")
