"""What may stand at the cursor, by the text before it."""

from katax_cli.cli.db.repl.suggestions import of_mongodb, of_redis, of_sql


class Known:
    """Names as a server has them."""

    def tables(self) -> list[str]:
        return ["customers", "Orders", "order items"]

    def columns(self, table: str) -> list[str]:
        return {"customers": ["id", "name"], "Orders": ["id", "total"], "shop.customers": ["vip"]}.get(
            table, []
        )

    def keys(self, beginning: str) -> list[str]:
        return [key for key in ("user:1", "user:2", "two words", "bad\x1b[31m") if key.startswith(beginning)]

    def commands(self) -> list[str]:
        return ["GET", "GETDEL", "SET"]


def test_sql() -> None:
    suggest = of_sql(Known(), "postgresql")

    assert suggest("select * from cu", "") == (["customers"], 2)
    assert suggest("select * from ", "").words == ["customers", '"Orders"', '"order items"']
    assert suggest("select c.n", " from customers as c").words == ["name"]
    assert suggest("select c.", " from shop.customers c where 1").words == ["vip"]
    assert suggest("select na", " from customers").words == ["name", "natural"]
    assert suggest("SEL", "").words == ["SELECT"]
    assert suggest("sel", "").words == ["select"]
    assert suggest("\\d cu", "").words == ["customers"]
    assert suggest("\\w", "").words == ["\\watch"]
    assert of_sql(Known(), "mysql")("select * from ", "").words == ["customers", "Orders", "`order items`"]


def test_redis() -> None:
    suggest = of_redis(Known())

    assert suggest("ge", "") == (["get", "getdel"], 2)
    assert suggest("GET", "").words == ["GET", "GETDEL"]
    assert suggest("get user:", "") == (["user:1", "user:2"], 5)
    assert suggest("get two", "").words == []
    assert suggest("get bad", "").words == []


def test_mongodb() -> None:
    suggest = of_mongodb(Known())

    assert suggest("db.cu", "").words == ["customers"]
    assert suggest("db.customers.findO", "").words == ["findOne"]
    assert suggest('db.customers.find({"n', "").words == ["name"]
    assert suggest("show c", "").words == []
