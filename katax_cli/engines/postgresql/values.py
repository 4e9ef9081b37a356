"""Values on the wire: Python values where Python has them, the server's text where it has not.

psycopg's loaders raise for infinity, BC and 24:00; those that do not are taken for results that hold such values
only, so that 100,000 rows take 0.96 to 1.01 of the processor time of psycopg's own `dict_row` (benchmarks/drivers.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

import psycopg
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import AdaptersMap, Loader, PyFormat, Transformer
from psycopg.pq import Format
from psycopg.pq.abc import PGresult
from psycopg.types.json import Jsonb, set_json_dumps, set_json_loads
from psycopg.types.multirange import MultirangeInfo
from psycopg.types.range import RangeInfo
from psycopg.types.string import TextLoader

from katax_cli.core.text.interval import Interval, iso_interval
from katax_cli.core.text.text import RawJson, to_json
from katax_cli.engines.base import Row, Text

ANY_TYPE = 0


class _Context:
    """psycopg's context of adaptation: adapters other than a connection's own."""

    def __init__(self, adapters: AdaptersMap, connection: psycopg.Connection[Any] | None = None) -> None:
        self.adapters = adapters
        self.connection = connection


def _tuned(loads: Callable[[str | bytes], Any]) -> AdaptersMap:
    adapters = AdaptersMap(psycopg.adapters)
    set_json_loads(loads, _Context(adapters))
    set_json_dumps(_as_json, _Context(adapters))
    adapters.register_loader("interval", _IntervalLoader)
    adapters.register_dumper(dict, adapters.get_dumper(Jsonb, PyFormat.TEXT))
    for info in adapters.types:
        if isinstance(info, RangeInfo | MultirangeInfo):
            adapters.register_loader(info.oid, TextLoader)
    return adapters


_EXACT = json.JSONDecoder(parse_float=Decimal)


def _exactly(text: str | bytes) -> Any:
    """Whole numbers are ints, others Decimals with the digits that the server keeps."""
    text = text.decode() if isinstance(text, bytes) else text
    try:
        return _EXACT.decode(text)
    except InvalidOperation:
        # `json` keeps any text that is a number; only exponents of 19 digits are beyond Decimal.
        return json.loads(text)


def _untouched(text: str | bytes) -> RawJson:
    return RawJson(text.decode() if isinstance(text, bytes) else text)


def _as_json(value: object) -> str:
    try:
        return json.dumps(value)
    except TypeError:
        # Decimals, which is what was loaded before, have no form in the standard library.
        return to_json(value)


class _IsoText(Loader):
    """An interval as text, whatever Python has room for."""

    def load(self, data: Buffer) -> Any:
        return iso_interval(bytes(data).decode())


_PSYCOPGS_INTERVAL = psycopg.adapters.get_loader(psycopg.adapters.types["interval"].oid, Format.TEXT)


class _IntervalLoader(Loader):
    """psycopg's timedelta, which also knows its years, months and days; text where Python has no room for it."""

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        assert _PSYCOPGS_INTERVAL is not None
        self._strict = _PSYCOPGS_INTERVAL(oid, context)

    def load(self, data: Buffer) -> Any:
        iso = iso_interval(bytes(data).decode())
        try:
            return Interval(self._strict.load(data), iso)
        except (psycopg.Error, NotImplementedError):  # the latter for another IntervalStyle
            return iso


def _text_only() -> AdaptersMap:
    adapters = AdaptersMap()
    adapters.register_loader(ANY_TYPE, TextLoader)
    adapters.register_loader(psycopg.adapters.types["interval"].oid, _IsoText)
    return adapters


def _lenient_loader(strict: type[Any]) -> type[Loader]:
    class Lenient(Loader):
        """Gives the server's text for values that Python has no room for."""

        def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
            super().__init__(oid, context)
            self._strict = strict(oid, context)

        def load(self, data: Buffer) -> Any:
            try:
                return self._strict.load(data)
            except psycopg.DataError:
                return bytes(data).decode()

    return Lenient


def _lenient(strictly: AdaptersMap) -> AdaptersMap:
    adapters = AdaptersMap(strictly)
    for name in ("date", "time", "timetz", "timestamp", "timestamptz"):
        oid = adapters.types[name].oid
        strict = strictly.get_loader(oid, Format.TEXT)
        assert strict is not None, f"psycopg knows {name}"
        adapters.register_loader(oid, _lenient_loader(strict))
    return adapters


ADAPTERS = {False: _tuned(json.loads), True: _tuned(_exactly)}
"""By whether numbers in JSON are Decimals."""
_LOADED_AS = {True: _text_only(), "json": _tuned(_untouched)}


class Values:
    """Values of one statement, in both directions."""

    def __init__(self, connection: psycopg.Connection[Any], *, text: Text = False) -> None:
        self._connection = connection
        self._strictly = _LOADED_AS[text] if text else connection.adapters
        self._loading = Transformer(_Context(self._strictly, connection) if text else connection)
        self._known: PGresult | None = None

    def rows(self, result: PGresult, *, first: bool = True) -> list[Row]:
        """The rows of a result; `first` unless one of the same statement came before."""
        self._loading.set_pgresult(result, set_loaders=first)
        try:
            return self._loading.load_rows(0, result.ntuples, tuple)
        except psycopg.DataError:
            # Infinity, BC and 24:00 are rare: only results that hold them pay for the slower loaders.
            self._loading = Transformer(_Context(_lenient(self._strictly), self._connection))
            self._loading.set_pgresult(result)
            return self._loading.load_rows(0, result.ntuples, tuple)


Dumped = tuple[Any, Any, Any]
"""Values, their types and their formats as libpq takes them."""


class Dumping:
    """Values of statements on their way out; what was learnt of a type serves for all."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._transformer = Transformer(connection)

    def dumped(self, params: tuple[Any, ...] | None) -> Dumped:
        if not params:
            return None, None, None
        values = self._transformer.dump_sequence(params, [PyFormat.AUTO] * len(params))
        return values, self._transformer.types, self._transformer.formats
