"""Redis commands that are typed: words, transactions that are kept here until EXEC, and what needs another way."""

from pathlib import Path

import pytest

from katax_cli.errors import ConfigError, KataxError, OutcomeUnknown, QueryError
from katax_cli.services.calls.left_behind import start
from katax_cli.services.dialogue.redis import RedisDialogue, words_of
from katax_cli.services.runtime.runtime import Runtime
from tests.servers.fixtures import MakeProxy
from tests.services.profiles import profile
from tests.waiting import until


def test_words_are_read_as_redis_cli_reads_them() -> None:
    assert words_of('set "a b" \'c "d"\' plain') == (b"set", b"a b", b'c "d"', b"plain")
    assert words_of(r'set k "\x00\n\"é"') == (b"set", b"k", b'\x00\n"' + "é".encode())
    assert words_of("  ") == ()
    assert words_of("get a'") == (b"get", b"a'")
    for line in ('get "open', "get 'open", 'get "a"b'):
        with pytest.raises(ConfigError, match="quote"):
            words_of(line)


def test_a_transaction_is_sent_at_its_exec(redis_url: str, proxy: MakeProxy, tmp_path: Path) -> None:
    wire = proxy(redis_url)
    with Runtime(profile(tmp_path, {"cache": wire.url})) as runtime:
        database = runtime.redis(runtime.profile.connection("cache"))
        dialogue = RedisDialogue(database, seconds=60.0)

        def type_(line: str) -> object:
            return dialogue.run(words_of(line))

        assert (type_("multi"), type_("incr n"), dialogue.state) == (b"OK", b"QUEUED", "open")
        assert database.redis("GET", "n") is None
        with pytest.raises(KataxError, match="MULTI is open already"):
            type_("multi")
        wire.cut()
        assert type_("incr n") == b"QUEUED", "a lost connection cannot lose what was not sent"
        assert type_("exec") == [1, 2]
        assert dialogue.state == "none"

        type_("multi")
        type_("incr n")
        type_("nosuch command")
        with pytest.raises(QueryError, match="nothing of the transaction was run"):
            type_("exec")
        assert database.redis("GET", "n") == b"2"

        type_("multi")
        assert dialogue.close()
        assert not dialogue.close()
        with pytest.raises(KataxError, match="EXEC without MULTI"):
            type_("exec")

        type_("multi")
        type_("incr n")
        wire.cut_after(b"EXEC", forward=True)
        with pytest.raises(OutcomeUnknown):
            type_("exec")


def test_what_needs_a_connection_of_its_own_is_refused_with_a_way(redis_url: str, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"cache": redis_url})) as runtime:
        dialogue = RedisDialogue(runtime.redis(runtime.profile.connection("cache")), seconds=60.0)
        for line, way in {
            "subscribe c": "pubsub subscribe",
            "MONITOR": "redis-cli",
            "select 3": "url",
            "watch k": "--native",
            "client reply off": "url",
        }.items():
            with pytest.raises(ConfigError, match=way):
                dialogue.run(words_of(line))


def test_a_cancelled_command_ends_and_the_next_one_works(redis_url: str, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"cache": redis_url})) as runtime:
        database = runtime.redis(runtime.profile.connection("cache"))
        dialogue = RedisDialogue(database, seconds=600.0)
        waiting = start("test-command", lambda: dialogue.run(words_of("blpop nothing 0")))
        other = runtime.profile.connection("cache")
        with Runtime(profile(tmp_path, {"cache": redis_url})) as second:
            clients = second.redis(other)
            until(lambda: b"cmd=blpop" in clients.redis("CLIENT", "LIST"))
            dialogue.cancel()
            until(lambda: waiting.ended(0.05))

            assert isinstance(waiting.outcome, OutcomeUnknown), "it may have taken an element"
            assert dialogue.run(words_of("set k 1")) == b"OK"
            until(lambda: b"cmd=blpop" not in clients.redis("CLIENT", "LIST"))
