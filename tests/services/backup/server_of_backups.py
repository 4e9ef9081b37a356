"""Backups of real servers, made as the command makes them."""

from __future__ import annotations

import json
from pathlib import Path

from katax_cli.services.backup.manifest import Manifest, read_manifest
from tests.cli.harness import Done, katax, write_profile
from tests.servers import Server
from tests.servers.fixtures import Target
from tests.waiting import SECONDS


def profile_for(
    folder: Path,
    target: Target | str,
    server: Server | None = None,
    *,
    tools: Path | None = None,
    **more: str,
) -> None:
    """A profile whose `main` is the target, with the tools of its server."""
    url = target if isinstance(target, str) else target.url
    owner = target.server if isinstance(target, Target) else server
    tools = tools or (owner.tools if owner is not None else None)
    extra = f'[backup]\ntools = "{tools}"\n' if tools else ""
    write_profile(folder, {"main": url, **more}, extra=extra, connect_timeout=SECONDS)


def back_up(*words: str) -> Manifest:
    """Makes a backup of `main`, which must succeed."""
    done = katax("db", "backup", "-f", "json", *words)
    assert done.code == 0, done.err
    return read_manifest(Path(done.json["path"]))


def refused(*words: str) -> tuple[int, str]:
    """Exit code and message of a backup that must not be made."""
    done = katax("db", "backup", "-f", "json", *words)
    assert done.code != 0, done.out
    return done.code, str(json.loads(done.err)["error"]["message"])


def left(folder: Path) -> list[str]:
    """What is in the folder of the backups."""
    return (
        sorted(path.name for path in (folder / "backups").iterdir()) if (folder / "backups").exists() else []
    )


def run_sql(*statements: str) -> Done:
    done = katax("db", "exec", "; ".join(statements))
    assert done.code == 0, done.err
    return done
