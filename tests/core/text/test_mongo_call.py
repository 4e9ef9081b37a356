"""Calls as MongoDB's shell writes them."""

import pytest

from katax_cli.core.text.mongo_call import MethodCall, MongoCall, is_whole, parse_call


def test_calls_are_read_with_their_arguments_as_they_stand() -> None:
    find = parse_call('db.users.find( {"a": {"$gt": 1}} , {"_id": 0} ) .sort({"a": -1}).limit(5);')
    command = parse_call('db.runCommand({"ping": 1})')

    assert find.collection == "users"
    assert find.calls == (
        MethodCall("find", ('{"a": {"$gt": 1}}', '{"_id": 0}')),
        MethodCall("sort", ('{"a": -1}',)),
        MethodCall("limit", ("5",)),
    )
    assert command == MongoCall(None, (MethodCall("runCommand", ('{"ping": 1}',)),))
    assert parse_call("db.system.profile.find()").collection == "system.profile"
    assert parse_call('db.getCollection("a b.c").drop()').collection == "a b.c"
    assert parse_call('db["a)b"].find({"x": ")"})').collection == "a)b"
    assert parse_call("show  Collections").calls == (MethodCall("show", ('"collections"',)),)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("users.find()", "begins with 'db.'"),
        ("db.users.find({a: 1})", "JSON, with names in double quotes at column 16"),
        ("db.users.find({'a': 1})", "JSON, with names in double quotes"),
        ("db.users.find(1 2)", "expected ',' at column 17, found '2)'"),
        ("db.users.find(1,)", "expected JSON"),
        ("db.users.find(", "at the end"),
        ("db.users.find() x", "expected '.' at column 17"),
        ("db.users.find().", "expected a name at the end"),
        ("db.users", "expected '(' at the end"),
        ("db.", "expected a name at the end"),
        ("db[1].find()", "the name of a collection is a string"),
        ("db.users.find(" + "[" * 100_000 + ")", "nested deeper than 250"),
    ],
)
def test_what_nearly_parses_is_refused_where_it_stops(text: str, told: str) -> None:
    with pytest.raises(ValueError) as error:
        parse_call(text)

    assert told in str(error.value)


def test_a_call_is_whole_when_its_brackets_are_closed() -> None:
    whole = ["db.a.find()", 'db.a.find({"x": "("})', r'db.a.find({"x": "\"("})', "db.a.find())", "x"]
    more = [
        "db.a.find(",
        'db.a.find({"x": "',
        'db.a.find({"x": 1}',
        r'db.a.find({"x": "\"})',
        "db.a.aggregate([",
    ]

    assert [text for text in whole if not is_whole(text)] == []
    assert [text for text in more if is_whole(text)] == []
