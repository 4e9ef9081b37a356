"""A frozen server ends a backup and a drill, and nothing of them is left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import pytest

from katax_cli.services.backup.manifest import read_manifest
from katax_cli.services.backup.work import StoppableWork
from katax_cli.services.calls import silence
from tests.cli.harness import Done, katax
from tests.servers.fixtures import Target, Throwaway
from tests.services.backup.restore.rich import fill
from tests.services.backup.server_of_backups import back_up, left, profile_for
from tests.waiting import until

STARTS = {
    "pg_dump": "--format=directory",
    "pg_restore": "--exit-on-error",
    "mariadb-dump": "--quick",
    "mariadb": "--batch",
}
"""Words by which the program's work is told from its other calls."""


def stuck_tools(folder: Path, tools: Path) -> Path:
    """The tools, which work for ever once they began with what may hang."""
    stuck = folder / "stuck"
    stuck.mkdir()
    for name, word in STARTS.items():
        if (tools / name).exists():
            script = stuck / name
            begun = f"touch {folder}/begun; exec sleep 600"
            script.write_text(
                f'#!/bin/sh\ncase "$*" in *{word}*) {begun};; *) exec {tools}/{name} "$@";; esac\n'
            )
            script.chmod(0o755)
    return stuck


@pytest.mark.parametrize("engine_name", ["postgresql", "mysql"])
def test_a_frozen_server_ends_backups_and_drills(
    engine_name: str, throwaway: Throwaway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is frozen behind the start of its tool, and thawed once it was found to be silent."""
    for name, seconds in (("ASK_AFTER", 0.2), ("ASK_AGAIN", 0.2), ("ANSWER_WITHIN", 0.5)):
        monkeypatch.setattr(silence, name, seconds)
    server, frozen, lives, cut = throwaway(engine_name), Event(), silence.Silence.answered, StoppableWork.cut

    def answered(watch: silence.Silence[bool], greets: Callable[[float], bool]) -> bool:
        return not frozen.is_set() or lives(watch, greets)

    def thawed(work: StoppableWork) -> None:
        frozen.clear()
        server.resume()
        cut(work)

    monkeypatch.setattr(silence.Silence, "answered", answered)
    monkeypatch.setattr(StoppableWork, "cut", thawed)

    def freeze() -> None:
        until((tmp_path / "begun").exists)
        server.stop_signal()
        frozen.set()

    def ended(*words: str) -> Done:
        (tmp_path / "begun").unlink(missing_ok=True)
        freezing = Thread(target=freeze)
        freezing.start()
        done = katax(*words)
        freezing.join()
        return done

    profile_for(tmp_path, server.url, server)
    fill(Target(engine=engine_name, url=server.url, server=server))
    manifest = back_up()
    before = left(tmp_path)
    assert server.tools is not None
    profile_for(tmp_path, server.url, server, tools=stuck_tools(tmp_path, server.tools))

    done = ended("db", "backup")
    assert (done.code, "not even to a new connection" in done.err) == (3, True), done.err
    assert left(tmp_path) == before

    done = ended("db", "backups", "drill", manifest.name, "--on", "main", "--same-server", "-y")
    assert (done.code, "the next drill removes what is left" in done.err) == (3, True), done.err
    assert read_manifest(tmp_path / "backups" / manifest.name).drills == (), "nothing is known of the backup"
    profile_for(tmp_path, server.url, server)
    done = katax("db", "backups", "drill", manifest.name, "--on", "main", "--same-server", "-y")
    assert (done.code, "removed" in done.err) == (0, False), done.err
