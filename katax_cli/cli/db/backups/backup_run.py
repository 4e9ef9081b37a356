"""The work of `db backup` on the connections that are meant, side by side."""

from __future__ import annotations

from typing import Any

from katax_cli.cli.db.backups.run import backup_store
from katax_cli.cli.shell.exits import ExitCode
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.progress import Parts, Progress
from katax_cli.cli.shell.scope import Scope, scope
from katax_cli.cli.shell.target import ANY
from katax_cli.core.clock import SYSTEM
from katax_cli.services.backup.create import BackupMade, create_backup
from katax_cli.services.backup.work import StoppableWork

BACKUP_HEADER = ("connection", "path", "size_bytes", "tables", "rows", "left_out", "duration_ms")


def run_backup(call: Invocation, out: str | None, *, jobs: int | None, allow_missing: bool) -> ExitCode:
    """Makes a backup of each connection and prints a row for each."""
    with scope(call, ANY, seconds=None) as chosen:
        names = [settings.name for settings in chosen.settings]
        work = StoppableWork(", ".join(names), chosen.runtime.deadline)
        store = backup_store(chosen.profile, out, work)
        if call.only_planned(directory=store.location, connections=names):
            return ExitCode.DONE
        written = Parts(Progress(call.diagnostics, "written", "bytes", None))

        def back_up(database: Any) -> list[tuple[object, ...]]:
            began = SYSTEM.monotonic()
            made = create_backup(
                database,
                store,
                work=work,
                recipients=chosen.profile.backup.recipients,
                jobs=jobs,
                allow_missing=allow_missing,
                tools=chosen.profile.backup.tools,
                told=lambda count: written.told(database.name, count),
            )
            for omission in made.manifest.left_out:
                call.diagnostics.note(f"{database.name}: left out {omission.what}: {omission.why}")
            return [_row(made, (SYSTEM.monotonic() - began) * 1000)]

        with written.progress:
            try:
                return _answer(chosen, back_up, written)
            except BaseException:
                work.stop()
                raise


def _answer(chosen: Scope, back_up: Any, written: Parts) -> ExitCode:
    """One object for one connection, else a row for each."""
    call = chosen.call

    def header() -> tuple[str, ...]:
        written.progress.hide()
        return BACKUP_HEADER

    if call.is_glob:
        return chosen.answer_each(header, back_up, named=True)
    for _, result in chosen.each(back_up):
        if isinstance(result, BaseException):
            raise result
        call.out.action(dict(zip(header(), result[0], strict=True)))
    return ExitCode.DONE


def _row(made: BackupMade, duration_ms: float) -> tuple[object, ...]:
    manifest = made.manifest
    rows = sum(manifest.rows.values())
    left_out = len(manifest.left_out)
    tables = len(manifest.rows)
    return (
        manifest.connection,
        str(made.path),
        manifest.size_bytes,
        tables,
        rows,
        left_out,
        round(duration_ms, 1),
    )
