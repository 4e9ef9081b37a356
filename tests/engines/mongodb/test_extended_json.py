"""Extended JSON both ways, and words and cells as people write and read them."""

import datetime
import json
from typing import Any

import bson
import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from hypothesis import given
from hypothesis import strategies as st

from katax_cli.core.settings import ConnectionSettings
from katax_cli.engines.mongodb import create as engine
from katax_cli.engines.mongodb import extended_json

CODEC = extended_json.create(engine(ConnectionSettings("docs", "mongodb")))
OID = ObjectId("507f1f77bcf86cd799439011")
WHEN = datetime.datetime(2026, 1, 2, 3, 4, 5, 678000)
EVERYTHING: dict[str, Any] = {
    "oid": OID,
    "date": WHEN,
    "before 1970": datetime.datetime(1815, 12, 10),
    "no date of Python": DatetimeMS(-(10**15)),
    "decimal": Decimal128("1.10"),
    "int": 7,
    "long": Int64(2**60),
    "double": 1.0,
    "infinity": float("-inf"),
    "binary": Binary(b"\0\xff", 0x80),
    "uuid": Binary(b"0123456789abcdef", 4),
    "regex": Regex("^a.b", "i"),
    "timestamp": Timestamp(1, 2),
    "keys": [MinKey(), MaxKey()],
    "code": Code("x", {"a": 1}),
    "nested": {"a": [{"b": None}, True, 'é\u2028\n"$']},
    "$oid-like": "text",
}


@pytest.mark.parametrize("canonical", [True, False])
def test_what_is_written_is_read_back(canonical: bool) -> None:
    text = CODEC.write(EVERYTHING, canonical=canonical)
    json.loads(text, parse_constant=pytest.fail)
    assert "\n" not in text
    back = CODEC.read(text)
    assert {**back, "double": 1.0} == {**EVERYTHING, "binary": EVERYTHING["binary"]}
    # Relaxed JSON does not say how wide a number is; canonical JSON says everything.
    assert canonical <= (bson.encode(back) == bson.encode(EVERYTHING))


def test_nan_is_a_double() -> None:
    assert CODEC.write({"n": float("nan")}) == '{"n": {"$numberDouble": "NaN"}}'
    assert CODEC.read('{"$numberDouble": "NaN"}') != CODEC.read('{"$numberDouble": "NaN"}')


NO_JSON = (
    "",
    "{",
    "{a: 1}",
    '{"a": NaN}',
    '{"a": -Infinity}',
    '{"a": {"$oid": "bad"}}',
    '{"a": {"$oid": 5}}',
    '{"a": {"$date": "2020-01-01"}}',
    '{"a": {"$numberLong": "x"}}',
    '{"a": {"$numberLong": "99999999999999999999"}}',
    '{"a": {"$numberDecimal": "x"}}',
    '{"a": {"$numberInt": 5}}',
    '{"a": {"$oid": null}}',
    '{"a": {"$date": true}}',
    '{"a": {"$date": 1.5}}',
    '{"a": {"$undefined": true, "b": 1}}',
    '{"a": {"$binary": {"base64": "", "subType": "00"}, "b": 1}}',
    '{"a": {"$regex": "x", "$options": "g"}}',
    '{"a": {"$regularExpression": {"pattern": "x", "options": "g"}}}',
    '{"a": 1e999}',
    '{"a": {"$numberDouble": "-1e999"}}',
    '{"a": {"$binary": "x"}}',
    '{"a": {"$uuid": "x"}}',
    '{"a": {"$timestamp": {"t": 1}}}',
    '{"a": {"$oid": "507f1f77bcf86cd799439011", "more": 1}}',
    '{"$code": "x", "$scope": 3}',
    '{"a": 123456789012345678901234567890}',
    '{"a\\u0000b": 1}',
    '{"a": "\\ud800"}',
    "[" * 100_000,
    '{"a":' * 5_000 + "1" + "}" * 5_000,
)


@pytest.mark.parametrize("text", NO_JSON, ids=lambda text: text[:40])
def test_what_is_no_extended_json_is_a_value_error_in_one_line(text: str) -> None:
    with pytest.raises(ValueError) as error:
        CODEC.read(text)
    assert "\n" not in str(error.value)


def test_a_pattern_among_other_operators_stays_one_of_them() -> None:
    for text in ('{"a": {"$regex": "^A", "$nin": ["Ada"]}}', '{"a": {"$type": "string", "$regex": "x"}}'):
        assert CODEC.read(text) == json.loads(text)
    assert CODEC.read('{"a": {"$regex": "^A", "$options": "i"}}') == {"a": Regex("^A", "i")}


def test_a_word_has_the_type_that_it_looks_like() -> None:
    utc = datetime.UTC
    for word, value in {
        "5": 5,
        "-7": -7,
        "1.5": 1.5,
        "1e3": 1000.0,
        "007": "007",
        "+5": "+5",
        "1_000": "1_000",
        "true": True,
        "True": "True",
        "null": None,
        "": "",
        "507f1f77bcf86cd799439011": OID,
        "507f1f77bcf86cd79943901": "507f1f77bcf86cd79943901",
        "2026-01-02": datetime.datetime(2026, 1, 2, tzinfo=utc),
        "2026-01-02T03:04": datetime.datetime(2026, 1, 2, 3, 4, tzinfo=utc),
        "2026-01-02 03:04:05.678Z": WHEN.replace(tzinfo=utc),
        "2026-01-02T03:04:05.678901234Z": WHEN.replace(microsecond=678901, tzinfo=utc),
        "2026-01-02T03:04:05+02": datetime.datetime(2026, 1, 2, 1, 4, 5, tzinfo=utc),
        "2026-01-02T03:04:05+02:00": datetime.datetime(2026, 1, 2, 1, 4, 5, tzinfo=utc),
        "2026-01": "2026-01",
        "NaN": "NaN",
        '{"$numberDecimal": "1.10"}': Decimal128("1.10"),
        "[1]": "[1]",
        "$where": "$where",
    }.items():
        found = CODEC.literal(word)
        assert (found, type(found)) == (value, type(value)), word
    years = ("0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00")
    for word in (
        *years,
        "9223372036854775808",
        "1e999",
        "2026-02-30",
        "2026-01-02T25:00",
        '{"$gt": 1}',
        "{}",
        "{a",
    ):
        with pytest.raises(ValueError):
            CODEC.literal(word)


@given(st.text())
def test_no_word_becomes_a_document(word: str) -> None:
    try:
        value = CODEC.literal(word)
    except ValueError:
        return
    assert not isinstance(value, dict | list)
    bson.encode({"": value})


def test_cells_are_bare_where_a_value_is_one() -> None:
    cells = {name: CODEC.cell(value) for name, value in EVERYTHING.items()}
    assert cells == {
        "oid": "507f1f77bcf86cd799439011",
        "date": "2026-01-02T03:04:05.678Z",
        "before 1970": "1815-12-10T00:00:00Z",
        "no date of Python": '{"$date": {"$numberLong": "-1000000000000000"}}',
        "decimal": "1.10",
        "int": 7,
        "long": 2**60,
        "double": "1.0",
        "infinity": "-Infinity",
        "binary": "\\x00ff",
        "uuid": "30313233-3435-3637-3839-616263646566",
        "regex": '{"$regularExpression": {"pattern": "^a.b", "options": "i"}}',
        "timestamp": '{"$timestamp": {"t": 1, "i": 2}}',
        "keys": '[{"$minKey": 1}, {"$maxKey": 1}]',
        "code": '{"$code": "x", "$scope": {"a": 1}}',
        "nested": '{"a": [{"b": null}, true, "é\u2028\\n\\"$"]}',
        "$oid-like": "text",
    }
