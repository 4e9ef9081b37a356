from __future__ import annotations

from katax_cli.services.databases.redis_effects import administers, loses_data


def test_what_loses_data_beyond_its_keys_is_known_by_its_first_words() -> None:
    losing = ["FLUSHALL", "flushdb async", "SWAPDB 0 1", "replicaof no one", "shutdown"]
    harmless = ["GET a", "DEL a", "set flushall 1", "XGROUP DESTROY s g", ""]
    assert all(loses_data(words.split()) for words in losing)
    assert loses_data([" Debug", "sleep"])
    # The driver sends one word with blanks as several.
    assert all(map(loses_data, (["flushall async"], [" flushdb\tsync", "x"], ["swapdb 0", "1"])))
    assert not any(loses_data(words.split()) for words in harmless)


def test_what_changes_the_server_or_runs_a_script_is_known_by_two_words() -> None:
    changing = [
        "config set a b",
        "CONFIG REWRITE",
        "acl setuser x",
        "client kill 1",
        "eval x 0",
        "script flush",
    ]
    reading = ["config get a", "acl whoami", "client list", "script exists x", "get a", ""]
    assert all(administers(words.split()) for words in changing)
    assert not any(administers(words.split()) for words in reading)
    assert all(map(administers, (["config  set", "a", "b"], ["eval return(1) 0"], ["acl setuser x"])))
    assert not any(map(administers, (["config get", "a"], ["get eval"], ["", "eval"][:1])))
