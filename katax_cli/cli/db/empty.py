"""The parts of `katax db truncate`, `reset`, `create` and `drop` that ask and answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from katax_cli.cli.seed.run import refuse_protected, seeder
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.journal import recorded
from katax_cli.cli.shell.scope import Scope, scope
from katax_cli.cli.shell.target import SQL, TABLES
from katax_cli.core.roles import Tier
from katax_cli.core.text.text import counted
from katax_cli.services.tables import lifetime, reset
from katax_cli.services.tables.truncate import plan, truncate

if TYPE_CHECKING:
    from katax_cli.cli.migrate.run import Migrators

_PREVIEWED = 50


def empty_tables(call: Invocation, names: Sequence[str], *, cascade: bool) -> None:
    """Shows what would be lost, asks, and empties the tables."""
    with scope(call, TABLES, named=True) as chosen:
        database = chosen.tabular
        doomed = plan(database, names, keep=[chosen.profile.migrate.table], cascade=cascade)
        facts = {
            "tables": [table.name for table in doomed],
            "rows_estimate": sum(table.rows or 0 for table in doomed),
        }
        _preview(call, [f"{table.name}  {_rows(table.rows)}" for table in doomed])
        if call.only_planned(**facts):
            return
        with recorded(chosen, chosen.one, f"truncate {', '.join(table.name for table in doomed)}"):
            chosen.confirm(Tier.DESTRUCTIVE, f"emptying {counted(len(doomed), 'table')}")
            truncate(database, doomed, on_done=lambda name: call.diagnostics.note(f"emptied {name}"))
    call.out.action(facts)


def reset_database(call: Invocation, *, migrate: bool, seed: bool) -> None:
    """Shows what would be lost, asks, drops all of it, and fills the database again as far as asked."""
    with scope(call, TABLES, seconds=None, named=True) as chosen:
        migrators = _checked_migrators(chosen) if migrate else None
        if migrators is not None:
            chosen = migrators.chosen
        if seed:
            refuse_protected(chosen.profile, chosen.one)
            seeder(chosen, chosen.tabular).check()
        database = chosen.tabular
        found = reset.objects(database)
        _preview(call, [str(one) for one in found])
        facts = {"dropped": [str(one) for one in found]}
        if call.only_planned(**facts):
            return
        with recorded(chosen, chosen.one, f"drop {', '.join(map(str, found))}"):
            chosen.confirm(Tier.DESTRUCTIVE, f"dropping {counted(len(found), 'object')}")
            reset.drop(database, found)
        call.diagnostics.note(f"dropped {counted(len(found), 'object')} of {database.name!r}")
        if migrators is not None:
            facts["migrated"] = [migration.name for migration in migrators.one.up()]
        if seed:
            facts["seeded"] = [one.name for one in seeder(chosen, database).run()]
    call.out.action(facts)


def create_database(call: Invocation) -> None:
    """Creates the database of the connection; that it is there already is said, and no error."""
    with scope(call, SQL, named=True) as chosen:
        settings, sql = chosen.one, chosen.runtime.sql
        settings.refuse_read_only()
        name = lifetime.database_name(settings)
        if call.shared.dry_run:
            there = lifetime.exists(settings, sql)
            call.only_planned(database=name, created=not there)
            return
        with recorded(chosen, settings, f"create database {name}"):
            created = lifetime.create(settings, sql)
    if not created:
        call.diagnostics.note(f"database {name!r} is there already")
    call.out.action({"database": name, "created": created})


def drop_database(call: Invocation) -> None:
    """Shows what would be lost, asks, and drops the database of the connection; none there is no error."""
    with scope(call, SQL, seconds=None, named=True) as chosen:
        settings, sql = chosen.one, chosen.runtime.sql
        name = lifetime.database_name(settings)
        there = lifetime.exists(settings, sql)
        if there:
            with sql(settings) as database:
                _preview(call, [str(entity) for entity in reset.objects(database)])
        if call.only_planned(database=name, dropped=there):
            return
        with recorded(chosen, settings, f"drop database {name}"):
            chosen.confirm(Tier.DESTRUCTIVE, f"dropping database {name!r}")
            dropped = lifetime.drop(settings, sql)
    if not dropped:
        call.diagnostics.note(f"there is no database {name!r}")
    call.out.action({"database": name, "dropped": dropped})


def _checked_migrators(chosen: Scope) -> Migrators:
    """With every migration read: what would stop them is found before anything is dropped."""
    from katax_cli.cli.migrate.run import migrators_for
    from katax_cli.services.migrate.files import files

    migrators = migrators_for(chosen)
    for file in files.scan(migrators.one.directory):
        migrators.one.job(file, "up")
    return migrators


def _preview(call: Invocation, lines: Sequence[str]) -> None:
    for line in lines[:_PREVIEWED]:
        call.diagnostics.note(f"  {line}")
    if len(lines) > _PREVIEWED:
        call.diagnostics.note(f"  and {len(lines) - _PREVIEWED} more")


def _rows(number: int | None) -> str:
    return "rows not known" if number is None else f"about {counted(number, 'row')}"
