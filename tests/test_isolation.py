"""No test sees the developer's configuration."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

PERSONAL = {
    "KATAX_PROFILE": "prod",
    "KATAX_TEST_NOTHING": "stays: the servers are chosen by such variables",
    "DATABASE_URL": "postgresql://prod/app",
    "REDIS_URL": "redis://prod/0",
    "MYSQL_URL": "mysql://prod/app",
    "MONGODB_URL": "mongodb://prod/app",
    "PGPASSWORD": "secret",
    "NO_COLOR": "1",
    "XDG_CONFIG_HOME": "/etc",
}


@pytest.fixture(scope="module", autouse=True)
def personal_settings() -> Iterator[None]:
    """Wider than the isolation of each test, hence there before it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in PERSONAL.items():
            patch.setenv(name, value)
        yield


@pytest.mark.parametrize("name", [name for name in PERSONAL if name != "KATAX_TEST_NOTHING"])
def test_personal_variables_are_gone(name: str) -> None:
    assert name not in os.environ


def test_the_choice_of_servers_stays() -> None:
    assert "KATAX_TEST_NOTHING" in os.environ


@pytest.mark.parametrize("time", ["first", "second"])
def test_home_and_working_directory_are_empty_each_time(time: str, isolated: Path) -> None:
    assert Path.home() == isolated
    for folder in (Path.home(), Path.cwd(), Path(os.environ["XDG_RUNTIME_DIR"])):
        assert list(folder.iterdir()) == []
        (folder / time).touch()


def test_the_working_directory_is_the_tests_own(tmp_path: Path, isolated: Path) -> None:
    assert Path.cwd() == tmp_path
    assert not tmp_path.is_relative_to(isolated)


def test_the_runtime_folder_is_ours_alone() -> None:
    assert Path(os.environ["XDG_RUNTIME_DIR"]).stat().st_mode & 0o077 == 0
