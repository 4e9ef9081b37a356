"""`katax ws`: Socket.IO from the shell."""

from __future__ import annotations

from typing import Annotated

import typer

from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.group import Group
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.output import Manner

group = Group()

DOCTOR_HEADER = ("worker", "host", "pid", "port", "listening", "ack_ms")
CLIENT_HEADER = ("sid", "address", "transport", "connected_at", "rooms", "worker")
ROOM_HEADER = ("room", "clients")

Name = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="Server of the profile; none: the only one.")
]
Url = Annotated[str | None, typer.Option("--url", metavar="URL", help="http://HOST:PORT of a server.")]
Token = Annotated[
    str | None, typer.Option("--token", metavar="env:NAME|file:PATH", help="Token instead of the known one.")
]
AsClient = Annotated[
    bool, typer.Option("--as-client", help="Act as an ordinary client, of any Socket.IO server.")
]
Room = Annotated[str | None, typer.Option("--room", metavar="ROOM", help="This room only.")]


@group.command("serve")
def serve(
    call: Invocation,
    name: Annotated[str | None, typer.Argument(help="Server of the profile; none: the only one.")] = None,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0: any.")
    ] = None,
    path: Annotated[str | None, typer.Option("--path", help="Path of Socket.IO.")] = None,
    redis: Annotated[
        str | None,
        typer.Option("--redis", metavar="CONN", help="Share clients and rooms with the servers on it."),
    ] = None,
    auth_token: Annotated[
        str | None,
        typer.Option("--auth-token", metavar="env:NAME|file:PATH", help="Token that clients must send."),
    ] = None,
    cors: Annotated[
        list[str] | None, typer.Option("--cors", metavar="ORIGIN", help="Allowed origin; repeatable.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond loopback even without a token.")
    ] = False,
) -> None:
    """Serve until TERM, which drains; a second signal forces. Also /live, /ready and /metrics."""
    from katax_cli.cli.ws.run import run_server, secret_option

    given = {
        "host": host or None,
        "port": port,
        "path": path or None,
        "redis": redis or None,
        "auth_token": secret_option("--auth-token", auth_token),
        "cors": tuple(cors) if cors else None,
    }
    run_server(call, name, given, insecure=insecure)


@group.command("emit")
def emit(
    call: Invocation,
    event: Annotated[str, typer.Argument(help="Name of the event.")],
    data: Annotated[str | None, typer.Argument(help="JSON, or text; - for stdin, @file for a file.")] = None,
    room: Room = None,
    as_client: AsClient = False,
    name: Name = None,
    url: Url = None,
    token: Token = None,
) -> None:
    """Send an event to the clients, and say how many there are; --as-client: to the server, and print its answer."""
    from katax_cli.cli.ws.run import ServerTarget, json_or_text, send_as_client, warn_of_deaf

    value = None if data is None else json_or_text(call.input_bytes(data))
    if call.only_planned(event=event, room=room):
        return
    with ServerTarget(call, name, url, token).client(as_client=as_client) as asked:
        if as_client:
            send_as_client(call, asked, event, value, room)
            return
        answer = asked.request("emit", {"event": event, "data": value, "room": room})
    warn_of_deaf(call, answer)
    call.out.action({"event": event, "room": room, "clients": answer["clients"]})


@group.command("listen")
def listen(
    call: Invocation,
    event: Annotated[str | None, typer.Option("--event", help="This event only.")] = None,
    room: Room = None,
    count: Annotated[int | None, typer.Option("--count", min=1, help="Number of events; then end.")] = None,
    as_client: AsClient = False,
    name: Name = None,
    url: Url = None,
    token: Token = None,
) -> None:
    """Print events as they pass the server; reconnects by itself and notes gaps."""
    from katax_cli.cli.ws.run import ServerTarget, print_events

    target = ServerTarget(call, name, url, token)
    print_events(call, target, event=event, room=room, count=count, as_client=as_client)


@group.command("expect")
def expect(
    call: Invocation,
    event: Annotated[str, typer.Argument(help="Name of the expected event.")],
    where: Annotated[
        list[str] | None, typer.Option("--where", metavar="PATH=VALUE", help="Expected data, such as a.b=1.")
    ] = None,
    send: Annotated[str | None, typer.Option("--send", metavar="EVENT", help="Event to send first.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="Its data: JSON, or text; -, @file.")] = None,
    room: Room = None,
    as_client: AsClient = False,
    name: Name = None,
    url: Url = None,
    token: Token = None,
) -> ExitCode:
    """Wait for a matching event, with --send after sending one; exit 1 when none came by --timeout."""
    from katax_cli.cli.ws.run import ServerTarget, conditions, expected, json_or_text

    matches = conditions(where or [])
    value = None if data is None else json_or_text(call.input_bytes(data))
    if call.only_planned(event=event, send=send):
        return ExitCode.DONE
    target = ServerTarget(call, name, url, token)
    sent = None if send is None else (send, value)
    return expected(call, target, event, matches, sent=sent, room=room, as_client=as_client)


@group.command("clients")
def clients(call: Invocation, name: Name = None, url: Url = None, token: Token = None) -> None:
    """List the clients of all servers of a name."""
    from katax_cli.cli.ws.run import ServerTarget, warn_of_deaf

    with ServerTarget(call, name, url, token).client() as asked:
        answer = asked.request("clients")
    warn_of_deaf(call, answer)
    call.out.rows(
        CLIENT_HEADER,
        [[tuple(row[key] for key in CLIENT_HEADER) for row in answer["clients"]]],
        Manner(ages=("connected_at",)),
    )


@group.command("rooms")
def rooms(call: Invocation, name: Name = None, url: Url = None, token: Token = None) -> None:
    """List the rooms and their numbers of clients."""
    from katax_cli.cli.ws.run import ServerTarget, warn_of_deaf

    with ServerTarget(call, name, url, token).client() as asked:
        answer = asked.request("rooms")
    warn_of_deaf(call, answer)
    call.out.rows(ROOM_HEADER, [list(answer["rooms"].items())])


@group.command("kick")
def kick(
    call: Invocation,
    sid: Annotated[str, typer.Argument(help="Id of the client; see 'katax ws clients'.")],
    name: Name = None,
    url: Url = None,
    token: Token = None,
) -> ExitCode:
    """Disconnect a client; exit 1 when there is no such client."""
    from katax_cli.cli.ws.run import ServerTarget, confirm_kick, warn_of_deaf

    target = ServerTarget(call, name, url, token)
    if call.only_planned(sid=sid, kicked=False):
        return ExitCode.DONE
    confirm_kick(call, target, sid)
    with target.client() as asked:
        answer = asked.request("kick", sid)
    warn_of_deaf(call, answer)
    call.out.action({"sid": sid, "kicked": answer["kicked"]})
    return ExitCode.DONE if answer["kicked"] else ExitCode.NO


@group.command("doctor")
def doctor(call: Invocation, name: Name = None, url: Url = None, token: Token = None) -> ExitCode:
    """Send a canary to every server of a name, and list those that missed it; exit 1 when one did."""
    from katax_cli.cli.ws.run import ServerTarget

    with ServerTarget(call, name, url, token).client() as asked:
        answer = asked.request("doctor")
    workers = [{**each, "worker": each["id"]} for each in answer["workers"]]
    call.out.rows(DOCTOR_HEADER, [[tuple(worker[key] for key in DOCTOR_HEADER) for worker in workers]])
    deaf = [f"{worker['host']}:{worker['pid']}" for worker in workers if not worker["listening"]]
    if deaf:
        call.diagnostics.note(f"deaf: {', '.join(deaf)}; restart it, or see its log for Redis")
    if answer["subscribers"] != len(workers):
        call.diagnostics.note(f"{answer['subscribers']} subscribers on the channel, {len(workers)} workers")
    return ExitCode.NO if deaf or answer["subscribers"] < len(workers) else ExitCode.DONE
