"""`katax db select|insert|update|delete` on each SQL engine: statements from words, of which none becomes SQL."""

from pathlib import Path

import pytest

from tests.cli.harness import Done, katax, write_profile
from tests.cli.terminal import at_terminal
from tests.servers.fixtures import MakeFresh, Target


@pytest.fixture
def main(sql_engine: Target, tmp_path: Path) -> Target:
    """Each SQL engine in turn, as `main`, with three people and an order."""
    write_profile(tmp_path, {"main": sql_engine.url})
    script = (
        "create table people (id int primary key, name varchar(40), age int, note varchar(40));"
        "insert into people values (1, 'Ada', 36, null), (2, 'Bob', 17, 'x'), (3, 'Cleo', 52, 'a, b');"
        "create table orders (id int primary key, person int); insert into orders values (1, 1), (2, 1)"
    )
    assert katax("db", "exec", script).code == 0
    return sql_engine


def select(*words: str) -> list[str]:
    done = katax("db", "select", *words, "-f", "csv", "--no-header")
    assert (done.code, done.err) == (0, "")
    return done.out.splitlines()


def names(*words: str) -> list[str]:
    return select("people", "--columns", "name", "--order", "id", *words)


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (["age = 36"], ["Ada"]),
        (["age!=36"], ["Bob", "Cleo"]),
        (["age < 36"], ["Bob"]),
        (["age >= 36"], ["Ada", "Cleo"]),
        (["name like %o%"], ["Bob", "Cleo"]),
        (["name not like %o%"], ["Ada"]),
        (["age in (17, 52)"], ["Bob", "Cleo"]),
        (["age not in 17,52"], ["Ada"]),
        (["note is null"], ["Ada"]),
        (["note is not null"], ["Bob", "Cleo"]),
        (["age > 17", "age < 52"], ["Ada"]),
        (["note = 'a, b'"], ["Cleo"]),
        (["note = a, b"], ["Cleo"]),
        (["name = '''Ada'' or 1 = 1'"], []),
        (["name = ''"], []),
        (["name = '; drop table people; --'"], []),
        (["people.age = 17"], ["Bob"]),
        (["length(name) < 4"], ["Ada", "Bob"]),
        (["name not in (Ada, 'x, y')"], ["Bob", "Cleo"]),
        (["name != abc=="], ["Ada", "Bob", "Cleo"]),
        (["name != 'x or 1=1'"], ["Ada", "Bob", "Cleo"]),
        (["age > 17.5"], ["Ada", "Cleo"]),
    ],
)
def test_conditions(where: list[str], found: list[str], main: Target) -> None:
    assert names(*(word for text in where for word in ("--where", text))) == found


def test_columns_order_limit_and_offset(main: Target) -> None:
    assert select("people", "--order", "age desc, id", "--columns", "name,age as years", "--limit", "2") == [
        "Cleo,52",
        "Ada,36",
    ]
    assert names("--limit", "1", "--offset", "1") == ["Bob"]
    assert names("--offset", "2") == ["Cleo"]
    header = katax("db", "select", "people", "--limit", "0", "-f", "csv")
    assert header.out == "id,name,age,note\n"


def test_groups_and_joins(main: Target) -> None:
    joined = ("people p", "--columns", "p.name,count(o.id) as n", "--group-by", "p.name", "--order", "p.name")
    left = "left orders as o on p.id = o.person"
    assert select(*joined, "--join", left) == ["Ada,2", "Bob,0", "Cleo,0"]
    assert select(*joined, "--join", "orders o on p.id = o.person") == ["Ada,2"]
    assert select(*joined, "--join", left, "--having", "count(o.id) > 1") == ["Ada,2"]
    assert select(*joined, "--join", left, "--having", "count(o.id) < 1", "--where", "p.age > 20") == [
        "Cleo,0"
    ]


def affected(done: Done) -> int:
    assert (done.code, done.err) == (0, "")
    number: int = done.json["rows_affected"]
    return number


def test_insert_words_and_json(main: Target, tmp_path: Path) -> None:
    assert affected(katax("db", "insert", "people", "id=4", "name=it's; --", "age=1", "-f", "json")) == 1
    rows = '[{"id": 5, "name": "Eve", "age": null}, {"id": 6, "name": "Fay", "age": 9}]'
    assert affected(katax("db", "insert", "people", "--json", rows, "-f", "json")) == 2
    (tmp_path / "row.json").write_text('{"id": 7, "note": {"a": [1]}}')
    assert affected(katax("db", "insert", "people", "--json", "@row.json", "-f", "json")) == 1
    given = katax("db", "insert", "people", "--json", "-", "-f", "json", stdin=b'{"id": 8, "age": 3}')
    assert affected(given) == 1

    assert select("people", "--where", "id > 3", "--order", "id", "--columns", "name,age,note") == [
        "it's; --,1,",
        "Eve,,",
        "Fay,9,",
        ',,"{""a"": [1]}"',
        ",3,",
    ]


def test_json_rows_come_all_or_none(main: Target) -> None:
    done = katax("db", "insert", "people", "--json", '[{"id": 10}, {"id": 10}]')

    assert done.code == 1
    assert len(names()) == 3


def test_update_and_delete(main: Target) -> None:
    assert affected(katax("db", "update", "people", "note=new", "--where", "age > 20", "-f", "json")) == 2
    assert select("people", "--columns", "note", "--order", "id") == ["new", "x", "new"]
    assert affected(katax("db", "delete", "people", "--where", "id = 2", "-f", "json")) == 1
    assert names() == ["Ada", "Cleo"]


def test_a_condition_that_may_mean_more_than_its_value_touches_nothing(main: Target) -> None:
    refused = (
        "name !== Ada", "name <>= Ada", "name == Ada", "age =< 5", "age => 5", "name = x or 1=1", "name != Ada or 1=1",
        "id > 1 and name = b", "id > '1 and name = b'", "id != x", "id in (1, x)", "name != note",
        "name != Ada and note", "name != Ada and note % 2", "name != Ada and lower(trim(note))",
        "name != Ada and (age + 1) * 2 > 5", "name != Ada and name similar to 'B%'", "name != Ada or age mod 2",
        "name != null", "name < now()", "name != Ada;", "age != ''", "name !=", "length(name) < 3 or 1=1", "name != :n",
    )  # fmt: skip
    for where in refused:
        for words in (("delete", "people"), ("update", "people", "age=1"), ("select", "people")):
            done = katax("db", *words, "--where", where)
            assert (done.code, done.out) == (2, ""), where
    assert katax("db", "delete", "people", "--where", "Nmae != Ada").code == 1
    assert katax("db", "select", "people", "--having", "count(id) > 1 or 1=1").code == 2
    assert select("people", "--columns", "name,age", "--order", "id") == ["Ada,36", "Bob,17", "Cleo,52"]


def test_bound_values_are_never_parsed(main: Target) -> None:
    nasty = "'x' or 1=1; -- !=name"
    row = ("id=4", "name=:n", "--param", f"n={nasty}")
    assert affected(katax("db", "insert", "people", *row, "-f", "json")) == 1
    found = names(
        "--where", "name = :n", "--where", "id in (4, :i)", "--param", f"n={nasty}", "--param", "i=1"
    )
    assert found == [nasty]
    assert names("--where", "name != :n", "--param", f"n={nasty}") == ["Ada", "Bob", "Cleo"]
    new = katax("db", "update", "people", "note=:n", "--where", "id = 4", "--param", "n=x", "-f", "json")
    assert affected(new) == 1

    number = katax("db", "delete", "people", "--where", "id > :i", "--param", "i=1 and name = b")
    assert (number.code, "id takes a number" in number.err) == (2, True)
    unused = katax("db", "delete", "people", "--where", "id = 1", "--param", "n=1")
    assert (unused.code, "no :n in a value" in unused.err) == (2, True)


def test_values_to_be_stored(main: Target) -> None:
    for word in (
        "name==x",
        "age=x",
        "age=age+1",
        "name=x where id = 1",
        "name=x, age = 5",
        "name=note",
        "note=null",
    ):
        done = katax("db", "update", "people", word, "--where", "id = 1")
        assert (done.code, done.out) == (2, ""), word
    done = katax("db", "update", "people", "name='= x'", "note=", "--where", "id = 1", "-f", "json")
    assert affected(done) == 1
    done = katax("db", "update", "people", "--json", '{"age": null}', "--where", "id = 1", "-f", "json")
    assert affected(done) == 1
    assert select("people", "--where", "id = 1") == ["1,= x,,"]


@pytest.mark.parametrize("words", [("update", "people", "age=1"), ("delete", "people")])
def test_every_row_is_asked_for(words: tuple[str, ...], main: Target) -> None:
    refused = katax("db", *words)
    assert refused.code == 4
    assert "without WHERE" in refused.err
    assert at_terminal("db", *words, typed="n").code == 4
    assert select("people", "--columns", "age", "--order", "id") == ["36", "17", "52"]

    assert affected(katax("db", *words, "-y", "-f", "json")) == 3


def test_a_pattern_that_fits_everything_is_asked_for_too(main: Target) -> None:
    for words in (("--where", "name like %"), ("--where", "name like :n", "--param", "n=%")):
        refused = katax("db", "delete", "people", *words)
        assert (refused.code, "DELETE with a WHERE that holds for every row" in refused.err) == (4, True)
    for given in (
        ("delete from people where name like ?", "%"),
        ("delete from people where id = ? or id != 1", "1"),
    ):
        assert katax("db", "query", *given).code == 4
    assert katax("db", "exec", "delete from people where id = 5 or id != 5").code == 4
    assert len(names()) == 3
    assert affected(katax("db", "delete", "people", "--where", "name like Ad%", "-f", "json")) == 1


def test_a_dry_run_changes_nothing(main: Target) -> None:
    for words in (
        ("insert", "people", "id=9"),
        ("update", "people", "age=1", "--where", "id = 1"),
        ("delete", "people", "--where", "id = 1"),
    ):
        done = katax("db", *words, "--dry-run", "-f", "json")
        assert (done.code, done.json["dry_run"], done.json["executed"]) == (0, True, False)
    assert select("people", "--columns", "age", "--order", "id") == ["36", "17", "52"]


def test_a_dry_run_says_what_would_run_and_for_how_many_rows(main: Target) -> None:
    update = katax(
        *("db", "update", "people", "name=O'Hara", "--where", "age > :n", "--param", "n=20", "--dry-run"),
        *("-f", "json"),
    ).json
    delete = katax("db", "delete", "people", "--dry-run", "-f", "json").json
    each = katax("db", "delete", "people", "--where", "id = 1", "-c", "ma*", "--dry-run", "-f", "json").json

    def squeezed(sql: str) -> str:
        sql = sql.replace("'20'", "20")
        return " ".join(sql.replace('"', "").replace("`", "").split()).lower()

    assert squeezed(update.pop("sql")) == "update people set name='o''hara' where age > 20"
    assert update == {"connections": ["main"], "rows": 2, "executed": False, "dry_run": True}
    assert (squeezed(delete["sql"]), delete["rows"]) == ("delete from people", 3)
    assert [(row["connection"], row["rows"]) for row in each] == [("main", 1)]
    assert len(names()) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("select", "people", "--columns", "id;drop"), "'id;drop' is no column"),
        (("select", "people; drop"), "'people; drop' is no table"),
        (("select", "people", "--where", "age ~ 1"), "'age ~ 1' is no condition"),
        (("select", "people", "--where", "age is 5"), "IS takes null, true or false"),
        (("select", "people", "--join", "orders"), "'orders' is no join"),
        (("select", "people", "--order", "age up"), "'up' is no direction"),
        (("select", "people", "--having", "sleep(1) = 1"), "'sleep(1)' is no column"),
        (("insert", "people"), "at least one column"),
        (("insert", "people", "id"), "'id' is no COL=VALUE"),
        (("insert", "people", "id=1", "--json", "{}"), "one of the two"),
        (("insert", "people", "--json", "x"), "--json is no JSON"),
        (("insert", "people", "--json", "[]"), "an object with columns"),
        (("insert", "people", "--json", '[{"id": 10}, {"name": "x"}]'), "different columns"),
        (("update", "people", "--where", "id = 1"), "at least one column"),
    ],
)
def test_a_mistake_is_one_line(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "sqlite:///x.db"})
    done = katax("db", *words)

    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1


def test_a_glob_asks_each_in_its_own_dialect(tmp_path: Path, fresh: MakeFresh) -> None:
    urls = {f"shard_{name}": fresh(name).url for name in ("postgresql", "mysql", "sqlite")}
    write_profile(tmp_path, urls)
    for name in urls:
        quote = "`" if "mysql" in name else '"'
        script = f"create table {quote}order{quote} (id int); insert into {quote}order{quote} values (7)"
        assert katax("db", "exec", "-c", name, script).code == 0

    done = katax("db", "select", "order", "-c", "shard*", "-f", "csv", "--no-header")

    assert (done.code, done.out.splitlines()) == (0, [f"{name},7" for name in urls])


def test_other_engines_say_what_they_lack(tmp_path: Path, redis_url: str) -> None:
    write_profile(tmp_path, {"main": redis_url})
    done = katax("db", "select", "people")

    assert done.code == 2
    assert "redis has no SQL" in done.err
