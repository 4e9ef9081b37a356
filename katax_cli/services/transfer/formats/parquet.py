"""Parquet, by pyarrow (the extra `parquet`): columns of a type that keeps every value, else of text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO

from katax_cli.core.text.text import hex_text, to_json
from katax_cli.engines.base import Row
from katax_cli.engines.transfers import ColumnKind, from_hex
from katax_cli.errors import ConfigError, KataxError
from katax_cli.services.transfer.formats.readers import AsText

_GROUP = 65_536
"""Rows of one row group, which are held at once."""
_MAX_DIGITS = 38
_INTEGERS = {8: "int8", 16: "int16", 24: "int32", 32: "int32", 64: "int64"}
_TEXT = ColumnKind("text")
_EXACT = {"boolean", "integer", "float", "date", "timestamp", "timestamptz", "binary"}


def write_parquet(
    stream: BinaryIO,
    columns: Sequence[str],
    kinds: Sequence[ColumnKind] | None,
    batches: Iterable[Sequence[Row]],
    on_rows: Callable[[int], object],
) -> int:
    """Writes rows whose values are the server's texts; returns their number. Without kinds all columns are text.

    Raises KataxError for a value that its column's type has no room for, such as infinity among dates.
    """
    arrow, parquet = _modules()
    wanted = list(kinds or [_TEXT] * len(columns))
    schema = arrow.schema([(name, _type(arrow, kind)) for name, kind in zip(columns, wanted, strict=True)])
    count = 0
    with parquet.ParquetWriter(stream, schema, compression="zstd") as writer:
        for group in _groups(_arrow_batches(arrow, schema, wanted, batches)):
            writer.write_table(arrow.Table.from_batches(group))
            count += sum(batch.num_rows for batch in group)
            on_rows(count)
    return count


def read_parquet(
    file: BinaryIO, name: str, as_texts: Sequence[AsText] = ()
) -> tuple[list[str], Iterator[list[list[Any]]]]:
    """The columns of a file, and its rows in batches, their values as texts, bytes or None.

    `as_texts` makes a column's text of what is nested, and of its JSON. A moment with a zone is given in UTC.
    """
    arrow, parquet = _modules()
    try:
        # What is read ahead, or by several threads, is more memory at no gain: making Python's values takes longest.
        source = parquet.ParquetFile(file, pre_buffer=False)
    except (arrow.ArrowException, OSError) as error:
        raise KataxError(f"{name!r} is no whole Parquet file: {error}") from error
    columns = list(source.schema_arrow.names)
    return columns, _rows(arrow, source, name, as_texts or [None] * len(columns))


def _rows(arrow: Any, source: Any, name: str, as_texts: Sequence[AsText]) -> Iterator[list[list[Any]]]:
    for batch in source.iter_batches(batch_size=4096, use_threads=False):
        columns = []
        for column, values, make in zip(batch.schema.names, batch.columns, as_texts, strict=True):
            try:
                columns.append(
                    [_as_text(value, make) for value in _without_nanoseconds(arrow, values).to_pylist()]
                )
            except (ValueError, OverflowError) as error:
                raise KataxError(f"{name!r}, column {column!r} cannot be read: {error}") from error
        yield [list(row) for row in zip(*columns, strict=True)]


def _without_nanoseconds(arrow: Any, values: Any) -> Any:
    """Times as Python has them; those with nanoseconds, which it has not, as texts."""
    if arrow.types.is_timestamp(values.type):
        values = values.cast(arrow.timestamp(values.type.unit, values.type.tz and "UTC"))
        wanted = arrow.timestamp("us", values.type.tz)
    elif arrow.types.is_time64(values.type):
        wanted = arrow.time64("us")
    else:
        return values
    try:
        return values.cast(wanted)
    except arrow.ArrowInvalid:
        return values.cast(arrow.string())


def _modules() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError("Parquet is not installed; pip install 'katax[parquet]', or use csv") from error
    return pyarrow, pyarrow.parquet


def _arrow_batches(
    arrow: Any, schema: Any, kinds: Sequence[ColumnKind], batches: Iterable[Sequence[Row]]
) -> Iterator[Any]:
    """Each batch in Arrow's memory, where a row group takes much less than as Python's values."""
    for batch in batches:
        arrays = [
            _array(arrow, field.name, [row[at] for row in batch], kind, field.type)
            for at, (field, kind) in enumerate(zip(schema, kinds, strict=True))
        ]
        yield arrow.RecordBatch.from_arrays(arrays, schema=schema)


def _groups(batches: Iterable[Any]) -> Iterator[list[Any]]:
    group: list[Any] = []
    held = 0
    for batch in batches:
        group.append(batch)
        held += batch.num_rows
        if held >= _GROUP:
            yield group
            group, held = [], 0
    if held:
        yield group


def _type(arrow: Any, column: ColumnKind) -> Any:
    if column.kind == "integer":
        name = _INTEGERS.get(column.size or 64, "int64")
        return getattr(arrow, f"u{name}" if column.unsigned else name)()
    if _is_decimal(column):
        return arrow.decimal128(column.size, column.scale or 0)
    if column.kind == "float":
        return arrow.float32() if column.size == 32 else arrow.float64()
    plain = {
        "boolean": arrow.bool_(),
        "date": arrow.date32(),
        "timestamp": arrow.timestamp("us"),
        "timestamptz": arrow.timestamp("us", "UTC"),
        "binary": arrow.binary(),
    }
    return plain.get(column.kind, arrow.string())


def _is_decimal(column: ColumnKind) -> bool:
    """True for digits that Parquet has room for; PostgreSQL's scale may be negative, or more than the digits."""
    digits = column.size or 0
    return column.kind == "decimal" and 0 < digits <= _MAX_DIGITS and 0 <= (column.scale or 0) <= digits


def _array(arrow: Any, name: str, values: list[Any], column: ColumnKind, type: Any) -> Any:
    try:
        return arrow.array([None if value is None else _value(value, column) for value in values], type=type)
    except (arrow.ArrowException, ValueError, OverflowError, ArithmeticError) as error:
        raise KataxError(
            f"column {name!r} has a value that {type} has no room for: {error}; use csv"
        ) from error


def _value(value: Any, column: ColumnKind) -> Any:
    kind = column.kind
    if kind == "binary":
        return from_hex(value)
    if isinstance(value, bytes):
        return hex_text(value)
    if kind == "integer":
        return int(value)
    if kind == "float":
        return float(value)
    if kind == "boolean":
        return value in ("t", "true", "1")
    if _is_decimal(column):
        from decimal import Decimal

        return Decimal(value)
    if kind in _EXACT:
        return _moment(value, kind)
    return str(value)


def _moment(text: str, kind: str) -> Any:
    from datetime import UTC, date, datetime

    if kind == "date":
        return date.fromisoformat(text)
    moment = datetime.fromisoformat(text)
    if kind == "timestamptz":
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return moment


def _as_text(value: Any, make: AsText) -> Any:
    """As PostgreSQL writes it, which the others read."""
    if value is None or isinstance(value, str | bytes):
        return value
    if isinstance(value, bool):
        return "t" if value else "f"
    if make is not None and isinstance(value, list | dict):
        return make(value, to_json(value))
    from datetime import datetime

    if isinstance(value, datetime):
        return value.isoformat(" ")
    from katax_cli.core.text.text import plain

    return plain(value)
