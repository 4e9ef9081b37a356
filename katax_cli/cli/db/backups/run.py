"""The work of `db backups list|verify|prune`."""

from __future__ import annotations

from collections.abc import Sequence

from katax_cli.cli.shell.confirm import confirm
from katax_cli.cli.shell.exits import ExitCode, worst
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.output import Manner
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.roles import Tier
from katax_cli.core.settings import ConnectionSettings
from katax_cli.errors import BackupDamaged, ConfigError, KataxError
from katax_cli.profiles.model.model import Profile
from katax_cli.services.backup.catalog import plan_removal, remove, still_planned
from katax_cli.services.backup.restore.kept import drop_kept
from katax_cli.services.backup.retention import Retention, RetentionVerdict
from katax_cli.services.backup.store.base import BackupStore, CatalogEntry, KeptDatabase, StoredBackup
from katax_cli.services.backup.store.place import is_url, open_store
from katax_cli.services.backup.work import StoppableWork
from katax_cli.services.tables.scratch import open_settings

LIST_HEADER = (
    "backup",
    "state",
    "connection",
    "engine",
    "database",
    "started_at",
    "size_bytes",
    "rows",
    "left_out",
    "drilled_at",
    "reason",
)
VERIFY_HEADER = ("backup", "whole", "size_bytes", "read", "reasons")
_Verified = tuple[str, bool, int | None, str | None, list[str]]
PRUNE_HEADER = ("backup", "database", "started_at", "drilled", "verdict", "reasons")


def backup_store(profile: Profile, out: str | None, work: StoppableWork) -> BackupStore:
    """The folder or URL of the backups: as the command says, else as the profile does."""
    location = profile.backup.directory if out is None else out
    return open_store(location, work=work, retry=profile.retry, identity=profile.backup.identity)


def named_store(profile: Profile, out: str | None, backup: str, work: StoppableWork) -> BackupStore:
    """That of one backup, which may be said by its URL."""
    if is_url(backup):
        out = backup.rstrip("/").rpartition("/")[0]
    return backup_store(profile, out, work)


def show_list(call: Invocation, out: str | None) -> None:
    """A row for each backup, whole or not."""
    with call.logged_profile() as profile:
        entries = backup_store(profile, out, _work(call)).entries()
    manner = Manner(
        brief=("backup", "state", "started_at", "size_bytes", "drilled_at", "reason"),
        ages=("started_at", "drilled_at"),
        below="reason",
    )
    call.out.rows(LIST_HEADER, [[_list_row(entry) for entry in entries]], manner)


def verify_backups(call: Invocation, out: str | None, names: Sequence[str]) -> ExitCode:
    """A row for each backup; 1 when one of them is not whole."""
    with call.logged_profile() as profile:
        work = _work(call)
        store = backup_store(profile, out, work)
        can_decrypt = profile.backup.identity is not None
        named = [named_store(profile, out, name, work).find(name) for name in names]
        rows = [_verified(backup, can_decrypt=can_decrypt) for backup in named]
        if not names:
            rows = [_verified_listed(store, name, can_decrypt=can_decrypt) for name in store.names()]
        # What was pruned before its turn came is no backup any more; prune leaves one.
        damaged = [] if names else [name for name, whole, *_ in rows if not whole]
        left = store.names() if damaged else ()
        for name in [name for name in damaged if left and name not in left]:
            call.diagnostics.note(f"{name} was removed meanwhile")
            rows = [row for row in rows if row[0] != name]
    call.out.rows(VERIFY_HEADER, [rows], Manner(below="reasons", joined=("reasons",)))
    return ExitCode.DONE if all(whole for _, whole, *_ in rows) else ExitCode.NO


def prune_backups(call: Invocation, out: str | None, retention: Retention) -> ExitCode:
    """Shows what becomes of each backup, asks, and removes."""
    with call.logged_profile() as profile:
        work = _work(call)
        store = backup_store(profile, out, work)
        verdicts = plan_removal(store, retention)
        doomed = [verdict for verdict in verdicts if not verdict.is_kept]
        old = store.kept()
        code = ExitCode.DONE
        if (doomed or old) and not call.shared.dry_run:
            listed = [verdict.manifest.name for verdict in doomed] + [f"database {one.name}" for one in old]
            call.diagnostics.note(f"to be removed from {store.location}: {', '.join(listed)}")
            place = ConnectionSettings(name="backups", type="sqlite")
            what = f"removing {len(doomed)} backups"
            if old:
                what += f" and {len(old)} databases whose place was taken"
            confirm(call, profile, place, Tier.DESTRUCTIVE, what)
            verdicts = still_planned(store, retention, verdicts)
            remove(store, verdicts, work)
            code = _drop_kept(call, profile, store, old)
    manner = Manner(ages=("started_at",), below="reasons", joined=("reasons",))
    call.out.rows(PRUNE_HEADER, [[_prune_row(verdict, call.shared.dry_run) for verdict in verdicts]], manner)
    return code


def _work(call: Invocation) -> StoppableWork:
    return StoppableWork("backups", Deadline(call.shared.timeout))


def _drop_kept(
    call: Invocation, profile: Profile, store: BackupStore, old: Sequence[KeptDatabase]
) -> ExitCode:
    """Drops the databases whose place restored ones took; one that cannot be dropped stays for the next prune."""
    codes = []
    for kept in old:
        try:
            was_there = drop_kept(kept, profile.connection(kept.connection), open_settings)
            store.forget_kept(kept)
        except KataxError as error:
            codes.append(call.diagnostics.failure(error))
        else:
            what = "dropped" if was_there else "there is no"
            call.diagnostics.note(f"{what} {kept.name!r} on {kept.connection!r}")
    return worst(codes)


def _list_row(entry: CatalogEntry) -> tuple[object, ...]:
    manifest = entry.manifest
    if manifest is None:
        return (entry.name, entry.state, *[None] * 8, entry.reason)
    return (
        manifest.name,
        entry.state,
        manifest.connection,
        manifest.engine,
        manifest.database,
        manifest.started_at,
        manifest.size_bytes,
        sum(manifest.rows.values()),
        len(manifest.left_out),
        manifest.drills[-1].drilled_at if manifest.is_drilled else None,
        None,
    )


def _verified_listed(store: BackupStore, name: str, *, can_decrypt: bool) -> _Verified:
    try:
        backup = store.find(name)
    except ConfigError:
        return name, False, None, None, ["it is gone"]
    return _verified(backup, can_decrypt=can_decrypt)


def _verified(backup: StoredBackup, *, can_decrypt: bool) -> _Verified:
    try:
        manifest = backup.verified()
    except BackupDamaged as error:
        return backup.name, False, None, None, list(error.reasons)
    as_stored = manifest.encryption is not None and not can_decrypt
    return backup.name, True, manifest.size_bytes, "stored bytes" if as_stored else "all", []


def _prune_row(verdict: RetentionVerdict, is_plan: bool) -> tuple[object, ...]:
    manifest = verdict.manifest
    word = "kept" if verdict.is_kept else "to be removed" if is_plan else "removed"
    return (
        manifest.name,
        manifest.database,
        manifest.started_at,
        manifest.is_drilled,
        word,
        list(verdict.reasons),
    )
