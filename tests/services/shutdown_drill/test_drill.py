"""A good target passes, each bad one fails for its own reason and no other; on real servers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from secrets import token_hex
from urllib.parse import urlsplit

from katax_cli.services.processes.tree import processes
from tests.services.shutdown_drill.drilling import LEFT, Ground, command, failed, verdicts
from tests.services.shutdown_drill.targets import connect
from tests.waiting import patiently, until

OTHERS = {
    "postgresql": "select count(*) from pg_stat_activity "
    "where datname = current_database() and pid <> pg_backend_pid()",
    "mysql": "select count(*) from information_schema.processlist where db = database() and id <> connection_id()",
}


@contextmanager
def watching(ground: Ground) -> Iterator[tuple[Ground, Callable[[], bool]]]:
    """The same ground for a user who may see its own sessions only; and whether its database has no session."""
    at = urlsplit(ground.url)
    user = f"watcher_{token_hex(4)}"
    if at.scheme == "postgresql":
        made = f"create role {user} login password 'w4tch'; grant all on work to {user}"
        gone = f"drop owned by {user}; drop role {user}"
    else:
        made = f"create user {user} identified by 'w4tch'; grant all on {at.path[1:]}.* to {user}"
        gone = f"drop user {user}"
    with closing(connect(ground.url)) as owner:
        for statement in made.split("; "):
            owner.execute(statement)

        def is_empty() -> bool:
            return bool(owner.execute(OTHERS[at.scheme]).fetchone() == (0,))

        try:
            url = at._replace(netloc=f"{user}:w4tch@{at.hostname}:{at.port}").geturl()
            yield Ground(ground.folder, url), is_empty
        finally:
            for statement in gone.split("; "):
                owner.execute(statement)


def test_a_good_target_passes(postgresql_ground: Ground) -> None:
    report = postgresql_ground.drill_at_work("good")

    assert report.passed, report
    found = verdicts(report)
    assert found["in_flight_finished"].detail == "all 1 in flight at the signal finished"
    assert found["pools_closed"] == ("pools_closed", "ok", "closed properly: main", found["exit_code"].at_ms)
    assert found["no_sessions_left"].detail == "none on main"
    assert found["exit_code"].detail == "0, expected 0"
    assert [each.event for each in report.timeline][:3] == ["started", "ready", "signal SIGTERM"]


def test_a_leaked_session_fails(postgresql_ground: Ground) -> None:
    report = postgresql_ground.drill("leaks-session", settle=LEFT)

    assert failed(report) == {"no_sessions_left"}
    detail = verdicts(report)["no_sessions_left"].detail
    assert detail.startswith("session ")
    assert detail.endswith(" running SELECT on main")


def test_a_transaction_that_stays_open_fails(postgresql_ground: Ground) -> None:
    report = postgresql_ground.drill_at_work("leaves-transaction", settle=LEFT)

    assert failed(report) == {
        "in_flight_finished",
        "no_sessions_left",
        "no_transactions_left",
        "no_locks_left",
    }
    assert "is in progress" in verdicts(report)["in_flight_finished"].detail
    assert "RowExclusiveLock on work held by session" in verdicts(report)["no_locks_left"].detail


def test_work_that_is_rolled_back_fails(postgresql_ground: Ground) -> None:
    report = postgresql_ground.drill_at_work("drops-work")

    assert failed(report) == {"in_flight_finished"}
    assert verdicts(report)["in_flight_finished"].detail.endswith(" on main is aborted")


def test_a_lock_that_stays_fails(postgresql_ground: Ground) -> None:
    report = postgresql_ground.drill("leaves-lock", settle=LEFT)

    assert failed(report) == {"no_sessions_left", "no_locks_left"}
    assert verdicts(report)["no_locks_left"].detail.startswith("advisory lock held by session ")


def test_a_child_that_holds_a_session_fails(postgresql_ground: Ground) -> None:
    report = postgresql_ground.drill("leaves-child", settle=LEFT)

    assert failed(report) == {"no_sessions_left", "no_processes_left"}


def test_a_child_that_left_all_traces_behind_is_found_with_its_session(postgresql_ground: Ground) -> None:
    children = {seen.pid for seen in processes() if seen.parent == os.getpid()}
    report = postgresql_ground.drill("loses-child", settle=LEFT)

    assert failed(report) == {"no_sessions_left", "no_processes_left"}
    assert {seen.pid for seen in processes() if seen.parent == os.getpid()} <= children


def test_connections_that_are_not_closed_fail(postgresql_ground: Ground) -> None:
    report = postgresql_ground.drill("rude")

    assert failed(report) == {"pools_closed"}
    assert verdicts(report)["pools_closed"].detail == "sessions that did not close properly: 1 on main"


def test_the_wrong_exit_code_fails(postgresql_ground: Ground) -> None:
    report = postgresql_ground.drill("wrong-code")

    assert failed(report) == {"exit_code"}
    assert verdicts(report)["exit_code"].detail == "3, expected 0"


def test_another_exit_code_may_be_expected(postgresql_ground: Ground) -> None:
    assert postgresql_ground.drill("wrong-code", expected=(0, 3)).passed


def test_a_target_that_ignores_the_signal_fails(postgresql_ground: Ground) -> None:
    report = postgresql_ground.drill("ignores", grace=0.5)

    assert {"within_deadline", "exit_code", "second_signal_forces"} <= failed(report)
    assert verdicts(report)["exit_code"].detail == "none: it had to be killed"
    assert "killed" in [each.event for each in report.timeline]


def test_mysql_a_good_target_passes(mysql_ground: Ground) -> None:
    report = mysql_ground.drill("good")

    assert report.passed, report
    assert verdicts(report)["no_sessions_left"].detail == "none on main"


def test_mysql_work_that_is_rolled_back_is_not_called_finished(mysql_ground: Ground) -> None:
    """The server does not remember transactions; it counts rollbacks."""
    found = verdicts(mysql_ground.drill_at_work("drops-work"))["in_flight_finished"]

    assert found.status == "unknown"
    assert found.detail.endswith("the server counted rollbacks since, and does not say of which transactions")
    assert verdicts(mysql_ground.drill_at_work("good"))["in_flight_finished"].status == "ok"


def test_sessions_that_the_user_may_not_see_are_unknown(
    postgresql_ground: Ground, mysql_ground: Ground
) -> None:
    for ground in (postgresql_ground, mysql_ground):
        with watching(ground) as (watcher, is_empty):
            url = f"{ground.url}?application_name=shop" if ground is postgresql_ground else ground.url
            patiently(partial(is_unknown, watcher, is_empty, url), shortest=2.0)
            assert verdicts(watcher.run(command("good", watcher.url)))["no_sessions_left"].status == "ok"


def is_unknown(watcher: Ground, is_empty: Callable[[], bool], url: str, seconds: float) -> bool:
    """What is said of a program that has so long to connect; False where it had not when the signal came."""
    until(is_empty)  # a session of the attempt before would count as one of before the drill
    found = verdicts(watcher.run(command("leaves-child", url), ready_within=seconds, settle=LEFT))
    if "new sessions at the signal" not in found["in_flight_finished"].detail:
        return False
    for check in ("no_sessions_left", "no_transactions_left", "no_locks_left"):
        assert found[check][1:3] == ("unknown", "main does not show it to this user")
    assert found["in_flight_finished"].status == "unknown"
    return True


def test_mysql_a_leaked_session_fails(mysql_ground: Ground) -> None:
    report = mysql_ground.drill("leaks-session", settle=LEFT)

    assert failed(report) == {"no_sessions_left"}
    assert verdicts(report)["no_sessions_left"].detail.endswith(" running SELECT on main")


def test_mysql_a_transaction_that_stays_open_fails(mysql_ground: Ground) -> None:
    report = mysql_ground.drill_at_work("leaves-transaction", settle=LEFT)

    left = {"no_sessions_left", "no_transactions_left", "no_locks_left"}
    assert failed(report) == {"in_flight_finished", *left}
    assert "open in session " in verdicts(report)["no_transactions_left"].detail


def test_mysql_a_child_that_holds_a_session_fails(mysql_ground: Ground) -> None:
    assert failed(mysql_ground.drill("leaves-child", settle=LEFT)) == {
        "no_sessions_left",
        "no_processes_left",
    }


def test_redis_a_good_target_passes(redis_ground: Ground) -> None:
    """Data that it wrote is none of what must not stay."""
    report = redis_ground.drill("clean-redis")

    assert report.passed, report
    assert verdicts(report)["no_temporary_keys_left"].detail == "none on main"


def test_redis_a_lock_that_stays_fails(redis_ground: Ground) -> None:
    report = redis_ground.drill("leaves-key", settle=LEFT)

    assert failed(report) == {"no_temporary_keys_left"}
    assert verdicts(report)["no_temporary_keys_left"].detail == "key 'lock:job' on main"


def test_redis_other_keys_may_be_said_to_be_temporary(redis_ground: Ground) -> None:
    report = redis_ground.drill("clean-redis", temporary=("cache:*",), settle=LEFT)

    assert verdicts(report)["no_temporary_keys_left"].detail == "key 'cache:answer' on main"
