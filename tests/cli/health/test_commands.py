"""`katax health` over five real servers: each costs its own row only, and nothing is left on any of them."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cli.harness import Done, katax, write_profile
from tests.cli.processes import eventually
from tests.servers import Server
from tests.servers.fixtures import MakeFresh, MakeProxy
from tests.servers.proxy import Proxy
from tests.waiting import until

NETWORKED = ("postgresql", "mysql", "mongodb", "redis")
Doors = Mapping[str, Proxy]


@pytest.fixture
def doors(
    postgresql: Server, mysql: Server, mongodb: Server, redis_server: Server, proxy: MakeProxy, tmp_path: Path
) -> Doors:
    """A proxy before each server, and the profile `test` that leads through them; SQLite is there too."""
    servers = {"postgresql": postgresql, "mysql": mysql, "mongodb": mongodb, "redis": redis_server}
    found = {name: proxy(server) for name, server in servers.items()}
    write_profile(tmp_path, {**{name: door.url for name, door in found.items()}, "sqlite": "sqlite:///x.db"})
    return found


def statuses(report: Any) -> dict[str, str]:
    return {name: one["status"] for name, one in report["connections"].items()}


HEALTHY = dict.fromkeys((*NETWORKED, "sqlite"), "healthy")


def once_the_others_answer(timeout: str, *sick: str) -> Done:
    """All are asked again where one that is well had no time to answer: the machine may stand still for so long."""
    answers: list[Done] = []

    def asked() -> bool:
        answers.append(katax("health", "-f", "json", "--timeout", timeout))
        found = statuses(answers[-1].json)
        return all(found[name] == "healthy" for name in HEALTHY if name not in sick)

    until(asked)
    return answers[-1]


def calm(folder: Path) -> None:
    """Limits that a busy test machine keeps."""
    file = folder / "profiles" / "test.toml"
    file.write_text(file.read_text() + "\n[health]\ndegraded_ms = 20000\nunhealthy_ms = 30000\n")


def test_five_healthy_servers(doors: Doors, tmp_path: Path) -> None:
    calm(tmp_path)

    done = katax("health", "-f", "json", "--timeout", "60s")

    assert (done.code, done.err, done.json["status"], done.json["profile"]) == (0, "", "healthy", "test")
    assert statuses(done.json) == HEALTHY
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", done.json["timestamp"])
    for name, one in done.json["connections"].items():
        assert set(one) == {"status", "latency_ms", "connect_ms", "checks", "pool", "server", "errors"}
        assert one["latency_ms"] > 0
        assert one["connect_ms"] > 0
        assert set(one["pool"]) == {"max", "total", "active", "idle", "waiting"}
        assert one["pool"]["max"] == 1, name
        assert [check["name"] for check in one["checks"]] == ["connect", "ping", "write_role"]
        assert one["server"]["version"]
        assert one["errors"] == []


def test_a_probe_holds_one_connection_and_leaves_none(doors: Doors) -> None:
    katax("health")

    assert {name: doors[name].connections for name in ("postgresql", "mysql", "redis")} == {
        "postgresql": 1,
        "mysql": 1,
        "redis": 1,
    }
    assert doors["mongodb"].connections <= 3
    assert eventually(lambda: not any(door.open_connections for door in doors.values()))


@pytest.mark.parametrize("sick", NETWORKED)
@pytest.mark.parametrize("illness", ["refuse", "black_hole", "stall"])
def test_a_sick_server_costs_its_own_row_only(sick: str, illness: str, doors: Doors, tmp_path: Path) -> None:
    """Nobody waits for it longer than its deadline, which is a fraction of the test's own limit."""
    calm(tmp_path)
    getattr(doors[sick], illness)()

    done = once_the_others_answer("1500ms", sick)

    assert (done.code, done.json["status"]) == (3, "unhealthy")
    assert statuses(done.json) == {**HEALTHY, sick: "unhealthy"}
    row = done.json["connections"][sick]
    assert (row["latency_ms"], row["connect_ms"]) == (None, None)
    assert [check["status"] for check in row["checks"]] == ["unhealthy"]
    assert len(row["errors"]) == 1
    assert repr(sick) in row["errors"][0] or "no answer for" in row["errors"][0]


def test_all_are_sick_at_once(doors: Doors, tmp_path: Path) -> None:
    """Four deadlines in parallel are one: with one after the other, --timeout would be broken fourfold."""
    calm(tmp_path)
    for door in doors.values():
        door.black_hole()

    done = once_the_others_answer("1s", *NETWORKED)

    assert done.code == 3
    assert statuses(done.json) == {**dict.fromkeys(NETWORKED, "unhealthy"), "sqlite": "healthy"}


def test_a_slow_server_is_degraded(doors: Doors, tmp_path: Path) -> None:
    file = tmp_path / "profiles" / "test.toml"
    file.write_text(file.read_text() + "\n[health]\ndegraded_ms = 15\nunhealthy_ms = 20000\n")
    doors["postgresql"].slow(0.02)
    words = ["health", "postgresql", "--timeout", "30s"]

    done = katax(*words, "-f", "json")

    assert (done.code, done.json["status"]) == (1, "degraded")
    (ping,) = [check for check in done.json["connections"]["postgresql"]["checks"] if check["name"] == "ping"]
    assert re.fullmatch(r"took \d+ ms, healthy is less than 15 ms", ping["message"])
    assert katax(*words, "--fail-on", "unhealthy").code == 0


def test_a_server_slower_than_the_limit_is_unhealthy(doors: Doors, tmp_path: Path) -> None:
    file = tmp_path / "profiles" / "test.toml"
    file.write_text(file.read_text() + "\n[health]\ndegraded_ms = 10\nunhealthy_ms = 50\n")
    doors["redis"].slow(0.1)

    done = katax("health", "redis")

    assert (done.code, "  ping took " in done.out) == (3, True)
    assert katax("health", "redis", "--fail-on", "unhealthy").code == 3


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ((), [*NETWORKED, "sqlite"]),
        (("redis",), ["redis"]),
        (("sqlite", "mysql"), ["mysql", "sqlite"]),
        (("*sql*",), ["postgresql", "mysql", "sqlite"]),
        (("redis", "*sql"), ["postgresql", "mysql", "redis"]),
        (("-c", "mongodb"), ["mongodb"]),
    ],
)
def test_connections_are_chosen_by_name_and_glob(
    words: tuple[str, ...], shown: list[str], doors: Doors
) -> None:
    assert sorted(katax("health", "-f", "json", *words).json["connections"]) == sorted(shown)


def test_the_table(doors: Doors, tmp_path: Path) -> None:
    calm(tmp_path)
    doors["mysql"].refuse()

    done = katax("health")

    lines = done.out.splitlines()
    assert lines[0].split() == [
        "connection",
        "status",
        "latency_ms",
        "connect_ms",
        "pool",
        "server",
        "message",
    ]
    assert [line.split()[:2] for line in lines[2:]] == [
        [name, "unhealthy" if name == "mysql" else "healthy"] for name in (*NETWORKED, "sqlite")
    ]
    assert "'mysql' is not available" in lines[3]
    assert (done.code, done.err) == (3, "")


NAGIOS = re.compile(r"KATAX (OK|WARNING|CRITICAL) - (?P<text>[^|]*) \| (?P<data>[^|]*)\n")
PERFDATA = re.compile(r"'(?P<label>[^'=]+)'=(?P<value>[\d.]+)ms;(?P<warn>[\d.]+);(?P<crit>[\d.]+);0")


def test_nagios(doors: Doors, tmp_path: Path) -> None:
    """The plugin guidelines: status and text, then label=value[unit];warn;crit;min."""
    calm(tmp_path)
    healthy = katax("health", "-f", "nagios")
    doors["mysql"].refuse()
    sick = katax("health", "-f", "nagios")

    found = NAGIOS.fullmatch(healthy.out)
    assert found
    assert (healthy.code, found["text"]) == (0, "test: 5 healthy")
    data = [PERFDATA.fullmatch(word) for word in found["data"].split()]
    assert all(data)
    assert [each["label"] for each in data if each] == [*NETWORKED, "sqlite"]
    assert {(each["warn"], each["crit"]) for each in data if each} == {("20000", "30000")}
    found = NAGIOS.fullmatch(sick.out)
    assert found
    assert (sick.code, found[1]) == (2, "CRITICAL")
    assert found["text"].startswith("test: mysql unhealthy ('mysql' is not available: ")
    assert "'mysql'" not in found["data"]


@pytest.mark.parametrize("words", [("nowhere",), ("--fail-on", "x"), ("--nothing",), ("-p", "prdo")])
def test_what_nagios_cannot_check_is_unknown(words: tuple[str, ...], doors: Doors) -> None:
    done = katax("health", "-f", "nagios", *words)

    assert done.code == 3
    assert done.out.startswith("KATAX UNKNOWN - ")
    assert done.out == f"KATAX UNKNOWN - {done.err.removeprefix('katax: ')}"


def test_nagios_has_its_own_code_for_degraded(doors: Doors, tmp_path: Path) -> None:
    file = tmp_path / "profiles" / "test.toml"
    file.write_text(file.read_text() + "\n[health]\ndegraded_ms = 0.001\nunhealthy_ms = 30000\n")

    assert katax("health", "-f", "nagios", "redis").code == 1


SAMPLE = re.compile(
    r'(?P<name>[a-z_]+)\{(?P<labels>(?:[a-z]+="(?:[^"\\\n]|\\.)*",?)+)\} (?P<value>[-+.\de]+)'
)


def samples(text: str) -> Iterator[tuple[str, str, float]]:
    """The text format 0.0.4, checked line by line."""
    announced: set[str] = set()
    for line in text.splitlines():
        if line.startswith("# "):
            _, kind, name, *rest = line.split(" ", 3)
            assert kind in ("HELP", "TYPE")
            assert rest
            announced.add(name)
            continue
        found = SAMPLE.fullmatch(line)
        assert found, line
        assert found["name"] in announced
        (connection,) = re.findall(r'connection="([^"]*)"', found["labels"])
        yield found["name"], connection, float(found["value"])


def test_prometheus(doors: Doors, tmp_path: Path) -> None:
    calm(tmp_path)
    doors["mysql"].refuse()

    done = katax("health", "-f", "prometheus", "--timeout", "60s")

    assert (done.code, done.err) == (3, "")
    found = list(samples(done.out))
    assert {(connection, value) for name, connection, value in found if name == "katax_up"} == {
        *((name, 1.0) for name in (*NETWORKED, "sqlite") if name != "mysql"),
        ("mysql", 0.0),
    }
    pinged = [connection for name, connection, _ in found if name == "katax_ping_seconds"]
    assert sorted(pinged) == ["mongodb", "postgresql", "redis", "sqlite"]
    assert all(0 < value < 20 for name, _, value in found if name.endswith("_seconds"))
    assert "127.0.0.1" not in done.out


def test_nothing_to_check(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "test.toml").write_text('role = "dev"\n[connections]\n')

    done = katax("-p", "test", "health", "-f", "json")

    assert (done.code, done.json["connections"]) == (0, {}), done.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--fail-on", "healthy"), "no status named 'healthy'; expected one of: degraded, unhealthy"),
        (("--interval", "soon"), "'soon' is no duration"),
        (("--interval", "0"), "it is 0, expected more than 0 seconds"),
        (("--watch", "-o", "x"), "--watch does not end, so -o cannot write a whole file; redirect stdout"),
        (("-f", "yaml"), "knows table, vertical, markdown, json, jsonl, csv, tsv, nagios, prometheus"),
    ],
)
def test_wrong_words(words: tuple[str, ...], says: str, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "sqlite:///x.db"})

    done = katax("health", *words)

    assert (done.code, says in done.err, done.stdout) == (2, True, b""), done.err


def test_health_uses_no_breaker_and_tries_once(fresh: MakeFresh, proxy: MakeProxy, tmp_path: Path) -> None:
    """Even where the profile asks for retries."""
    door = proxy(fresh("redis"))
    write_profile(tmp_path, {"cache": door.url}, extra="[retry]\nattempts = 5\ninitial = 0.01\n")
    door.cut_after(lambda _: True, forward=False)

    done = katax("health", "-f", "json")

    assert done.code == 3
    assert door.connections == 1
    assert json.loads(done.out)["connections"]["cache"]["errors"]
