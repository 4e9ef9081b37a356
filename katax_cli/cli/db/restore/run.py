"""The work of `db restore` and `db backups drill`."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from katax_cli.cli.db.backups.backup_run import BACKUPS
from katax_cli.cli.db.backups.run import backup_directory
from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.journal import recorded
from katax_cli.cli.shell.progress import Progress
from katax_cli.cli.shell.scope import scope
from katax_cli.core.roles import Tier
from katax_cli.errors import ConfigError
from katax_cli.services.backup.catalog import catalog
from katax_cli.services.backup.restore.drill import drill_backup
from katax_cli.services.backup.restore.embedded import embedded_place
from katax_cli.services.backup.restore.run import Restored, prepare
from katax_cli.services.backup.verify import find_backup
from katax_cli.services.backup.work import StoppableWork

if TYPE_CHECKING:
    from katax_cli.cli.shell.scope import Scope

_DROPPED = "; the half database is dropped"


def run_restore(
    call: Invocation, backup: str, into: str, *, swap: bool, jobs: int | None, out: str | None
) -> ExitCode:
    """Validates, asks, restores, and says how to switch over."""
    with scope(call, BACKUPS, seconds=None, named=True) as chosen:
        chosen.one.refuse_read_only()
        folder = find_backup(backup_directory(chosen.profile, out), backup)
        progress = Progress(call.diagnostics, "loaded", "bytes", None, further=_DROPPED)
        restore = prepare(
            folder,
            chosen.runtime.open(chosen.one),
            into,
            swap=swap,
            work=StoppableWork(chosen.one.name, chosen.runtime.deadline),
            jobs=jobs,
            tools=chosen.profile.backup.tools,
            open_database=chosen.runtime.tabular,
            tell=call.diagnostics.note,
            told=progress,
        )
        manifest = restore.manifest
        if call.only_planned(backup=manifest.name, into=restore.target, replaces=restore.replaces):
            return ExitCode.DONE
        what = f"restoring {manifest.name} into {restore.target!r}"
        with recorded(chosen, chosen.one, f"restore {manifest.name} into {restore.target}"):
            chosen.confirm(
                Tier.DESTRUCTIVE, what + (", in the place of what is there" if restore.replaces else "")
            )
            with progress:
                restored = restore.run()
        _say_how_to_switch(chosen, restored, swap=swap)
    call.out.action({"backup": manifest.name, "engine": manifest.engine, **restored._asdict()})
    return ExitCode.DONE


def _say_how_to_switch(chosen: Scope, restored: Restored, *, swap: bool) -> None:
    settings = chosen.one
    usual = settings.path if settings.type == "sqlite" else settings.database
    note = chosen.call.diagnostics.note
    if restored.kept is not None:
        note(f"the old one is kept as {restored.kept!r} until the next 'katax db backups prune'")
    elif restored.target != usual and not swap:
        key = {"sqlite": "path", "redis": "number"}.get(settings.type, "database")
        where = chosen.profile.source or "the environment"
        note(f"to switch over, let {settings.name!r} in {where} name the {key} {restored.target!r}")


def run_drill(
    call: Invocation,
    backup: str | None,
    *,
    latest: bool,
    on: str | None,
    embedded: bool,
    same_server: bool,
    jobs: int | None,
    out: str | None,
) -> ExitCode:
    """Drills one backup and answers with what it found."""
    if (backup is None) is not latest:
        raise ConfigError("name one backup, or say --latest; see 'katax db backups list'")
    if (on is None) is not embedded:
        raise ConfigError("say where: --on CONNECTION, or --embedded for sqlite and redis")
    with call.runtime(seconds=None) as runtime:
        server = None if on is None else runtime.profile.connection(on)
        if server is not None:
            server.refuse_read_only()
        directory = backup_directory(runtime.profile, out)
        folder = _latest(call, directory) if backup is None else find_backup(directory, backup)
        if call.only_planned(backup=folder.name, on=on or "embedded"):
            return ExitCode.DONE
        progress = Progress(call.diagnostics, "loaded", "bytes", None, further=_DROPPED)
        place = embedded_place(folder) if server is None else nullcontext(server)
        with place as settings, progress:
            drill = drill_backup(
                folder,
                runtime.open(settings),
                work=StoppableWork(settings.name, runtime.deadline),
                same_server=same_server,
                unseen_space=call.shared.yes,
                smoke=runtime.profile.backup.smoke,
                jobs=jobs,
                tools=runtime.profile.backup.tools,
                open_database=runtime.tabular,
                tell=call.diagnostics.note,
                told=progress,
            )
    call.out.action({"backup": folder.name, **asdict(drill)})
    return ExitCode.DONE if drill.passed else ExitCode.NO


def _latest(call: Invocation, directory: Path) -> Path:
    """The newest whole backup, of the connections that `-c` matches if it is given."""
    patterns = call.connections or ("*",)
    for entry in catalog(directory):
        if entry.manifest and any(fnmatchcase(entry.manifest.connection, word) for word in patterns):
            return entry.path
    of = f" of {', '.join(map(repr, call.connections))}" if call.connections else ""
    raise ConfigError(f"no backup{of} in {str(directory)!r}; see 'katax db backups list'")
