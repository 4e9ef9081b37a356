"""The parts of `katax db export` and `import` that are about words, files and progress.

Modules of one of them, and those about documents, are imported where they are used: each costs time before the first
row.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.journal import recorded
from katax_cli.cli.shell.progress import Progress
from katax_cli.cli.shell.scope import Scope, scope
from katax_cli.cli.shell.target import TABLES
from katax_cli.core.roles import Tier
from katax_cli.errors import ConfigError
from katax_cli.services.transfer.formats.files import FORMATS, FileKind, compressed, kind_of, seekable
from katax_cli.services.transfer.formats.writers import CsvForm
from katax_cli.services.transfer.silence import SilenceWatch

if TYPE_CHECKING:
    from katax_cli.services.transfer.documents.load import DocumentImport
    from katax_cli.services.transfer.formats.sources import RowFile
    from katax_cli.services.transfer.import_run import ImportPlan, LoadedRows
    from katax_cli.services.transfer.load import Import


def run_export(
    call: Invocation,
    table: str | None,
    query: str | None,
    filter: str | None,
    *,
    delimiter: str,
) -> None:
    """Writes the rows to stdout or `-o FILE`, with a bar when they go to a file."""
    from katax_cli.services.transfer.export import Wanted, export

    if (table is None) == (query is None):
        raise typer.BadParameter("name a table or give --query, one of the two")
    if query is not None and filter is not None:
        raise typer.BadParameter("--filter is for documents of a collection; a query has its own WHERE")
    text = None if query is None else call.input_bytes(query).decode("utf-8-sig")
    form = CsvForm(call.shared.null or "", delimiter_of(delimiter), header=not call.shared.no_header)
    kind = chosen_kind(call, call.shared.output, call.shared.format)
    with scope(call, TABLES, seconds=None) as chosen:
        if chosen.one.type == "mongodb":
            from katax_cli.cli.db.documents.files import export_collection

            export_collection(chosen, table, filter, kind)
            return
        if filter is not None:
            raise ConfigError(
                f"--filter is for MongoDB, not for {chosen.one.name!r}; use --query with a WHERE"
            )
        # An export only reads: also where the profile may write, the server is told to refuse anything else.
        database = chosen.runtime.sql(replace(chosen.one, read_only=True))
        progress = Progress(call.diagnostics, "exported", "rows", None, bar=call.out.width is None)
        with call.out.writing() as stream, compressed(stream, kind.compression) as packed, progress:
            wanted = Wanted(table, text, kind.format or "csv", form)
            whole = "what was written of it is not all"
            with SilenceWatch(database, progress=progress, lasts=lambda: whole) as told:
                done = export(database, wanted, packed, on_rows=told, on_estimate=progress.about)
    if done.left_out:
        call.diagnostics.note(f"left out, the server computes them: {', '.join(done.left_out)}")
    call.diagnostics.note(f"exported {done.rows:,} rows")


def chosen_kind(call: Invocation, name: str | None, said: str | None) -> FileKind:
    """The format that an option says, else the file's name; its compression. Raises ConfigError for one of no rows."""
    kind = kind_of(name)
    word = said or kind.format or "csv"
    format = next((name for name in FORMATS if name == word), None)
    if format is None:
        raise ConfigError(f"{call.command!r} knows the formats {', '.join(FORMATS)}, not {word!r}")
    return FileKind(format, kind.compression)


def delimiter_of(word: str) -> str:
    """One character; `tab` is spelled out, for shells. Raises BadParameter for what cannot stand between cells."""
    delimiter = "\t" if word in ("tab", "\\t") else word
    if len(delimiter) != 1 or delimiter in '"\r\n\\' or not delimiter.isascii():
        raise typer.BadParameter(f"--delimiter is {word!r}, expected one character such as ';' or 'tab'")
    return delimiter


def run_import(
    call: Invocation,
    name: str,
    plan: ImportPlan,
    *,
    format: str | None,
    encoding: str,
    delimiter: str,
) -> None:
    """Says how the file is read, asks where rows would be lost, and imports it."""
    from katax_cli.services.transfer.formats.sources import RowFile

    columns = tuple(filter(None, map(str.strip, (call.shared.columns or "").split(","))))
    form = CsvForm(call.shared.null or "", delimiter_of(delimiter), header=not call.shared.no_header)
    kind = chosen_kind(call, name, format)
    if kind.format == "sql":
        raise ConfigError(f"{name!r} is a script; run it with 'katax db exec --file'")
    if plan.max_errors and plan.rejects is None:
        plan = replace(plan, rejects=f"{'stdin' if name == '-' else os.path.basename(name)}.rejects.csv")
    with call.input_file(name) as stream, seekable(stream) as file:
        source = RowFile("stdin" if name == "-" else name, file, kind, form, encoding, columns)
        if not call.shared.dry_run:
            source.begin_digest()
        is_named = kind_of(name).format is not None or format is not None
        with scope(call, TABLES, seconds=None, named=True) as chosen:
            done = _imported(chosen, source, plan, is_named=is_named)
    if done is not None:
        _tell(call, done, plan)


def _imported(chosen: Scope, source: RowFile, plan: ImportPlan, *, is_named: bool) -> LoadedRows | None:
    """Imports a file; None when that was only planned. `is_named`: its name, or an option, says its format."""
    call, documents = chosen.call, chosen.one.type == "mongodb"
    if documents:
        from katax_cli.cli.db.documents.files import how_documents_are_read, of_documents

        source = of_documents(source, is_named=is_named)
    call.diagnostics.note(how_documents_are_read(source) if documents else how_it_is_read(source))
    chosen.one.refuse_read_only()
    columns_of = {} if documents else {"columns": list(source.columns)}
    if call.only_planned(table=plan.table, **columns_of, imported=0):
        return None
    with recorded(chosen, chosen.one, f"import into {plan.table}") as record:
        unit = "documents" if documents else "rows"
        if plan.replace:
            chosen.confirm(Tier.DESTRUCTIVE, f"replacing all {unit} of {plan.table!r}")
        further = "; run it again to go on behind them"
        with Progress(call.diagnostics, "imported", unit, None, further=further) as progress:

            def told(count: int) -> None:
                progress.about(source.rows_estimate(count))
                progress(count)

            watched = () if documents else (chosen.sql,)
            with SilenceWatch(*watched, progress=told, lasts=progress.what_lasts) as moved:
                done = _import(chosen, source, plan, moved).run()
        record.rows = done.written
    return done


def _import(
    chosen: Scope, source: RowFile, plan: ImportPlan, told: Callable[[int], object]
) -> Import | DocumentImport:
    note = chosen.call.diagnostics.note
    if chosen.one.type == "mongodb":
        from katax_cli.services.transfer.documents.load import DocumentImport

        return DocumentImport(chosen.documents, source, plan, told, note)
    from katax_cli.services.transfer.load import Import

    return Import(chosen.sql, source, plan, told, note)


def _tell(call: Invocation, done: LoadedRows, plan: ImportPlan) -> None:
    if done.finished_at is not None:
        call.diagnostics.note(
            f"this file was imported into {plan.table!r} at {done.finished_at}; nothing was done (--again, --replace)"
        )
    elif done.earlier:
        call.diagnostics.note(f"went on behind {done.earlier:,} rows of an earlier run")
    if done.rejected and done.finished_at is None:
        call.diagnostics.note(f"{done.rejected:,} rows were refused; see {plan.rejects}")
    facts = {
        "table": plan.table,
        "imported": done.imported,
        "rejected": done.rejected,
        "earlier": done.earlier,
    }
    call.out.action({**facts, "already": done.finished_at is not None})


def how_it_is_read(source: RowFile) -> str:
    """Encoding, delimiter, NULL's token, columns: what decides about every row, in one line."""
    columns = f"columns {', '.join(source.columns)}"
    if source.kind.format != "csv":
        how = "" if source.kind.format == "parquet" else f", {source.encoding}"
        return f"reading {source.name}: {source.kind.format}{how}; {columns}"
    null = f"{source.csv.null!r} without quotes" if source.csv.null else "an empty cell without quotes"
    return (
        f"reading {source.name}: csv, {source.encoding}, delimiter {source.csv.delimiter!r}, NULL is {null}, "
        f"times without a zone are UTC; {columns}"
    )
