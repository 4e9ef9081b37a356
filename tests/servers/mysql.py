"""MariaDB (or MySQL, where that is installed) of the tests: a password over TCP, quick settings."""

import os
import ssl
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pymysql
from pymysql.connections import Connection

from tests.servers.launch import HOST, Launch, copy_of_template, own_copy, run
from tests.servers.process import ServerProcess
from tests.servers.server import DATABASE, PASSWORDS, USER, Server

PASSWORD = PASSWORDS["mysql"]
QUICK = {
    # Written at commit, so that it survives `kill -9`; fsync once a second.
    "innodb-flush-log-at-trx-commit": "2",
    "innodb-log-file-size": "8M",
    "innodb-buffer-pool-size": "32M",
    "max-connections": "300",
    "max-allowed-packet": "64M",
    "character-set-server": "utf8mb4",
    "bind-address": HOST,
}
BOOTSTRAP = "CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket = NULL;\n"
SYSTEM_TABLES = ("system_tables", "performance_tables", "system_tables_data", "sys_schema")


def launch(spec: Launch) -> Server:
    """Start one; the caller stops it."""
    data, socket = spec.folder / "data", spec.folder / "mysql.sock"
    data.mkdir(mode=0o700)
    _fill(spec, data)
    host = "localhost" if spec.certificates else HOST
    url = f"mysql://{USER}:{PASSWORD}@{host}:{spec.port}/{DATABASE}"
    process = ServerProcess(
        "mysql", _command(spec, data, socket), spec.folder, lambda: greet(url, context=_tls_context(spec))
    )
    return Server(
        engine="mysql",
        url=url,
        version=process.start(),
        source=spec.install.source,
        process=process,
        socket=socket,
        tools=spec.install.programs,
        certificates=spec.certificates,
    )


def greet(url: str, *, context: ssl.SSLContext | None = None) -> str:
    """The server's version; raises while it does not answer."""
    return _ask(url, "SELECT VERSION()", context=context)


def create_database(url: str, name: str) -> None:
    _ask(url, f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")


def drop_database(url: str, name: str) -> None:
    """Sessions that a test left in it are ended first: their locks would keep the drop waiting."""
    with _connect(url, None) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s", [name])
        for (session,) in cursor.fetchall():
            with suppress(pymysql.err.OperationalError):  # it ended by itself
                cursor.execute(f"KILL {session}")
        cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")


def grant_all(url: str, *, root_password: str) -> None:
    """Give the user of `url` the rights that an image's setup leaves to root."""
    parts = urlsplit(url)
    as_root = parts._replace(netloc=f"root:{root_password}@{parts.hostname}:{parts.port}").geturl()
    _ask(as_root, f"GRANT ALL ON *.* TO '{USER}'@'%' WITH GRANT OPTION")


def _ask(url: str, sql: str, *, context: ssl.SSLContext | None = None) -> str:
    """The first value."""
    with _connect(url, context) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        row = cursor.fetchone()
    return str(row[0]) if row else ""


def _connect(url: str, context: ssl.SSLContext | None) -> "Connection[pymysql.cursors.Cursor]":
    parts = urlsplit(url)
    return pymysql.connect(
        host=parts.hostname,
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        connect_timeout=60,
        read_timeout=60,
        autocommit=True,
        ssl=context,
        # Else PyMySQL offers TLS with a context made anew, which costs more than the connection.
        ssl_disabled=context is None,
    )


def _tls_context(spec: Launch) -> ssl.SSLContext | None:
    """Unverified: the question is only whether the server is ready, bad certificate or not."""
    if not spec.certificates:
        return None
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(spec.certificates.client_cert, spec.certificates.client_key)
    return context


def _command(spec: Launch, data: Path, socket: Path) -> list[str]:
    accounts = spec.folder / "accounts.sql"
    accounts.write_text(_accounts_sql(spec))
    settings = QUICK | _tls(spec) | dict(spec.settings)
    where = [f"--datadir={data}", f"--port={spec.port}", f"--socket={socket}", f"--tmpdir={spec.folder}"]
    where += [f"--init-file={accounts}", f"--pid-file={spec.folder / 'mysql.pid'}"]
    options = [f"--{name}={value}" for name, value in settings.items()]
    return [*_server(spec), "--skip-log-bin", "--skip-name-resolve", *where, *options]


def _server(spec: Launch) -> list[str]:
    """The program and where its files are: an unpacked package has them elsewhere than compiled in."""
    command = [spec.install.program("mariadbd", "mysqld"), "--no-defaults"]
    if os.geteuid() == 0:
        command.append("--user=root")
    if share := _share(spec.install.programs):
        plugins = share.parents[1] / "lib" / "mysql" / "plugin"
        command += [f"--lc-messages-dir={share}", f"--character-sets-dir={share / 'charsets'}"]
        command += [f"--plugin-dir={plugins}"] if plugins.is_dir() else []
    return command


def _share(programs: Path) -> Path | None:
    """The folder of MariaDB's scripts and messages; None for MySQL, which needs no help."""
    for root in (programs.parent, programs.parent / "root" / "usr"):
        for name in ("mysql", "mariadb"):
            if list((root / "share" / name).glob("*_system_tables.sql")):
                return root / "share" / name
    return None


def _accounts_sql(spec: Launch) -> str:
    demand = " REQUIRE X509" if spec.client_certificate else ""
    return (
        f"CREATE DATABASE IF NOT EXISTS {DATABASE};\n"
        f"CREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY '{PASSWORD}'{demand};\n"
        f"GRANT ALL ON *.* TO '{USER}'@'%' WITH GRANT OPTION;\n"
    )


def _fill(spec: Launch, data: Path) -> None:
    version = run([*_server(spec), "--version"])
    recipe = f"{version} {spec.install.programs} {QUICK} {os.geteuid()} 1"

    def make(target: Path) -> None:
        base = [*_server(spec), f"--datadir={target}", f"--tmpdir={spec.folder}"]
        base += [f"--innodb-log-file-size={QUICK['innodb-log-file-size']}"]
        if share := _share(spec.install.programs):
            run([*base, "--bootstrap"], stdin=BOOTSTRAP + _system_tables(share), cwd=spec.folder)
        else:
            run([*base, "--initialize-insecure"], cwd=spec.folder)

    copy_of_template("mysql", recipe, make, into=data)


def _system_tables(share: Path) -> str:
    found = (next(share.glob(f"*_{name}.sql")) for name in SYSTEM_TABLES)
    return "\n".join(script.read_text() for script in found)


def _tls(spec: Launch) -> dict[str, str]:
    if not (certificates := spec.certificates):
        return {}
    files = {
        "ssl-ca": certificates.ca,
        "ssl-cert": certificates.server_cert,
        "ssl-key": certificates.server_key,
    }
    copies = {name: str(own_copy(path, spec.folder, None)) for name, path in files.items()}
    return copies | {"require-secure-transport": "ON"}
