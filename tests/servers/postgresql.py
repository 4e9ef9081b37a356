"""PostgreSQL of the tests: real passwords over TCP, quick settings, never as root."""

import hmac
import signal
from base64 import b64encode
from contextlib import suppress
from hashlib import pbkdf2_hmac, sha256
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from tests.servers.launch import HOST, Launch, copy_of_template, own_copy, run
from tests.servers.process import ServerProcess
from tests.servers.rooms import Account, service_account
from tests.servers.server import DATABASE, PASSWORDS, USER, Server
from tests.waiting import until

PASSWORD = PASSWORDS["postgresql"]
# The tests kill processes, never the kernel: what was written at COMMIT is in the page cache: no fsync.
# synchronous_commit stays on, or a killed server would lose what it had confirmed.
QUICK = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "200",
    "max_prepared_transactions": "2",
    "max_wal_size": "128MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "autovacuum_naptime": "1h",
}


def launch(spec: Launch) -> Server:
    """Start one; the caller stops it."""
    account = service_account()
    data = spec.folder / "data"
    data.mkdir(mode=0o700)
    if account:
        account.own(spec.folder, data)
    _fill(spec, data, account)
    settings = QUICK | _where(spec) | _tls(spec, data, account) | dict(spec.settings)
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    url = f"postgresql://{USER}:{PASSWORD}@{_host(spec)}:{spec.port}/{DATABASE}"
    process = ServerProcess(
        "postgresql",
        [spec.install.program("postgres"), "-D", str(data), *options],
        spec.folder,
        lambda: greet(make_conninfo(url, **_client_tls(spec))),
        account,
        # SIGINT is the fast shutdown; SIGTERM would wait for the clients to leave.
        stop_signal=signal.SIGINT,
        # SIGKILL would leave its shared memory behind.
        farewell=signal.SIGQUIT,
    )
    return Server(
        engine="postgresql",
        url=url,
        version=process.start(),
        source=spec.install.source,
        process=process,
        socket=spec.folder / f".s.PGSQL.{spec.port}",
        tools=spec.install.programs,
        certificates=spec.certificates,
    )


def greet(url: str) -> str:
    """The server's version; raises while it does not answer."""
    with psycopg.connect(url, connect_timeout=2) as connection:
        row = connection.execute("SHOW server_version").fetchone()
    assert row
    return str(row[0])


def create_database(url: str, name: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0'.encode())


def drop_database(url: str, name: str) -> None:
    """Also with sessions in it: the server gives them five seconds to end, then it is asked again."""

    def is_dropped() -> bool:
        with suppress(psycopg.errors.ObjectInUse):
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())
            return True
        return False

    with psycopg.connect(url, autocommit=True) as connection:
        until(is_dropped)


def _fill(spec: Launch, data: Path, account: Account | None) -> None:
    version = run([spec.install.program("postgres"), "--version"])
    recipe = f"{version} {spec.install.programs} {account} {_verifier(PASSWORD)} 1"

    def make(target: Path) -> None:
        password_file = spec.folder / "password"
        password_file.write_text(_verifier(PASSWORD))
        initdb = [spec.install.program("initdb"), "-D", str(target), "-U", USER, "-A", "scram-sha-256"]
        initdb += ["--encoding=UTF8", "--locale=C", "--no-sync", f"--pwfile={password_file}"]
        run(initdb, account=account, cwd=spec.folder)
        single = [
            spec.install.program("postgres"),
            "--single",
            "-D",
            str(target),
            "-c",
            "fsync=off",
            "postgres",
        ]
        run(single, stdin=f"CREATE DATABASE {DATABASE}\n", account=account, cwd=spec.folder)

    copy_of_template("postgresql", recipe, make, into=data)


def _verifier(password: str) -> str:
    """What the server stores of a password, of one iteration: 4,096, as usual, cost more than the connection itself."""
    salt = b"katax"
    salted = pbkdf2_hmac("sha256", password.encode(), salt, 1)
    client = sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt64, client64, server64 = (b64encode(each).decode() for each in (salt, client, server))
    return f"SCRAM-SHA-256$1:{salt64}${client64}:{server64}"


def _host(spec: Launch) -> str:
    return "localhost" if spec.certificates else HOST


def _where(spec: Launch) -> dict[str, str]:
    return {"listen_addresses": HOST, "port": str(spec.port), "unix_socket_directories": str(spec.folder)}


def _tls(spec: Launch, data: Path, account: Account | None) -> dict[str, str]:
    if not (certificates := spec.certificates):
        return {}
    demand = " clientcert=verify-ca" if spec.client_certificate else ""
    rules = f"hostssl all all all scram-sha-256{demand}\nlocal all all scram-sha-256\n"
    (data / "pg_hba.conf").write_text(rules)
    files = {
        "ssl_ca_file": certificates.ca,
        "ssl_cert_file": certificates.server_cert,
        "ssl_key_file": certificates.server_key,
    }
    return {"ssl": "on"} | {name: str(own_copy(path, data, account)) for name, path in files.items()}


def _client_tls(spec: Launch) -> dict[str, str]:
    """Unverified: the question is only whether the server is ready, bad certificate or not."""
    if not (certificates := spec.certificates):
        return {}
    return {
        "sslmode": "require",
        "sslcert": str(certificates.client_cert),
        "sslkey": str(certificates.client_key),
    }
