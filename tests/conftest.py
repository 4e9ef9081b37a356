"""Every test sees real servers when it asks for them, and nothing of the developer's configuration."""

import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import hypothesis
import pytest

from katax_cli.core import settings
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.state import schema, store
from tests.waiting import SECONDS

pytest_plugins = ["tests.servers.plugin", "tests.servers.fixtures"]

STATE_SECONDS = 30.0
"""Longest time of one call on the state database, in this process."""
FOREIGN = (
    "KATAX_",
    "PG",
    "MYSQL_",
    "MONGODB_",
    "REDIS",
    "XDG_",
    "DATABASE_URL",
    "NO_COLOR",
    "FORCE_COLOR",
    "CLICOLOR",
    "COLUMNS",
    "LINES",
)


def pytest_configure() -> None:
    """Ctrl-C works in tests also when the suite was started in the background, where a shell ignores it.

    And what was compiled is kept, whatever the environment says: hundreds of tests start Python anew.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    # Neither an example nor their making has to be quick: the machine may be busy. And the examples are the same in
    # each run, as they are by default where CI is set.
    hypothesis.settings.register_profile(
        "patient",
        deadline=None,
        derandomize=True,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
        database=None,
    )
    hypothesis.settings.load_profile("patient")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Modules and tests stay until the end: the collector need not look at them while they are made, nor ever after."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest begin first; all others keep their order, which may be random."""
    items.sort(key=lambda item: item.get_closest_marker("begins_first") is None)


@pytest.fixture(autouse=True)
def isolated(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, spotless: Callable[[str], Path]
) -> Path:
    """An empty home, which it returns; `tmp_path` as working directory; no variable that katax or a driver reads.

    And no secret that another test revealed: it would be masked in this one's messages. And katax's logger as it is
    in a program: commands that run beside each other in one process leave it as one of them found it. And time for
    Redis to answer, which on a busy machine takes more than the usual two seconds.
    """
    log = logging.getLogger("katax")
    log.setLevel(logging.NOTSET)
    log.propagate = True
    log.handlers.clear()
    monkeypatch.setattr(settings, "_revealed", set())
    # A disk that stands still for seconds is none of what tests of the state database are about.
    monkeypatch.setattr(store, "SECONDS", STATE_SECONDS)
    monkeypatch.setattr(schema, "_TIMEOUT", STATE_SECONDS)
    monkeypatch.setattr(RedisDatabase, "patience", SECONDS)
    for name in list(os.environ):
        if name.startswith(FOREIGN) and not name.startswith("KATAX_TEST_"):
            monkeypatch.delenv(name)
    home = spotless("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(spotless("run")))
    asked = "tmp_path" in request.fixturenames
    monkeypatch.chdir(request.getfixturevalue("tmp_path") if asked else spotless("cwd"))
    return home


@pytest.fixture(scope="session")
def spotless(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Empty folders, lent again while they stay empty: making them anew would cost more than most tests do."""
    folders: dict[str, Path] = {}

    def lend(name: str) -> Path:
        if name not in folders or any(folders[name].iterdir()):
            folders[name] = tmp_path_factory.mktemp(name)
        return folders[name]

    return lend
