"""PgBouncer in front of a PostgreSQL of the tests."""

from pathlib import Path

from tests.servers import postgresql
from tests.servers.installs import install
from tests.servers.launch import HOST
from tests.servers.process import ServerProcess
from tests.servers.rooms import free_port, service_account
from tests.servers.server import Server, reroute


def launch(upstream: Server, folder: Path, *, pool_size: int = 5, mode: str = "transaction") -> Server:
    """Start one; the caller stops it. Sessions that a test leaves idle in a transaction block `pool_size` slots."""
    found, account, port = install("pgbouncer"), service_account(), free_port()
    files = {"users.txt": f'"{upstream.user}" "{upstream.password}"\n'}
    files["pgbouncer.ini"] = _configuration(upstream, folder, port=port, pool_size=pool_size, mode=mode)
    for name, text in files.items():
        (folder / name).write_text(text)
    if account:
        account.own(folder, *(folder / name for name in files))
    url = reroute(upstream.url, HOST, port)
    process = ServerProcess(
        "pgbouncer",
        [found.program("pgbouncer"), str(folder / "pgbouncer.ini")],
        folder,
        lambda: postgresql.greet(url),
        account,
    )
    return Server(
        engine="postgresql",
        url=url,
        version=process.start(),
        source=found.source,
        process=process,
        socket=folder / f".s.PGSQL.{port}",
        tools=upstream.tools,
    )


def _configuration(upstream: Server, folder: Path, *, port: int, pool_size: int, mode: str) -> str:
    return f"""[databases]
* = host={upstream.host} port={upstream.port}
[pgbouncer]
listen_addr = {HOST}
listen_port = {port}
unix_socket_dir = {folder}
auth_type = scram-sha-256
auth_file = {folder / "users.txt"}
admin_users = {upstream.user}
pool_mode = {mode}
default_pool_size = {pool_size}
server_round_robin = 1
ignore_startup_parameters = extra_float_digits
"""
