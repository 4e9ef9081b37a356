"""The servers' own clients as programs: what to run for a connection, with no secret among its arguments."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any
from urllib.parse import quote, urlencode

from katax_cli.core.settings import ConnectionSettings, TlsSettings
from katax_cli.errors import ConfigError, Refused

_MYSQL_TLS = {
    "disable": "DISABLED",
    "require": "REQUIRED",
    "verify-ca": "VERIFY_CA",
    "verify-full": "VERIFY_IDENTITY",
}


@dataclass(frozen=True, slots=True)
class NativeClient:
    """A program and its arguments; `environment` and `file` hold what nobody else may read.

    `file` is text for a file that only the program sees; its name takes the place of `{file}` in the arguments.
    """

    program: str
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    file: str | None = field(default=None, repr=False)


def native_client(settings: ConnectionSettings) -> NativeClient:
    """The client for a connection; starts an embedded server that does not run.

    Raises Refused on a read-only connection that the client could be talked out of, ConfigError where the client
    has no way to the server, or is not installed.
    """
    if settings.read_only and settings.type != "sqlite":
        raise Refused(
            f"{settings.name!r} is read-only, and nothing keeps {_PROGRAMS[settings.type][0]} so; "
            "leave --native out"
        )
    if settings.ssh is not None:
        raise ConfigError(f"{settings.name!r} goes through ssh, which ends with katax; leave --native out")
    program = next(filter(shutil.which, _PROGRAMS[settings.type]), None)
    if program is None:
        names = " or ".join(_PROGRAMS[settings.type])
        raise ConfigError(f"{names} is not on PATH; install it, or leave --native out")
    return _CLIENTS[settings.type](settings, program)


def run_native(client: NativeClient) -> int:
    """Replaces this process by the client. Raises ConfigError when it cannot be run."""
    arguments = [client.program, *client.arguments]
    if client.file is not None:
        name = f"/dev/fd/{_private_file(client.file)}"
        arguments = [argument.replace("{file}", name) for argument in arguments]
    try:
        os.execvpe(client.program, arguments, {**_inherited(), **client.environment})
    except OSError as error:
        raise ConfigError(f"cannot run {client.program}: {error.strerror}") from error


def _inherited() -> dict[str, str]:
    """The environment without what leads libpq to another server, or into another session, than the profile's."""
    return {name: value for name, value in os.environ.items() if name in _LOGIN or not name.startswith("PG")}


def _private_file(text: str, *, inheritable: bool = True) -> int:
    """The descriptor of a file without a name, for its owner alone, which the program inherits."""
    descriptor, path = tempfile.mkstemp(prefix="katax-")
    os.unlink(path)
    os.write(descriptor, text.encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.set_inheritable(descriptor, inheritable)
    return descriptor


def _psql(settings: ConnectionSettings, program: str) -> NativeClient:
    host: str | None = settings.host
    port = str(settings.port) if settings.port else None
    if settings.nodes:
        host = ",".join(name for name, _ in settings.nodes)
        port = ",".join(str(number) for _, number in settings.nodes)
    elif settings.socket:
        path = PurePath(settings.socket)
        named = path.name.startswith(".s.PGSQL.")
        host, port = (str(path.parent), path.suffix[1:]) if named else (str(path), port)
    tls = settings.tls or TlsSettings(mode="disable")
    ca = tls.ca or ("system" if tls.mode == "verify-full" else None)
    options = {_PG_NAMES.get(name, ""): value for name, value in settings.options.items()}
    given = {
        "PGHOST": host,
        "PGPORT": port,
        "PGUSER": settings.user,
        "PGPASSWORD": _password(settings),
        "PGDATABASE": settings.database,
        "PGAPPNAME": "katax",
        "PGCONNECT_TIMEOUT": str(max(2, round(settings.connect_timeout))),
        **({"PGSSLMODE": tls.mode, "PGSSLROOTCERT": ca} if settings.tls else {}),
        "PGSSLCERT": tls.cert,
        "PGSSLKEY": tls.key,
        **options,
    }
    return NativeClient(program, environment={name: value for name, value in given.items() if name and value})


_LOGIN = frozenset({"PGPASSWORD", "PGPASSFILE"})
"""Of libpq's variables those that katax's own connections take, too, where a profile has no password."""
_PG_NAMES = {
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "options": "PGOPTIONS",
    "application_name": "PGAPPNAME",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "channel_binding": "PGCHANNELBINDING",
    "gssencmode": "PGGSSENCMODE",
}


def _mysql(settings: ConnectionSettings, program: str) -> NativeClient:
    tls = settings.tls
    given: dict[str, Any] = {
        "user": settings.user,
        "password": _password(settings),
        "host": None if settings.socket else settings.host,
        "port": settings.port,
        "socket": settings.socket,
        "protocol": "SOCKET" if settings.socket else "TCP",
        "database": settings.database,
        "default-character-set": "utf8mb4",
        "connect-timeout": max(1, round(settings.connect_timeout)),
        "init-command": settings.options.get("init_command"),
    }
    if tls is not None:
        given |= {"ssl-ca": tls.ca, "ssl-cert": tls.cert, "ssl-key": tls.key, **_mysql_tls(program, tls)}
    lines = [f"{name}={_quoted(str(value))}" for name, value in given.items() if value is not None]
    return NativeClient(program, ["--defaults-file={file}"], file="\n".join(["[client]", *lines, ""]))


def _mysql_tls(program: str, tls: TlsSettings) -> dict[str, str]:
    """MariaDB's client has two switches where MySQL's has modes."""
    if program == "mysql":
        return {"ssl-mode": _MYSQL_TLS[tls.mode]}
    if tls.mode == "disable":
        return {"skip-ssl": "1"}
    return {"ssl": "1", "ssl-verify-server-cert": "1" if tls.mode == "verify-full" else "0"}


def _quoted(value: str) -> str:
    """A value of an option file, whatever it holds."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _sqlite3(settings: ConnectionSettings, program: str) -> NativeClient:
    path = settings.path or ":memory:"
    # -safe also keeps .open and ATTACH from another file.
    options = ["-readonly", "-safe"] if settings.read_only else []
    if path != ":memory:" and not os.path.exists(path) and settings.read_only:
        raise ConfigError(f"{settings.name!r}: there is no file {path}")
    return NativeClient(program, [*options, f"./{path}" if path.startswith("-") else path])


def _redis_cli(settings: ConnectionSettings, program: str) -> NativeClient:
    if settings.topology == "sentinel":
        raise ConfigError("redis-cli does not ask Sentinels; leave --native out")
    host, port = (
        settings.nodes[0] if settings.nodes else (settings.host or "localhost", settings.port or 6379)
    )
    where = settings.socket or (_embedded_socket(settings) if settings.embedded else None)
    arguments = ["-s", where] if where else ["-h", host, "-p", str(port)]
    arguments += ["-n", settings.database] if settings.database else []
    arguments += ["-c"] if settings.topology == "cluster" else []
    arguments += ["--user", settings.user] if settings.user else []
    if settings.tls is not None and settings.tls.mode != "disable":
        tls = settings.tls
        arguments += ["--tls", *(["--insecure"] if tls.mode == "require" else [])]
        for option, value in (("--cacert", tls.ca), ("--cert", tls.cert), ("--key", tls.key)):
            arguments += [option, value] if value else []
    password = _password(settings)
    return NativeClient(program, arguments, environment={"REDISCLI_AUTH": password} if password else {})


def _embedded_socket(settings: ConnectionSettings) -> str:
    from katax_cli.engines.redis.embedded import ensure

    return str(ensure(settings, None))


def _mongosh(settings: ConnectionSettings, program: str) -> NativeClient:
    nodes = settings.nodes or ((settings.host or "localhost", settings.port or 27017),)
    hosts = settings.host if settings.srv else ",".join(f"{host}:{port}" for host, port in nodes)
    login = ""
    if settings.user:
        password = _password(settings)
        login = quote(settings.user, safe="") + (f":{quote(password, safe='')}" if password else "") + "@"
    options = dict(settings.options)
    if settings.tls is not None and settings.tls.mode != "disable":
        tls = settings.tls
        options |= {"tls": "true", **({"tlsCAFile": tls.ca} if tls.ca else {})}
        options |= {"tlsAllowInvalidHostnames": "true"} if tls.mode == "verify-ca" else {}
        options |= {"tlsAllowInvalidCertificates": "true"} if tls.mode == "require" else {}
    scheme = "mongodb+srv" if settings.srv else "mongodb"
    url = f"{scheme}://{login}{hosts}/{quote(settings.database or '', safe='')}"
    url += f"?{urlencode(options)}" if options else ""
    connect = "db = connect(process.env.KATAX_MONGOSH_URL)"
    return NativeClient(
        program, ["--nodb", "--quiet", "--eval", connect, "--shell"], environment={"KATAX_MONGOSH_URL": url}
    )


def _password(settings: ConnectionSettings) -> str | None:
    return settings.password.reveal() if settings.password else None


_PROGRAMS: Mapping[str, tuple[str, ...]] = {
    "postgresql": ("psql",),
    "mysql": ("mariadb", "mysql"),
    "sqlite": ("sqlite3",),
    "redis": ("redis-cli",),
    "mongodb": ("mongosh",),
}
_CLIENTS: Mapping[str, Callable[[ConnectionSettings, str], NativeClient]] = {
    "postgresql": _psql,
    "mysql": _mysql,
    "sqlite": _sqlite3,
    "redis": _redis_cli,
    "mongodb": _mongosh,
}
