"""Every test sees real servers when it asks for them, and nothing of the developer's configuration."""

import os
from pathlib import Path

import pytest

pytest_plugins = ["tests.servers.plugin", "tests.servers.fixtures"]

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
)


@pytest.fixture(autouse=True)
def isolated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An empty home, `tmp_path` as working directory, no variable that katax or a driver would read."""
    for name in list(os.environ):
        if name.startswith(FOREIGN) and not name.startswith("KATAX_TEST_"):
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    runtime = home / "run"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.chdir(tmp_path)
    return home
