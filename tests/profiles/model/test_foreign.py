"""Parameters of other tools in URLs: ignored and named, never one that decides about encryption."""

from katax_cli.core.settings import TlsSettings
from katax_cli.profiles.model.connections import ConnectionContext, build_connection
from katax_cli.profiles.model.foreign import is_foreign

AROUND = ConnectionContext("/srv/app", environ={})


def test_parameters_of_other_tools_are_dropped_and_named() -> None:
    for url, ignored, kept in (
        ("postgresql://db/x?schema=public&connection_limit=5", ("schema", "connection_limit"), {}),
        (
            "postgresql://db/x?sslmod=require&x-migrations-table=m",
            ("x-migrations-table",),
            {"sslmod": "require"},
        ),
        ("postgresql://db/x?options=-c%20a%3Db&currentSchema=s", ("currentSchema",), {"options": "-c a=b"}),
        ("mysql+pymysql://db/x?charset=utf8mb4&parseTime=true", ("charset", "parseTime"), {}),
        ("mongodb://db/x?useNewUrlParser=true&appName=a", ("useNewUrlParser",), {"appName": "a"}),
        ("redis://db/0?family=6", ("family",), {}),
        ("sqlite:///x.db?cache=shared&mode=ro", ("cache",), {}),
    ):
        settings = build_connection("main", {"url": url}, AROUND)
        assert (settings.ignored, settings.options) == (ignored, kept)


def test_encryption_is_read_as_its_tool_means_it() -> None:
    for parameter, mode in (
        ("ssl=require", "require"),
        ("ssl=verify-full", "verify-full"),
        ("useSSL=true", "require"),
        ("tls=skip-verify", "require"),
        ("sslaccept=strict", "verify-full"),
    ):
        settings = build_connection("main", {"url": f"mysql://db/x?{parameter}"}, AROUND)
        assert settings.tls == TlsSettings(mode)  # type: ignore[arg-type]
    words = ("ssl", "sslmode", "sslrootcert", "tls", "usessl", "sslaccept", "ssl_ca", "tlsInsecure")
    assert [
        word for kind in ("postgresql", "mysql", "mongodb") for word in words if is_foreign(kind, word)
    ] == []
