"""Servers from tests/docker-compose.yml, for machines with a Docker engine; one set for all test workers."""

import functools
import os
import shutil
import subprocess
from pathlib import Path

from pytest_docker.plugin import get_docker_ip, get_docker_services

from tests.servers import mysql
from tests.servers.rooms import cache_folder, locked
from tests.servers.server import DATABASE, PASSWORDS, USER

COMPOSE_FILE = Path(__file__).parents[1] / "docker-compose.yml"
PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306, "mongodb": 27017, "redis": 6379}
URLS = {
    "postgresql": f"postgresql://{USER}:{PASSWORDS['postgresql']}@{{}}/{DATABASE}",
    "mysql": f"mysql://{USER}:{PASSWORDS['mysql']}@{{}}/{DATABASE}",
    "mariadb": f"mysql://{USER}:{PASSWORDS['mysql']}@{{}}/{DATABASE}",
    "mongodb": f"mongodb://{{}}/{DATABASE}",
    "redis": f"redis://:{PASSWORDS['redis']}@{{}}/0",
}


@functools.cache
def running() -> bool:
    """Whether a Docker engine with compose answers; asked once, given half a minute."""
    if not shutil.which("docker"):
        return False
    return all(_quietly("docker", *words) for words in (("info",), ("compose", "version")))


def url(service: str) -> str:
    """Bring `service` up, wait for its health check, and return its URL."""
    with locked(cache_folder() / "docker.lock"):
        _run_note().touch()
        up = f"up -d --wait {service}"
        # No clean-up command: the others may still use it; `down` ends it for all.
        with get_docker_services("docker compose", str(COMPOSE_FILE), _project(), [up], []) as services:
            address = f"{get_docker_ip()}:{services.port_for(service, PORTS[service])}"
    found = URLS[service].format(address)
    if service in ("mysql", "mariadb"):
        mysql.grant_all(found, root_password=PASSWORDS["mysql"])
    return found


def used() -> bool:
    """Whether some worker of this run brought a container up."""
    return _run_note().exists()


def down() -> None:
    """Remove what this test session brought up; called once, when its last worker has ended."""
    _run_note().unlink(missing_ok=True)
    command = [
        "docker",
        "compose",
        "-f",
        str(COMPOSE_FILE),
        "-p",
        _project(),
        "down",
        "-v",
        "--remove-orphans",
    ]
    subprocess.run(command, capture_output=True, check=False)


def _project() -> str:
    """The same for all workers of one run, another for each run."""
    return "katax-" + os.environ.setdefault("KATAX_TEST_RUN", str(os.getpid()))


def _run_note() -> Path:
    return cache_folder() / f"docker-{_project()}.run"


def _quietly(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0
    except (subprocess.TimeoutExpired, OSError):
        return False
