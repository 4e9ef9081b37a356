"""MongoDB Extended JSON: `{"$oid": …}`, `{"$date": …}`; and values as people write and read them.

https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/
"""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from math import isfinite
from typing import Any

import bson
from bson import Binary, Decimal128, Int64, ObjectId
from bson.binary import UUID_SUBTYPE
from bson.codec_options import DatetimeConversion
from bson.errors import BSONError
from bson.json_util import CANONICAL_JSON_OPTIONS, RELAXED_JSON_OPTIONS, JSONOptions, dumps, object_pairs_hook

from katax_cli.core.text.nesting import check_nesting
from katax_cli.core.text.text import hex_text
from katax_cli.engines.base import Engine

_READ = JSONOptions(datetime_conversion=DatetimeConversion.DATETIME_AUTO)
_NUMBER = r"-?(?:0|[1-9]\d*)(?P<fraction>\.\d+)?(?P<exponent>[eE][-+]?\d+)?"
_DATE = r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[-+]\d\d(?::?\d\d)?)?)?"
_WHOLE = {"$numberInt": 2**31, "$numberLong": 2**63}
_WHOLE_NUMBER = re.compile(r"-?[0-9]+").fullmatch
_DOUBLE = re.compile(r"-?(?:[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|Infinity)|NaN").fullmatch
_REGEX_OPTIONS = frozenset("ilmsux")
_BESIDE = {"$binary": {"$binary", "$type"}, "$undefined": {"$undefined"}}
"""The fields that an object of such a one may have; bson drops others."""
_CONSTANTS = {"true": True, "false": False, "null": None}


class ExtendedJson:
    """Reads and writes what JSON has no words for."""

    def read(self, text: str) -> Any:
        """The value of relaxed or canonical Extended JSON. Raises ValueError, also for what is no BSON."""
        try:
            check_nesting(text)
            value = json.loads(
                text, object_pairs_hook=_object, parse_float=_finite, parse_constant=_no_constant
            )
            bson.encode({"": value})
        except RecursionError as error:
            raise ValueError("nested too deep") from error
        except (ValueError, TypeError, KeyError, ArithmeticError, BSONError) as error:
            raise ValueError(" ".join(str(error).split())) from error
        return value

    def write(self, value: Any, *, canonical: bool = False) -> str:
        """A value as Extended JSON, relaxed or canonical, in one line."""
        options = CANONICAL_JSON_OPTIONS if canonical else RELAXED_JSON_OPTIONS
        return dumps(value, json_options=options, ensure_ascii=False)

    def cell(self, value: Any) -> Any:
        """A value for a cell of a table: a scalar as itself or bare text, the rest as relaxed Extended JSON."""
        make = _CELLS.get(type(value))
        return self.write(value) if make is None else make(value)

    def literal(self, word: str) -> Any:
        """The value that a word looks like: a number, true, false, null, an ISO 8601 date or time (UTC unless it says),
        an ObjectId of 24 hexadecimal digits, or Extended JSON such as `{"$numberDecimal": "1.10"}`; else its text.

        Raises ValueError for a number or a date that there is not.
        """
        if word in _CONSTANTS:
            return _CONSTANTS[word]
        if re.fullmatch(r"[0-9a-fA-F]{24}", word):
            return ObjectId(word)
        if (number := re.fullmatch(_NUMBER, word)) is not None:
            return _number(word, whole=number["fraction"] is None and number["exponent"] is None)
        if re.fullmatch(_DATE, word):
            return _date(word)
        return self._scalar(word) if word.startswith("{") else word

    def _scalar(self, word: str) -> Any:
        value = self.read(word)
        if isinstance(value, Mapping):
            raise ValueError(f"{word!r} is a document, not a value; quote it if the text is meant")
        return value


def _object(pairs: list[tuple[str, Any]]) -> Any:
    """An object, or the value that it stands for. Raises ValueError for what Python would read and others would not."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"has the field {max(names, key=names.count)!r} twice")
    if "$regex" in fields:
        if not fields.keys() <= {"$regex", "$options"}:
            # Operators of a filter, of which bson would keep the pattern alone.
            return fields
        _check_options(fields.get("$options"))
    for name, value in pairs:
        if name.startswith("$"):
            _check(name, value)
        if fields.keys() - _BESIDE.get(name, fields.keys()):
            raise ValueError(f"{name} has other fields beside it")
    return object_pairs_hook(pairs, _READ)


def _check(name: str, value: Any) -> None:
    """Raises ValueError for what bson would take for another value."""
    if name in _WHOLE and not (isinstance(value, str) and _WHOLE_NUMBER(value)):
        raise ValueError(f"{name} is {value!r}, expected digits in a string")
    if name in _WHOLE and not -_WHOLE[name] <= int(value) < _WHOLE[name]:
        raise ValueError(f"{name} is {value!r}, which does not fit")
    if name == "$numberDouble":
        if not (isinstance(value, str) and _DOUBLE(value)):
            raise ValueError(f"{name} is {value!r}, expected a number in a string")
        if not value.endswith(("Infinity", "NaN")):
            _finite(value)
    if name == "$binary" and isinstance(value, dict):
        base64.b64decode(value.get("base64", ""), validate=True)
    if name == "$oid" and not isinstance(value, str):
        raise ValueError(f"{name} is {value!r}, expected 24 hexadecimal digits in a string")
    if name == "$date" and isinstance(value, bool | float):
        raise ValueError(f"{name} is {value!r}, expected a time in a string, or $numberLong")
    if name == "$regularExpression" and isinstance(value, dict):
        _check_options(value.get("options"))


def _check_options(options: Any) -> None:
    if options is not None and not (isinstance(options, str) and _REGEX_OPTIONS.issuperset(options)):
        raise ValueError(f"{options!r} are no options of a regular expression; known are i, l, m, s, u, x")


def _finite(digits: str) -> float:
    number = float(digits)
    if not isfinite(number):
        raise ValueError(f"{digits} is too large for a double")
    return number


def _no_constant(name: str) -> Any:
    raise ValueError(f'{name} is no JSON; write {{"$numberDouble": "{name}"}}')


def _number(word: str, *, whole: bool) -> int | float:
    if not whole:
        return _finite(word)
    if not -(2**63) <= int(word) < 2**63:
        raise ValueError(f"{word} does not fit in 64 bits; quote it if the text is meant")
    return int(word)


def _date(word: str) -> datetime:
    try:
        moment = datetime.fromisoformat(word)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{word!r} is no date: {error}; quote it if the text is meant") from error


def _moment(value: datetime) -> str:
    """As Extended JSON writes it: to the millisecond, in UTC."""
    utc = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return utc.replace(tzinfo=None).isoformat(timespec="milliseconds" if utc.microsecond else "seconds") + "Z"


def _binary(value: Binary) -> str:
    is_uuid = value.subtype == UUID_SUBTYPE and len(value) == 16
    return str(uuid.UUID(bytes=bytes(value))) if is_uuid else hex_text(value)


def _same(value: Any) -> Any:
    return value


# By exact class, as BSON decodes them.
_CELLS: Mapping[type, Callable[[Any], Any]] = {
    str: _same,
    int: _same,
    bool: _same,
    float: json.dumps,
    type(None): _same,
    Int64: int,
    ObjectId: str,
    Decimal128: str,
    datetime: _moment,
    bytes: hex_text,
    Binary: _binary,
}


def create(engine: Engine) -> ExtendedJson:
    """The reader and writer for documents of any connection."""
    return ExtendedJson()
