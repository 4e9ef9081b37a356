from __future__ import annotations

from katax_cli.engines.redis.guard import only_reads
from katax_cli.services.databases.redis_effects import administers, loses_data
from tests.servers import Server
from tests.servers.fixtures import MakeFresh
from tests.services.redis_database import opened


def test_what_loses_data_beyond_its_keys_is_known_by_its_first_words() -> None:
    losing = ["FLUSHALL", "flushdb async", "SWAPDB 0 1", "replicaof no one", "shutdown"]
    harmless = ["GET a", "DEL a", "set flushall 1", "XGROUP DESTROY s g", ""]
    assert all(loses_data(words.split()) for words in losing)
    assert loses_data([" Debug", "sleep"])
    # The driver sends one word with blanks as several.
    assert all(map(loses_data, (["flushall async"], [" flushdb\tsync", "x"], ["swapdb 0", "1"])))
    assert not any(loses_data(words.split()) for words in harmless)


def is_asked_about(words: list[str]) -> bool:
    return not only_reads(words) and (loses_data(words) or administers(words))


def test_what_changes_the_server_or_runs_a_script_is_asked_about() -> None:
    changing = """config set a b|CONFIG REWRITE|acl setuser x|client kill 1|client unpause|eval x 0|script flush|sync
        psync ? -1|save|bgrewriteaof|acl log reset|slowlog reset|latency reset|monitor|script debug yes"""
    reading = """config get a|acl whoami|acl log|client list|script exists x|get a||cluster info|module list|xinfo help
        slowlog help|cluster help"""
    assert all(is_asked_about(words.split()) for words in changing.replace("\n", "|").split("|"))
    assert not any(is_asked_about(words.split()) for words in reading.replace("\n", "|").split("|"))
    assert all(map(is_asked_about, (["config  set", "a", "b"], ["eval return(1) 0"], ["acl setuser x"])))
    assert not any(map(is_asked_about, (["config get", "a"], ["get eval"], ["", "eval"][:1], [" "])))


def test_each_command_that_the_server_calls_dangerous_reads_or_names_its_keys_or_is_asked_about(
    fresh: MakeFresh, redis7: Server
) -> None:
    for target in (fresh("redis"), fresh(redis7)):
        with opened(target.url) as database:
            entries = [entry for one in database.redis("COMMAND") for entry in (one[9:] and one[9]) or [one]]
        dangerous = {
            entry[0].decode()
            for entry in entries
            if entry[3] == 0 and {b"admin", b"@admin", b"@dangerous"} & {*entry[2], *entry[6]}
        }
        assert len(dangerous) > 20
        words = {name: name.upper().split("|") for name in dangerous}
        let_through = {n for n in dangerous if not (is_asked_about(words[n]) or only_reads(words[n]))}
        assert let_through == set()
