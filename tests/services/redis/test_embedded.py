"""What `katax local` shows and ends."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from katax_cli.core.settings import ConnectionSettings
from katax_cli.engines.redis import create, embedded
from katax_cli.services.redis import embedded as local
from tests.waiting import SECONDS

Start = Callable[[str], Path]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts the embedded server of a project; returns its `.katax`."""
    homes: list[Path] = []
    monkeypatch.setattr(local, "_ASK_TIMEOUT", SECONDS)

    def launch(project: str) -> Path:
        home = tmp_path / project / ".katax"
        homes.append(home)
        settings = ConnectionSettings("cache", "redis", embedded=True, path=str(home / "redis"))
        engine = create(settings)
        engine.close(engine.connect(60.0))
        return home

    yield launch
    for home in homes:
        local.stop(home)


def test_a_project_without_a_server_has_no_row(tmp_path: Path) -> None:
    assert local.status(tmp_path) == []
    assert local.stop(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_running_server_reports_itself(start: Start) -> None:
    home = start("a")
    (row,) = local.status(home)
    assert (row.connection, row.folder, row.running) == ("cache", str((home / "redis").resolve()), True)
    assert row.socket == str(embedded.Home.of(home / "redis").socket())
    assert row.pid == int((home / "redis" / "redis.pid").read_text())
    assert row.version
    assert row.uptime_seconds is not None
    assert row.uptime_seconds >= 0
    assert row.memory_bytes is not None
    assert row.memory_bytes > 100_000


def test_stop_ends_it_and_says_what_it_was(start: Start) -> None:
    home = start("a")
    (before,) = local.status(home)
    stopped = local.stop(home)
    assert stopped is not None
    assert stopped.pid == before.pid
    assert local.status(home) == [local.LocalServer("cache", before.folder, running=False)]
    assert local.stop(home) is None


def test_all_shows_the_other_projects_too(start: Start) -> None:
    first, second, third = start("a"), start("b"), start("c")
    local.stop(third)
    folders = [str((home / "redis").resolve()) for home in (first, second)]
    # Servers of this user that other programs embed are listed too.
    shown = {row.folder: row.running for row in local.status(first, all=True)}
    assert [shown.get(folder) for folder in folders] == [True, True]
    assert str((third / "redis").resolve()) not in shown
    assert [row.folder for row in local.status(first)] == folders[:1]


def test_a_server_whose_socket_is_gone_is_still_shown(start: Start) -> None:
    home = start("a")
    embedded.Home.of(home / "redis").socket().unlink()
    (row,) = local.status(home)
    assert row.running
    assert row.pid is None
    assert local.stop(home) is not None
