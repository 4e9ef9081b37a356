"""What pytest is told about servers: what runs, what cannot run here, and that a skip in CI is a failure."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.servers import docker
from tests.servers.fleet import ENGINES, GREETERS, given_url, source


class SkipWatch:
    """Notes every skip but the expected failures; with CI set, they fail the run and are named."""

    def __init__(self) -> None:
        self.skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skipped.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self.skipped.append(report.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.skipped and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.skipped:
            terminalreporter.section("skipped, which CI counts as failed")
            for name in self.skipped:
                terminalreporter.line(name)


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("CI") == "true":
        config.pluginmanager.register(SkipWatch(), "skip-watch")
    # Workers inherit it: all of a run share what Docker brought up.
    os.environ.setdefault("KATAX_TEST_RUN", str(os.getpid()))
    # Docker finds its compose plugin and contexts there, also from within a test, whose HOME is empty.
    os.environ.setdefault("DOCKER_CONFIG", str(Path.home() / ".docker"))


def pytest_report_header() -> list[str]:
    servers = ", ".join(f"{engine}: {source(engine)}" for engine in ENGINES)
    missing = ", ".join(f"{mark} ({why})" for mark, why in unavailable().items())
    return [
        f"servers: {servers}",
        f"deselected unless reachable: {missing}" if missing else "deselected: none",
    ]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    missing = set(unavailable())
    if "soak" in (config.option.markexpr or ""):
        missing.discard("soak")
    out = [item for item in items if missing & {mark.name for mark in item.iter_markers()}]
    if out:
        config.hook.pytest_deselected(items=out)
        gone = set(map(id, out))
        items[:] = [item for item in items if id(item) not in gone]


def unavailable() -> dict[str, str]:
    """Marks whose tests cannot run here, each with the reason."""
    found = {
        "needs_mongod": "" if has_mongod() else "no mongod on PATH, no KATAX_TEST_MONGODB_URL",
        "needs_mysql8": "" if has_mysql8() else "no MySQL on PATH, no KATAX_TEST_MYSQL_URL of one",
        "needs_docker": "" if docker.running() else "docker info fails",
        "needs_node": "" if shutil.which("node") else "no node on PATH",
        "soak": "on demand: -m soak",
    }
    return {mark: why for mark, why in found.items() if why}


def has_mongod() -> bool:
    return bool(given_url("mongodb") or docker.running() or shutil.which("mongod"))


def has_mysql8() -> bool:
    """Whether the `mysql` fixture gives MySQL proper."""
    if url := given_url("mysql"):
        return "mariadb" not in GREETERS["mysql"](url).lower()
    return docker.running() or _mysqld_is_mysql()


def _mysqld_is_mysql() -> bool:
    mysqld = shutil.which("mysqld", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if not mysqld or shutil.which("mariadbd"):
        return False
    says = subprocess.run([mysqld, "--version"], capture_output=True, text=True, check=False).stdout
    return "mariadb" not in says.lower()


def pytest_unconfigure() -> None:
    """Containers go when the run ends; workers leave that to the controller."""
    if "PYTEST_XDIST_WORKER" not in os.environ and docker.used():
        docker.down()
