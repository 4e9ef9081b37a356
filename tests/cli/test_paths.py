"""A parameter of a command passes at most five functions before it does its work."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import katax_cli
from katax_cli.core.sql import Statement
from tests.cli.harness import katax, write_profile
from tests.servers.fixtures import Target

AT_MOST = 5
PACKAGE = str(Path(katax_cli.__file__).parent) + "/"
NO_STEPS = ("core/", "services/calls/observer.py", "cli/app.py", "cli/shell/group.py")
"""What reads the value or watches over it, and what hands the whole command line to the command."""
DRIVERS = ("/psycopg/", "/pymysql/", "/redis/")


class Paths:
    """Follows a value from the command's function on: which functions of the package have it as an argument."""

    def __init__(self, value: str) -> None:
        self.longest: list[str] = []
        self.calls: Counter[str] = Counter()
        self._value = value

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        if event != "call" or not frame.f_code.co_filename.startswith(PACKAGE):
            return
        if self._takes(frame):
            self.calls[frame.f_code.co_qualname] += 1
            path = list(self._path(frame))
            self.longest = max(self.longest, path, key=len)

    def _path(self, innermost: FrameType) -> Iterator[str]:
        """The functions that wait for this one; none below the driver, which does the work."""
        frames, frame = [innermost], innermost.f_back
        while frame is not None:
            if any(driver in frame.f_code.co_filename for driver in DRIVERS):
                frames.clear()
            frames.append(frame)
            frame = frame.f_back
        for frame in reversed(frames):
            module = frame.f_code.co_filename.removeprefix(PACKAGE)
            inside = module != frame.f_code.co_filename and not module.startswith(NO_STEPS)
            if inside and self._takes(frame):
                yield f"{module} {frame.f_code.co_qualname}"

    def _takes(self, frame: FrameType) -> bool:
        code = frame.f_code
        count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4) + bool(code.co_flags & 8)
        return any(self._holds(frame.f_locals.get(name)) for name in code.co_varnames[:count])

    def _holds(self, argument: Any) -> bool:
        if isinstance(argument, Statement):
            return argument.text == self._value
        if isinstance(argument, str | bytes):
            return argument in (self._value, self._value.encode())
        if isinstance(argument, Mapping):
            return any(map(self._holds, argument.values()))
        return isinstance(argument, Sequence) and any(map(self._holds, argument))


def followed(value: str, *words: str, code: int = 0) -> Paths:
    """A command that has run, and the ways that the value took in it."""
    paths = Paths(value)
    sys.setprofile(paths)
    try:
        done = katax(*words, "-p", "test")
    finally:
        sys.setprofile(None)
    assert done.code == code, done.err
    assert paths.longest, words
    assert len(paths.longest) <= AT_MOST, paths.longest
    return paths


def test_the_sql_of_db_query(sql_engine: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is classified once, whoever asks what it does."""
    write_profile(tmp_path, {"main": sql_engine.url})
    monkeypatch.chdir(tmp_path)
    sql = f"select '{tmp_path}' as text"  # of this test alone: what was read before is known
    paths = followed(sql, "db", "query", sql)
    assert (paths.calls["classify"], paths.calls["residue"]) == (1, 1)
    assert paths.longest[:2] == [
        "cli/db/commands.py query",
        "services/databases/streams.py StreamingDatabase.stream",
    ]


def test_the_key_of_cache_get(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_profile(tmp_path, {"cache": redis_url})
    monkeypatch.chdir(tmp_path)
    paths = followed("key:of:this:test", "cache", "get", "key:of:this:test", code=1)
    assert paths.calls["RedisEngine.command"] == 1


def test_the_schedule_of_cron_add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To what reads it, and to what makes the stored definition of it."""
    write_profile(tmp_path, {"main": f"sqlite:///{tmp_path}/main.db"})
    monkeypatch.chdir(tmp_path)
    paths = followed("17 3 * * 2", "cron", "add", "job", "17 3 * * 2", "--command", "true")
    assert paths.calls["parse_schedule"]
    assert paths.calls["Definitions.define"] == 1
