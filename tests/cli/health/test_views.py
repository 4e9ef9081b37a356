"""`katax health --verbose`: the right layer and its cause for each fault, in time, and nothing left behind."""

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest

from katax_cli.cli.health.views import deep_rows
from katax_cli.snapshot import ConnectionHealth, Depth, Headroom, HealthReport
from tests.cli.harness import katax, write_profile
from tests.cli.processes import eventually
from tests.servers import PASSWORDS, Server, make_certificates
from tests.servers.fixtures import MakeFresh, MakeProxy, Target, Throwaway
from tests.waiting import patiently

CALM = "\n[health]\ndegraded_ms = 20000\nunhealthy_ms = 30000\n"
LAYERS = ["dns", "tcp", "tls", "auth", "read", "write_role", "lag"]
NETWORKED = ("postgresql", "mysql", "mongodb", "redis")


def examined(folder: Path, url: str, *words: str, keys: str = "") -> tuple[int, Any]:
    """The exit code, and what is said of the one connection of this URL."""
    file = write_profile(folder, {"main": url})
    file.write_text(file.read_text() + keys + CALM)
    done = katax("health", "--verbose", "-f", "json", *words)
    return done.code, done.json["connections"]["main"]


def found_ill(folder: Path, url: str, layer: str, cause: str, *, shortest: float, keys: str = "") -> Any:
    """What is said of this URL, whose layer is ill; asked with more time where a busy machine used up the little."""
    told: list[Any] = []

    def is_told(seconds: float) -> bool:
        code, found = examined(folder, url, "--timeout", f"{seconds * 1000:.0f}ms", keys=keys)
        told.append(found)
        return (code, found.get("first_failing_layer")) == (3, layer) and cause in str(found["likely_cause"])

    patiently(is_told, shortest=shortest)
    return told[-1]


def statuses(found: Mapping[str, Any]) -> dict[str, str]:
    return {check["name"]: check["status"] for check in found["checks"]}


def test_a_healthy_server_of_each_engine(engine: Target, tmp_path: Path) -> None:
    code, found = examined(tmp_path, engine.url)

    assert (code, found["status"], found["errors"]) == (0, "healthy", [])
    assert list(statuses(found)) == LAYERS
    assert (found["first_failing_layer"], found["likely_cause"]) == (None, None)
    passed = {name for name, status in statuses(found).items() if status == "healthy"}
    assert passed == {"auth", "read", "write_role"} | (set() if engine.engine == "sqlite" else {"dns", "tcp"})
    assert all((check["latency_ms"] or 0) > 0 for check in found["checks"] if check["name"] in passed)
    assert found["server"]["version"]
    expected = {
        "postgresql": {"connections", "wraparound_age", "oldest_transaction"},
        "mysql": {"connections", "oldest_transaction"},
        "sqlite": {"wal", "disk"},
        "redis": {"connections", "memory"},
        "mongodb": set(),
    }
    rooms = {room["name"]: room for room in found["headroom"]}
    assert set(rooms) >= expected[engine.engine]
    assert all(0 <= room["used"] <= (room["limit"] or room["used"]) for room in rooms.values())


@pytest.mark.parametrize("name", NETWORKED)
@pytest.mark.parametrize(
    ("illness", "layer", "cause"),
    [
        ("refuse", "tcp", "nothing listens there"),
        ("black_hole", "auth", "accepts connections and then does not answer"),
        ("stall", "auth", "accepts connections and then does not answer"),
    ],
)
def test_a_sick_server(
    name: str, illness: str, layer: str, cause: str, fresh: MakeFresh, proxy: MakeProxy, tmp_path: Path
) -> None:
    door = proxy(fresh(name))
    getattr(door, illness)()

    url = f"{door.url}{'&' if '?' in door.url else '?'}connect_timeout=2"
    found = found_ill(tmp_path, url, layer, cause, shortest=1.5)

    index = LAYERS.index(layer)
    assert [statuses(found)[each] for each in LAYERS[index:]] == ["unhealthy", *["skipped"] * (6 - index)]
    door.resume()
    assert eventually(lambda: door.open_connections == 0)


def test_packets_that_nobody_answers(unreachable_port: int, tmp_path: Path) -> None:
    url = f"redis://127.0.0.1:{unreachable_port}/0"
    found_ill(tmp_path, url, "tcp", "a firewall drops packets", shortest=0.5)


def test_a_name_that_does_not_exist(tmp_path: Path) -> None:
    code, found = examined(tmp_path, "mysql://app@nowhere.invalid:3306/app")

    assert (code, found["first_failing_layer"]) == (3, "dns")
    assert "check host" in found["likely_cause"]


@pytest.mark.parametrize("name", ["postgresql", "mysql", "redis"])
def test_a_changed_password(name: str, fresh: MakeFresh, tmp_path: Path) -> None:
    code, found = examined(tmp_path, fresh(name).url.replace(PASSWORDS[name], "changed"))

    assert (code, found["first_failing_layer"]) == (3, "auth")
    assert "the password was changed" in found["likely_cause"]
    assert [statuses(found)[each] for each in ("dns", "tcp")] == ["healthy", "healthy"]


def mysql_session(server: Server) -> Any:
    return pymysql.connect(host=server.host, port=server.port, user=server.user, password=server.password)


def postgresql_session(server: Server) -> Any:
    return psycopg.connect(server.url)


def take(count: int, one: Callable[[], object]) -> None:
    for _ in range(count):
        one()


@pytest.mark.parametrize(
    ("name", "connect", "refusal"),
    [
        ("mysql", mysql_session, pymysql.OperationalError),
        ("postgresql", postgresql_session, psycopg.OperationalError),
    ],
)
def test_all_connections_taken(
    name: str,
    connect: Callable[[Server], Any],
    refusal: type[Exception],
    throwaway: Throwaway,
    tmp_path: Path,
) -> None:
    server = throwaway(name, settings={"max_connections": "8"})
    with ExitStack() as taken:
        with pytest.raises(refusal):
            take(20, lambda: taken.enter_context(connect(server)))
        code, found = examined(tmp_path, server.url)
        assert (code, found["first_failing_layer"]) == (3, "auth")
        assert "all connections of the server are taken" in found["likely_cause"]
        assert [statuses(found)[each] for each in ("tcp", "auth", "read")] == [
            "healthy",
            "unhealthy",
            "skipped",
        ]

    assert eventually(lambda: examined(tmp_path, server.url)[0] == 0)


def test_a_demoted_primary(postgresql_url: str, tmp_path: Path) -> None:
    """A ping is green on it, the verdict is not, with --verbose or without. `expect` says what it should be."""
    with psycopg.connect(postgresql_url, autocommit=True) as admin:
        name = admin.execute("SELECT quote_ident(current_database())").fetchone()
        admin.execute(f"ALTER DATABASE {name[0] if name else ''} SET default_transaction_read_only = on")

    assert katax_status(tmp_path, postgresql_url) == "unhealthy"
    code, found = examined(tmp_path, postgresql_url)
    assert (code, found["first_failing_layer"]) == (3, "write_role")
    assert "a failover made it a standby" in found["likely_cause"]
    assert statuses(found)["read"] == "healthy"
    for keys, status in [
        ("read_only = true\n", "healthy"),
        ('expect = "any"\n', "healthy"),
        ('expect = "standby"\n', "healthy"),
        ('read_only = true\nexpect = "primary"\n', "unhealthy"),
    ]:
        assert examined(tmp_path, postgresql_url, keys=keys)[0] == (0 if status == "healthy" else 3)
        assert katax_status(tmp_path, postgresql_url, keys) == status


def test_a_primary_where_a_standby_is_expected(postgresql_url: str, tmp_path: Path) -> None:
    assert katax_status(tmp_path, postgresql_url, 'expect = "standby"\n') == "unhealthy"
    line = katax("health", "-f", "nagios").out
    assert line.startswith(
        "KATAX CRITICAL - test: main unhealthy (takes writes, a standby was expected; primary; "
    )


def katax_status(folder: Path, url: str, keys: str = "") -> str:
    """The plain verdict, the one without --verbose."""
    file = write_profile(folder, {"main": url})
    file.write_text(file.read_text() + keys + CALM)
    return str(katax("health", "-f", "json").json["status"])


def tls(authority: Path, mode: str = "verify-full") -> str:
    return f'tls = {{ mode = "{mode}", ca = "{authority}" }}\n'


@pytest.mark.parametrize("name", ["postgresql", "mysql", "redis"])
def test_an_expired_certificate(name: str, throwaway: Throwaway, tmp_path: Path) -> None:
    expired = make_certificates(tmp_path / "ca", expired=True)
    server = throwaway(name, certificates=expired)

    code, found = examined(tmp_path, bare(server), keys=tls(expired.ca))
    assert (code, found["first_failing_layer"]) == (3, "tls")
    assert found["likely_cause"] == "the server's certificate has expired; renew it"
    _, trusting = examined(tmp_path, bare(server), keys=tls(expired.ca, "require"))
    assert (trusting["certificate_days"], statuses(trusting)["tls"]) == (-1.0, "degraded")


def bare(server: Server) -> str:
    """Its URL without what it says of encryption."""
    return server.url.partition("?")[0].replace("rediss:", "redis:")


@pytest.mark.parametrize("name", ["postgresql", "mysql", "redis"])
def test_days_to_expiry(name: str, request: pytest.FixtureRequest, certificates: Any, tmp_path: Path) -> None:
    server: Server = request.getfixturevalue(f"tls_{name}")

    _, found = examined(tmp_path, bare(server), keys=tls(certificates.ca))

    assert 1.8 < found["certificate_days"] <= 2.0
    assert (statuses(found)["tls"], statuses(found)["auth"]) == ("degraded", "healthy")


def test_no_tls_where_it_is_asked_for(redis_url: str, tmp_path: Path) -> None:
    keys = 'tls = { mode = "require" }\n'

    found_ill(tmp_path, redis_url, "tls", "speaks no TLS there", shortest=2.0, keys=keys)


def test_the_table_names_the_first_failing_layer(closed_port: int, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": f"redis://127.0.0.1:{closed_port}/0"})

    done = katax("health", "-v", "-f", "csv")

    assert done.out.splitlines()[0] == "connection,kind,name,status,latency_ms,message"
    assert "refused; likely cause: nothing listens there" in done.out.splitlines()[2]


def test_a_hundred_connections_one_dead(
    postgresql: Server, mysql: Server, mongodb: Server, redis_server: Server, deaf_port: int, tmp_path: Path
) -> None:
    """Nobody waits for the dead one."""
    servers = (postgresql, mysql, mongodb, redis_server)
    urls = {f"{one.engine}{number}": one.url for one in servers for number in range(20)}
    urls |= {f"sqlite{number}": f"sqlite:///{number}.db" for number in range(19)}
    file = write_profile(tmp_path, {**urls, "dead": f"redis://127.0.0.1:{deaf_port}/0?connect_timeout=2"})
    file.write_text(file.read_text() + CALM)

    done = katax("health", "-v", "-f", "json", "--timeout", "2m")

    found = {name: one["status"] for name, one in done.json["connections"].items()}
    assert (done.code, len(found), found.pop("dead")) == (3, 100, "unhealthy")
    assert set(found.values()) == {"healthy"}, [name for name in found if found[name] != "healthy"]


def test_a_tripped_circuit_with_a_reason_is_maintenance(closed_port: int, tmp_path: Path) -> None:
    """What is seen is shown and does not count; that it is tripped does, with a reason or without."""
    urls = {"main": f"redis://127.0.0.1:{closed_port}/0", "file": "sqlite:///x.db"}
    file = write_profile(tmp_path, urls)
    file.write_text(file.read_text() + CALM)

    assert katax("circuit", "trip", "main").code == 0
    assert katax("health").code == 3
    assert katax("circuit", "trip", "main", "--reason", "new disks").code == 0
    done = katax("health", "-f", "json")
    assert (done.code, done.json["status"]) == (1, "degraded")
    assert done.json["connections"]["main"]["checks"][-1]["name"] == "circuit"
    assert done.json["connections"]["main"]["status"] == "unhealthy"
    assert done.json["connections"]["main"]["maintenance"].endswith(": new disks")
    assert "main under maintenance" in katax("health", "-f", "nagios").out
    assert "new disks" in katax("health", "-v").out
    assert json.loads(katax("circuit", "reset", "main", "-f", "json").out)["state"] == "closed"
    assert katax("health").code == 3


def test_amounts_are_for_people() -> None:
    said = [
        Headroom("disk", 7.5e9, 1e10, "bytes"),
        Headroom("wal", 0, None, "bytes"),
        Headroom("oldest_transaction", 90.0, None, "seconds"),
        Headroom("wraparound_age", 12_000, 2e9, "transactions"),
    ]
    health = ConnectionHealth("healthy", None, None, depth=Depth(headroom=tuple(said)))

    rows = deep_rows(HealthReport("healthy", datetime.now(), "shop", {"main": health}))

    assert [row[-1] for row in rows] == [
        "75.0% of 10.0 GB",
        "0 B",
        "1 min 30 s",
        "0.0% of 2,000,000,000 transactions",
    ]
