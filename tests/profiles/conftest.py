"""A project in a home folder of its own; nothing of the real user is read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from katax_cli.profiles.load import load_profile
from katax_cli.profiles.model.model import Profile


class Project:
    """Files of a project, its user's folder, and the environment they are loaded with."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home / "project"
        self.user = home / ".config" / "katax"
        self.folder.mkdir(parents=True)
        self.environ = {"HOME": str(home), "PATH": os.environ["PATH"]}

    def write(self, name: str, text: str) -> str:
        return self._write(self.folder / name, text)

    def write_user(self, name: str, text: str) -> str:
        return self._write(self.user / name, text)

    def _write(self, path: Path, text: str) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o644)
        return str(path)

    def load(self, name: str | None = None, *, at: str = ".", **variables: str) -> Profile:
        return load_profile(name, cwd=str(self.folder / at), environ={**self.environ, **variables})

    def connection(self, toml: str, *, role: str = "dev", **variables: str) -> Profile:
        """Loads a profile whose connection `main` has these keys."""
        self.write("profiles/dev.toml", f'role = "{role}"\n[connections.main]\n{toml}\n')
        return self.load("dev", **variables)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(Path(os.path.realpath(tmp_path)) / "home")


def make_foreign(path: str) -> str:
    """Makes a file one that others could have written; returns the reason katax gives."""
    if os.geteuid() == 0:
        os.chown(path, 12345, 12345)
        return "it belongs to user 12345; make it yours (chown) to use it"
    Path(path).chmod(0o666)
    return "everyone can write it; run chmod o-w on it to use it"


MAIN = 'role = "dev"\n[connections.main]\nurl = "sqlite:///app.db"\n'
