"""The work of `db restore` and `db backups drill`."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from katax_cli.cli.db.backups.run import named_store
from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.journal import recorded
from katax_cli.cli.shell.progress import Progress
from katax_cli.cli.shell.scope import scope
from katax_cli.cli.shell.target import ANY
from katax_cli.core.roles import Tier
from katax_cli.errors import ConfigError
from katax_cli.services.backup.restore.drill import drill_backup
from katax_cli.services.backup.restore.embedded import embedded_place
from katax_cli.services.backup.restore.run import Restore, Restored, prepare
from katax_cli.services.backup.store.base import BackupStore
from katax_cli.services.backup.work import StoppableWork

if TYPE_CHECKING:
    from katax_cli.cli.shell.scope import Scope

_DROPPED = "; the half database is dropped"


def run_restore(
    call: Invocation, backup: str, into: str, *, swap: bool, jobs: int | None, out: str | None
) -> ExitCode:
    """Validates, asks, restores, and says how to switch over."""
    with scope(call, ANY, seconds=None, named=True) as chosen:
        chosen.one.refuse_read_only()
        work = StoppableWork(chosen.one.name, chosen.runtime.deadline)
        store = named_store(chosen.profile, out, backup, work)
        progress = Progress(call.diagnostics, "loaded", "bytes", None, further=_DROPPED)
        with store.find(backup).fetched() as folder:
            restore = prepare(
                folder,
                chosen.runtime.open(chosen.one),
                into,
                swap=swap,
                work=work,
                jobs=jobs,
                tools=chosen.profile.backup.tools,
                open_database=chosen.runtime.tabular,
                tell=call.diagnostics.note,
                told=progress,
                note_kept=store.note_kept,
            )
            manifest = restore.manifest
            if call.only_planned(backup=manifest.name, into=restore.target, replaces=restore.replaces):
                return ExitCode.DONE
            restored = _confirmed(chosen, restore, progress)
        _say_how_to_switch(chosen, restored, swap=swap)
    call.out.action({"backup": manifest.name, "engine": manifest.engine, **restored._asdict()})
    return ExitCode.DONE


def _confirmed(chosen: Scope, restore: Restore, progress: Progress) -> Restored:
    """Asks, and restores."""
    name = restore.manifest.name
    what = f"restoring {name} into {restore.target!r}"
    with recorded(chosen, chosen.one, f"restore {name} into {restore.target}"):
        chosen.confirm(
            Tier.DESTRUCTIVE, what + (", in the place of what is there" if restore.replaces else "")
        )
        with progress:
            return restore.run()


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
        work = StoppableWork(on or "embedded", runtime.deadline)
        store = named_store(runtime.profile, out, backup or "", work)
        found = store.find(_latest(call, store) if backup is None else backup)
        if call.only_planned(backup=found.name, on=on or "embedded"):
            return ExitCode.DONE
        progress = Progress(call.diagnostics, "loaded", "bytes", None, further=_DROPPED)
        place = embedded_place(found.manifest().engine) if server is None else nullcontext(server)
        with found.fetched() as folder, place as settings, progress:
            drill = drill_backup(
                folder,
                runtime.open(settings),
                work=work,
                same_server=same_server,
                unseen_space=call.shared.yes,
                smoke=runtime.profile.backup.smoke,
                jobs=jobs,
                tools=runtime.profile.backup.tools,
                open_database=runtime.tabular,
                tell=call.diagnostics.note,
                told=progress,
                stamped=found.stamp,
            )
    call.out.action({"backup": found.name, **asdict(drill)})
    return ExitCode.DONE if drill.passed else ExitCode.NO


def _latest(call: Invocation, store: BackupStore) -> str:
    """The newest whole backup, of the connections that `-c` matches if it is given."""
    patterns = call.connections or ("*",)
    for entry in store.entries():
        if entry.manifest and any(fnmatchcase(entry.manifest.connection, word) for word in patterns):
            return entry.name
    of = f" of {', '.join(map(repr, call.connections))}" if call.connections else ""
    raise ConfigError(f"no backup{of} in {store.location!r}; see 'katax db backups list'")
