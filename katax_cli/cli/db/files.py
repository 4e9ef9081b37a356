"""The parts of `katax db export` and `import` that are about words, files and progress."""

from __future__ import annotations

from dataclasses import replace

import typer

from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.progress import Progress
from katax_cli.cli.shell.scope import Target, scope
from katax_cli.errors import ConfigError
from katax_cli.services.transfer.export import Wanted, export
from katax_cli.services.transfer.files import FORMATS, FileKind, Format, compressed, kind_of
from katax_cli.services.transfer.writers import CsvForm


def run_export(
    call: Invocation, target: Target, table: str | None, query: str | None, *, delimiter: str
) -> None:
    """Writes the rows to stdout or `-o FILE`, with a bar when they go to a file."""
    if (table is None) == (query is None):
        raise typer.BadParameter("name a table or give --query, one of the two")
    text = None if query is None else call.input_bytes(query).decode("utf-8-sig")
    form = CsvForm(call.shared.null or "", delimiter_of(delimiter), header=not call.shared.no_header)
    kind = chosen_kind(call, call.shared.output)
    with scope(call, target, seconds=None) as chosen:
        # An export only reads: also where the profile may write, the server is told to refuse anything else.
        database = chosen.runtime.sql(replace(chosen.one, read_only=True))
        progress = Progress(call.diagnostics, "exported", "rows", None, bar=call.out.width is None)
        with call.out.writing() as stream, compressed(stream, kind.compression) as packed, progress:
            wanted = Wanted(table, text, kind.format or "csv", form)
            done = export(database, wanted, packed, on_rows=progress)
    if done.left_out:
        call.diagnostics.note(f"left out, the server computes them: {', '.join(done.left_out)}")
    call.diagnostics.note(f"exported {done.rows:,} rows")


def chosen_kind(call: Invocation, name: str | None, *, usual: Format = "csv") -> FileKind:
    """The format that `-f` says, else the file's name; its compression. Raises ConfigError for a format of no rows."""
    kind = kind_of(name)
    word = call.shared.format or kind.format or usual
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
