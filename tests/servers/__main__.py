"""`python -m tests.servers fetch | up`: the servers of the tests, for hands."""

import argparse
import signal
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path

from tests.servers import debian
from tests.servers.fleet import ENGINES, Fleet
from tests.servers.installs import install
from tests.servers.server import Server

NEEDED = (
    ("postgresql", False),
    ("postgresql", True),
    ("mysql", False),
    ("mongodb", False),
    ("redis", False),
    ("redis", True),
    ("pgbouncer", False),
)


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    if options.command == "fetch":
        return _fetch()
    return _up(options.write)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="put every package that the tests may need into the cache")
    up = commands.add_parser("up", help="start all engines and stay until Ctrl-C")
    up.add_argument("--write", type=Path, metavar="DIR", help="write DIR/profiles/five.toml")
    return parser


def _fetch() -> int:
    """Fetch them all; 1 when one could not be had."""
    failed = False
    for engine, full in NEEDED:
        try:
            _say(f"{engine}{' (full)' if full else ''}: {install(engine, full=full).source}")
        except debian.PackageUnavailable as error:
            failed = True
            _say(f"{engine}: {error}", to_stderr=True)
    return int(failed)


def _up(folder: Path | None) -> int:
    with closing(Fleet()) as fleet:
        servers = [fleet.shared(engine) for engine in ENGINES if engine != "sqlite"]
        home = folder or fleet.room.path
        profile = five_toml([*servers, sqlite_server(home / "five.db")])
        target = home / "profiles" / "five.toml"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(profile)
        for server in servers:
            _say(f"# {server.engine} {server.version}, {server.source}, socket {server.socket}")
            _say(f"export KATAX_TEST_{server.engine.upper()}_URL='{server.url}'")
        _say(f"# {target}\n{profile}# Ctrl-C stops them")
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
    return 0


def sqlite_server(path: Path) -> Server:
    return Server(engine="sqlite", url=f"sqlite:///{path}", version="", source="Python's sqlite3")


def five_toml(servers: list[Server]) -> str:
    """A katax profile with one connection for each server, named after its engine."""
    tables = (
        f'[connections.{server.engine}]\ntype = "{server.engine}"\nurl = "{server.url}"\n'
        for server in servers
    )
    return 'role = "dev"\n\n' + "\n".join(tables)


def _say(line: str, *, to_stderr: bool = False) -> None:
    stream = sys.stderr if to_stderr else sys.stdout
    stream.write(line + "\n")
    stream.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
