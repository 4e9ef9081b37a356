"""The `.katax/` folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from katax_cli.errors import ConfigError, UntrustedFile
from katax_cli.profiles.sources.home import ensure_home, katax_home
from tests.profiles.conftest import Project, make_foreign


def test_the_nearest_upward_else_its_own(project: Project) -> None:
    sub = project.folder / "a" / "b"
    sub.mkdir(parents=True)
    assert katax_home(str(sub), project.environ) == str(sub / ".katax")
    (project.folder / ".katax").mkdir()
    assert katax_home(str(sub), project.environ) == str(project.folder / ".katax")
    (project.folder / "a" / ".katax").mkdir()
    assert katax_home(str(sub), project.environ) == str(project.folder / "a" / ".katax")


def test_katax_home_moves_it(project: Project) -> None:
    (project.folder / ".katax").mkdir()
    for said, expected in (("/var/lib/katax", "/var/lib/katax"), ("state", str(project.folder / "state"))):
        environ = {**project.environ, "KATAX_HOME": said}
        assert katax_home(str(project.folder), environ) == expected
    assert project.load(KATAX_HOME="/k").home == "/k"
    assert project.load(KATAX_HOME="/k").state.connection.path == "/k/state.db"
    assert project.load(KATAX_HOME="/k").connections["main"].path == "/k/main.db"


def test_it_is_not_looked_for_above_the_home_folder(project: Project) -> None:
    (project.home.parent / ".katax").mkdir()
    assert katax_home(str(project.folder), project.environ) == str(project.folder / ".katax")


def test_a_foreign_one_above_is_passed_over(project: Project) -> None:
    above = project.home / ".katax"
    above.mkdir()
    assert katax_home(str(project.folder), project.environ) == str(above)
    make_foreign(str(above))
    assert katax_home(str(project.folder), project.environ) == str(project.folder / ".katax")


def test_it_is_made_private_and_invisible_to_git(project: Project) -> None:
    home = project.folder / "x" / ".katax"
    assert ensure_home(str(home)) == str(home)
    assert home.stat().st_mode & 0o777 == 0o700
    assert (home / ".gitignore").read_text() == "*\n"
    assert (home / ".gitignore").stat().st_mode & 0o777 == 0o600


def test_one_that_is_there_is_made_private_and_kept(project: Project) -> None:
    home = project.folder / ".katax"
    home.mkdir(mode=0o755)
    (home / ".gitignore").write_text("mine\n")
    ensure_home(str(home))
    assert home.stat().st_mode & 0o777 == 0o700
    assert (home / ".gitignore").read_text() == "mine\n"


def test_a_foreign_one_is_refused(project: Project) -> None:
    home = project.folder / ".katax"
    home.mkdir()
    reason = make_foreign(str(home))
    with pytest.raises(UntrustedFile) as error:
        ensure_home(str(home))
    assert str(error.value) == f"refused: {home} is not used: {reason}"


def test_where_it_cannot_be_made(project: Project) -> None:
    file = Path(project.write("file", ""))
    with pytest.raises(ConfigError) as error:
        ensure_home(str(file / ".katax"))
    assert str(error.value) == f"{file}/.katax cannot be made: Not a directory; KATAX_HOME moves it"
