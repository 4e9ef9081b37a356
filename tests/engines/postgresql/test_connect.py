"""Connecting to PostgreSQL: who is refused, how often it is tried, how long it takes, what the session is."""

import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from katax_cli.core.resilience.failure import Failure, FailureKind
from katax_cli.core.settings import ConnectionSettings, Secret, TlsSettings
from katax_cli.engines.awaited.postgresql import create as create_awaited
from katax_cli.engines.postgresql import PostgresEngine, create
from katax_cli.engines.postgresql.backup.dump import credentials
from katax_cli.engines.postgresql.failures import connect_failure
from katax_cli.engines.postgresql.session import PostgresConnection
from katax_cli.errors import Refused
from tests.engines.connections import settings_for
from tests.servers import PASSWORDS, Certificates, Server, make_certificates
from tests.servers.fixtures import MakeProxy, Throwaway
from tests.waiting import at_last, until

# https://www.postgresql.org/docs/current/protocol-message-formats.html
SSL_REQUEST, STARTUP = b"\x04\xd2\x16\x2f", b"\x00\x03\x00\x00"
WRONG = Secret.of("not-the-pa55word")


def refused(settings: ConnectionSettings, timeout: float | None = 60.0) -> Failure:
    engine = create(settings)
    with pytest.raises(Exception) as error:
        engine.close(engine.connect(timeout))
    failure = engine.classify(error.value)
    assert "\n" not in failure.message
    assert "pa55word" not in failure.message
    assert PASSWORDS["postgresql"] not in failure.message
    return failure


def setting(engine: PostgresEngine, name: str) -> str:
    connection = engine.connect(60.0)
    try:
        return str(engine.execute(connection, f"SHOW {name}", None, 30.0).rows[0][0])
    finally:
        engine.close(connection)


def test_an_address_in_the_environment_is_not_the_profiles(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOSTADDR", "192.0.2.1")
    assert setting(create(settings_for(postgresql.url)), "port") == str(postgresql.port)
    if postgresql.socket:
        by_socket = replace(settings_for(postgresql.url), socket=str(postgresql.socket))
        assert setting(create(by_socket), "port") == str(postgresql.port)
    # As behind a tunnel: the name is for the certificate.
    named = replace(settings_for(postgresql.url), host="name.invalid", options={"hostaddr": "127.0.0.1"})
    assert setting(create(named), "port") == str(postgresql.port)


def test_a_wrong_password_is_one_login_attempt(postgresql: Server, proxy: MakeProxy) -> None:
    gate = proxy(postgresql)
    failure = refused(settings_for(gate.url, password=WRONG))
    assert failure.kind is FailureKind.AUTHENTICATION
    assert failure.message == 'password authentication failed for user "katax"'
    assert gate.connections == 1


def test_a_wrong_password_is_one_login_attempt_over_tls_too(tls_postgresql: Server, proxy: MakeProxy) -> None:
    gate = proxy(tls_postgresql)
    greetings: list[bytes] = []
    gate.on_client_bytes(
        lambda chunk: greetings.append(chunk) if chunk[4:8] in (SSL_REQUEST, STARTUP) else None
    )
    failure = refused(settings_for(gate.url, password=WRONG))
    assert (failure.kind, failure.code) == (FailureKind.AUTHENTICATION, "28P01")
    # libpq has opened a second connection by then, to log in without TLS; nothing is said on it.
    assert len(greetings) == 1


def test_a_server_with_tls_whose_rules_want_none_of_it(
    throwaway: Throwaway, certificates: Certificates
) -> None:
    server = throwaway("postgresql", certificates=certificates)
    rules = server.log.parent / "data" / "pg_hba.conf"
    rules.write_text("hostnossl all all all scram-sha-256\nlocal all all scram-sha-256\n")
    over_socket = settings_for(server, host=None, socket=str(server.socket))
    assert setting(create(over_socket), "ssl") == "on"
    engine = create(over_socket)
    connection = engine.connect(60.0)
    engine.execute(connection, "SELECT pg_reload_conf()")
    while not engine.execute(connection, "SELECT * FROM pg_hba_file_rules WHERE type = 'hostnossl'").rows:
        pass
    engine.close(connection)
    assert setting(create(settings_for(server, host="127.0.0.1")), "ssl") == "on"


def test_the_other_address_of_a_host_is_not_asked_after_a_refused_login(
    postgresql: Server, proxy: MakeProxy
) -> None:
    first, second = proxy(postgresql), proxy(postgresql)
    nodes = ((first.host, first.port), (second.host, second.port))
    failure = refused(settings_for(postgresql, nodes=nodes, password=WRONG))
    assert failure.kind is FailureKind.AUTHENTICATION
    assert (first.connections, second.connections) == (1, 0)


def test_the_next_node_is_asked_when_one_is_down(postgresql: Server, closed_port: int) -> None:
    nodes = (("127.0.0.1", closed_port), (postgresql.host, postgresql.port))
    assert setting(create(settings_for(postgresql, nodes=nodes)), "application_name") == "katax"


def test_a_deaf_node_takes_its_share_of_the_time_only(postgresql: Server, deaf_port: int) -> None:
    nodes = (("127.0.0.1", deaf_port), (postgresql.host, postgresql.port))
    engine = create(settings_for(postgresql, nodes=nodes, connect_timeout=0.2))
    assert at_last(lambda: setting(engine, "application_name")) == "katax"


@pytest.mark.parametrize(
    ("changes", "kind", "code", "message"),
    [
        ({"database": "nope"}, FailureKind.CONFIGURATION, "3D000", 'database "nope" does not exist'),
        ({"password": None}, FailureKind.AUTHENTICATION, "28P01", "fe_sendauth: no password supplied"),
        (
            {"host": "no-such-host.invalid"},
            FailureKind.UNREACHABLE,
            None,
            "host name 'no-such-host.invalid' could not be resolved",
        ),
        (
            {"tls": TlsSettings("require")},
            FailureKind.CONFIGURATION,
            None,
            "server does not support SSL, but SSL was required",
        ),
        (
            {"options": {"options": "-c no_such_setting=1"}},
            FailureKind.CONFIGURATION,
            "42704",
            'unrecognized configuration parameter "no_such_setting"',
        ),
        ({"options": {"no_such_option": "1"}}, FailureKind.CONFIGURATION, None, None),
    ],
    ids=["database", "no password", "host", "tls", "session option", "libpq option"],
)
def test_why_connecting_failed(
    postgresql: Server, changes: dict[str, Any], kind: FailureKind, code: str | None, message: str | None
) -> None:
    failure = refused(settings_for(postgresql, **changes))
    assert (failure.kind, failure.code) == (kind, code)
    assert message is None or failure.message == message


def test_an_unknown_role_reads_like_a_wrong_password(postgresql: Server) -> None:
    assert refused(settings_for(postgresql, user="nobody_here")).kind is FailureKind.AUTHENTICATION


def test_nobody_listens(postgresql: Server, closed_port: int) -> None:
    failure = refused(settings_for(postgresql, port=closed_port))
    assert failure == Failure(FailureKind.UNREACHABLE, "Connection refused")


@pytest.mark.parametrize("port_of", ["deaf_port", "unreachable_port"])
def test_silence_ends_at_the_time_given_and_not_at_libpqs_two_seconds(
    postgresql: Server, port_of: str, request: pytest.FixtureRequest
) -> None:
    port = request.getfixturevalue(port_of)

    def took_less_than_libpq() -> bool:
        began = time.monotonic()
        failure = refused(settings_for(postgresql, port=port), 0.1)
        took = time.monotonic() - began
        assert failure.kind is FailureKind.UNREACHABLE
        # What is left of the tenth of a second when the name has been looked up.
        assert re.fullmatch(rf"no answer from 127\.0\.0\.1:{port} within 0(\.\d+)? s", failure.message)
        assert took >= 0.1
        return took < 2.0

    until(took_less_than_libpq)


def test_connect_timeout_of_the_profile_holds_too(postgresql: Server, deaf_port: int) -> None:
    failure = refused(settings_for(postgresql, port=deaf_port, connect_timeout=0.15), None)
    assert failure.message.endswith("within 0.15 s")


def test_too_many_connections(throwaway: Throwaway) -> None:
    server = throwaway("postgresql", settings={"max_connections": "4", "superuser_reserved_connections": "0"})
    engine = create(settings_for(server))
    held = []
    for _ in range(20):
        try:
            held.append(engine.connect(60.0))
        except Exception as error:  # noqa: BLE001
            failure = engine.classify(error)
            break
    else:
        pytest.fail("the server let everybody in")
    for connection in held:
        engine.close(connection)
    assert (failure.kind, failure.code) == (FailureKind.OVERLOADED, "53300")


def test_tls_is_used_when_the_server_has_it(tls_postgresql: Server) -> None:
    engine = create(settings_for(tls_postgresql))
    connection = engine.connect(60.0)
    assert connection.pgconn.ssl_in_use
    engine.close(connection)


def test_full_verification_by_the_authority_of_the_profile(tls_postgresql: Server, tmp_path: Path) -> None:
    certificates = tls_postgresql.certificates
    assert certificates is not None
    trusted = TlsSettings("verify-full", ca=str(certificates.ca))
    assert setting(create(settings_for(tls_postgresql, tls=trusted)), "ssl") == "on"
    stranger = make_certificates(tmp_path / "other")
    distrusted = replace(trusted, ca=str(stranger.ca))
    failure = refused(settings_for(tls_postgresql, tls=distrusted))
    assert failure.kind is FailureKind.CONFIGURATION
    assert "certificate verify failed" in failure.message


def test_full_verification_without_an_authority_asks_the_system(tls_postgresql: Server) -> None:
    failure = refused(settings_for(tls_postgresql, tls=TlsSettings("verify-full")))
    assert failure.kind is FailureKind.CONFIGURATION


def test_no_tls_where_the_server_insists(tls_postgresql: Server) -> None:
    failure = refused(settings_for(tls_postgresql, host="127.0.0.1", tls=TlsSettings("disable")))
    assert (failure.kind, failure.code) == (FailureKind.CONFIGURATION, "28000")
    assert "no encryption" in failure.message


def test_a_client_certificate(throwaway: Throwaway, certificates: Certificates) -> None:
    server = throwaway("postgresql", certificates=certificates, client_certificate=True)
    tls = TlsSettings("verify-full", ca=str(certificates.ca))
    failure = refused(settings_for(server, tls=tls))
    assert failure.kind is FailureKind.CONFIGURATION
    mine = replace(tls, cert=str(certificates.client_cert), key=str(certificates.client_key))
    assert setting(create(settings_for(server, tls=mine)), "ssl") == "on"


@pytest.mark.parametrize("whole_path", [True, False], ids=["file", "folder"])
def test_through_the_socket(postgresql: Server, whole_path: bool) -> None:
    assert postgresql.socket is not None
    path = postgresql.socket if whole_path else postgresql.socket.parent
    settings = settings_for(postgresql, host=None, socket=str(path))
    assert setting(create(settings), "application_name") == "katax"


def test_the_session_starts_with_what_the_profile_says(postgresql: Server) -> None:
    engine = create(
        settings_for(
            postgresql,
            statement_timeout=12.5,
            options={"application_name": "mine", "options": "-c work_mem=7MB"},
        )
    )
    connection = engine.connect(60.0)
    names = ("statement_timeout", "work_mem", "application_name")
    sql = "SELECT current_setting($1), current_setting($2), current_setting($3)"
    assert engine.execute(connection, sql, names, 12.5).rows == [("12500ms", "7MB", "mine")]
    assert connection.autocommit
    engine.close(connection)


@pytest.mark.parametrize("create", [create, create_awaited])
def test_a_server_that_takes_nothing_is_waited_for_while_it_lives(
    create: Callable[[ConnectionSettings], PostgresEngine], postgresql_url: str
) -> None:
    """TCP_USER_TIMEOUT ends a connection whose peer leaves no room for data, though it answers each probe."""
    settings = settings_for(postgresql_url)
    engine = create(settings)
    connection = engine.connect(60.0)
    engine.execute(connection, "CREATE TABLE t (id int)", None, 30.0)
    seen: list[tuple[int, ...]] = []

    def rows() -> Iterator[tuple[int]]:
        for number in range(3):
            seen.append(limits_of_the_wire(connection))
            yield (number,)

    assert engine.copy_rows(connection, "COPY t FROM stdin", rows()) == 3
    engine.close(connection)
    # A host that vanished is noticed by three questions without an answer.
    assert seen == [(1, 30, 10, 3, 0)] * 3
    # pg_restore sends as much.
    assert "tcp_user_timeout" not in credentials(settings).files["pg_service.conf"]
    own = create(replace(settings, options={"tcp_user_timeout": "7000"})).connect(60.0)
    assert limits_of_the_wire(own) == (1, 30, 10, 3, 7000)
    own.close()


def limits_of_the_wire(connection: PostgresConnection) -> tuple[int, ...]:
    with socket.socket(fileno=os.dup(connection.pgconn.socket)) as wire:
        names = (
            socket.TCP_KEEPIDLE,
            socket.TCP_KEEPINTVL,
            socket.TCP_KEEPCNT,
            socket.TCP_USER_TIMEOUT,
        )
        ours = [wire.getsockopt(socket.IPPROTO_TCP, name) for name in names]
        return wire.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), *ours


def test_a_read_only_session_refuses_writes_without_any_transaction(postgresql_url: str) -> None:
    engine = create(settings_for(postgresql_url, read_only=True))
    connection = engine.connect(60.0)
    with pytest.raises(Exception, match="read-only") as error:
        engine.execute(connection, "CREATE TABLE t ()")
    assert engine.classify(error.value).kind is FailureKind.READ_ONLY
    engine.close(connection)


def test_the_guard_of_a_read_only_session_wins_over_options_of_the_url(postgresql: Server) -> None:
    options = {"options": "-c default_transaction_read_only=off"}
    engine = create(settings_for(postgresql, read_only=True, options=options))
    assert setting(engine, "default_transaction_read_only") == "on"


def test_a_session_that_is_not_read_only_is_refused(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "katax_cli.engines.postgresql.connect._session_options", lambda settings: "-c statement_timeout=1000"
    )
    with pytest.raises(Refused) as error:
        create(settings_for(postgresql, read_only=True)).connect(60.0)
    assert str(error.value) == "refused: 'main' is read-only, but the server did not make its session so"


def test_server_starting_up_and_gone(throwaway: Throwaway) -> None:
    server = throwaway("postgresql")
    engine = create(settings_for(server))
    connection = engine.connect(60.0)
    server.stop()
    assert engine.is_broken(connection)
    assert refused(settings_for(server)).kind is FailureKind.UNREACHABLE


def test_a_pooler_that_takes_no_options_is_named_with_its_setting() -> None:
    failure = connect_failure("connection failed: FATAL:  unsupported startup parameter: options")

    assert failure.kind is FailureKind.CONFIGURATION
    assert failure.message.endswith('options; behind PgBouncer set pooler = "transaction" on the connection')
