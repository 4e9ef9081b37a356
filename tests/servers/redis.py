"""Redis of the tests: behind a password, append-only so that a killed one comes back with its data."""

import redis

from tests.servers.launch import HOST, Launch, own_copy
from tests.servers.process import ServerProcess
from tests.servers.server import PASSWORDS, Server

PASSWORD = PASSWORDS["redis"]
QUICK = {"save": "", "appendonly": "yes", "appendfsync": "no", "requirepass": PASSWORD, "databases": "64"}


def launch(spec: Launch) -> Server:
    """Start one; the caller stops it."""
    socket = spec.folder / "redis.sock"
    # An ACL file replaces requirepass; Redis refuses to start with both.
    quick = {
        name: value
        for name, value in QUICK.items()
        if "aclfile" not in spec.settings or name != "requirepass"
    }
    where = {"bind": HOST, "dir": str(spec.folder), "unixsocket": str(socket), "unixsocketperm": "700"}
    settings = quick | where | _ports(spec) | dict(spec.settings)
    options = [word for name, value in settings.items() for word in (f"--{name}", value)]
    url = f"redis://:{PASSWORD}@{HOST}:{spec.port}/0"
    if spec.certificates:
        url = f"rediss://:{PASSWORD}@localhost:{spec.port}/0"
    process = ServerProcess(
        "redis",
        [spec.install.program("redis-server"), *options],
        spec.folder,
        lambda: greet(url, **_client_tls(spec)),
    )
    return Server(
        engine="redis",
        url=url,
        version=process.start(),
        source=spec.install.source,
        process=process,
        socket=socket,
        tools=spec.install.programs,
        certificates=spec.certificates,
    )


def greet(url: str, **tls: str) -> str:
    """The server's version; raises while it does not answer or still loads."""
    with redis.Redis.from_url(url, socket_timeout=2, retry=None, **tls) as client:
        return str(client.info("server")["redis_version"])


# What the user of the ACL file may do: keys and channels under app:, nothing dangerous.
ACL_USER, ACL_PASSWORD = "app", "s3cr3t-katax-acl"
ACL = f"""user default on >{PASSWORD} ~* &* +@all
user {ACL_USER} on >{ACL_PASSWORD} ~app:* &app:* +@all -@dangerous -@admin
"""


def flush(url: str) -> None:
    """Empty the database of `url`."""
    with redis.Redis.from_url(url) as client:
        client.flushdb()


def _ports(spec: Launch) -> dict[str, str]:
    if not (certificates := spec.certificates):
        return {"port": str(spec.port)}
    files = {
        "tls-ca-cert-file": certificates.ca,
        "tls-cert-file": certificates.server_cert,
        "tls-key-file": certificates.server_key,
    }
    copies = {name: str(own_copy(path, spec.folder, None)) for name, path in files.items()}
    demand = "yes" if spec.client_certificate else "no"
    return copies | {"port": "0", "tls-port": str(spec.port), "tls-auth-clients": demand}


def _client_tls(spec: Launch) -> dict[str, str]:
    if not (certificates := spec.certificates):
        return {}
    return {
        "ssl_cert_reqs": "none",
        "ssl_certfile": str(certificates.client_cert),
        "ssl_keyfile": str(certificates.client_key),
    }
