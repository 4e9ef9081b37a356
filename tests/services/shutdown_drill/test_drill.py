"""A good target passes, each bad one fails for its own reason and no other; on real servers."""

from __future__ import annotations

from tests.services.shutdown_drill.drilling import Ground, failed, verdicts


def test_a_good_target_passes(postgresql_ground: Ground) -> None:
    report = postgresql_ground.drill("good")

    assert report.passed, report
    found = verdicts(report)
    assert found["in_flight_finished"].detail == "all 1 in flight at the signal finished"
    assert found["pools_closed"] == ("pools_closed", "ok", "closed properly: main", found["exit_code"].at_ms)
    assert found["no_sessions_left"].detail == "none on main"
    assert found["exit_code"].detail == "0, expected 0"
    assert [each.event for each in report.timeline][:3] == ["started", "ready", "signal SIGTERM"]


def test_a_leaked_session_fails(postgresql_ground: Ground) -> None:
    report = postgresql_ground.drill("leaks-session")

    assert failed(report) == {"no_sessions_left"}
    detail = verdicts(report)["no_sessions_left"].detail
    assert detail.startswith("session ")
    assert detail.endswith(" running SELECT on main")


def test_a_transaction_that_stays_open_fails(postgresql_ground: Ground) -> None:
    report = postgresql_ground.drill("leaves-transaction")

    assert failed(report) == {
        "in_flight_finished",
        "no_sessions_left",
        "no_transactions_left",
        "no_locks_left",
    }
    assert "is in progress" in verdicts(report)["in_flight_finished"].detail
    assert "RowExclusiveLock on work held by session" in verdicts(report)["no_locks_left"].detail


def test_work_that_is_rolled_back_fails(postgresql_ground: Ground) -> None:
    report = postgresql_ground.drill("drops-work")

    assert failed(report) == {"in_flight_finished"}
    assert verdicts(report)["in_flight_finished"].detail.endswith(" on main is aborted")


def test_a_lock_that_stays_fails(postgresql_ground: Ground) -> None:
    report = postgresql_ground.drill("leaves-lock")

    assert failed(report) == {"no_sessions_left", "no_locks_left"}
    assert verdicts(report)["no_locks_left"].detail.startswith("advisory lock held by session ")


def test_a_child_that_holds_a_session_fails(postgresql_ground: Ground) -> None:
    report = postgresql_ground.drill("leaves-child", after=1.0)

    assert failed(report) == {"no_sessions_left", "no_processes_left"}


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


def test_mysql_a_leaked_session_fails(mysql_ground: Ground) -> None:
    report = mysql_ground.drill("leaks-session")

    assert failed(report) == {"no_sessions_left"}
    assert verdicts(report)["no_sessions_left"].detail.endswith(" running SELECT on main")


def test_mysql_a_transaction_that_stays_open_fails(mysql_ground: Ground) -> None:
    report = mysql_ground.drill("leaves-transaction")

    assert failed(report) == {"no_sessions_left", "no_transactions_left", "no_locks_left"}
    assert "open in session " in verdicts(report)["no_transactions_left"].detail


def test_mysql_a_child_that_holds_a_session_fails(mysql_ground: Ground) -> None:
    assert failed(mysql_ground.drill("leaves-child", after=1.0)) == {"no_sessions_left", "no_processes_left"}


def test_redis_a_good_target_passes(redis_ground: Ground) -> None:
    """Data that it wrote is none of what must not stay."""
    report = redis_ground.drill("clean-redis")

    assert report.passed, report
    assert verdicts(report)["no_temporary_keys_left"].detail == "none on main"


def test_redis_a_lock_that_stays_fails(redis_ground: Ground) -> None:
    report = redis_ground.drill("leaves-key")

    assert failed(report) == {"no_temporary_keys_left"}
    assert verdicts(report)["no_temporary_keys_left"].detail == "key 'lock:job' on main"


def test_redis_other_keys_may_be_said_to_be_temporary(redis_ground: Ground) -> None:
    report = redis_ground.drill("clean-redis", temporary=("cache:*",))

    assert verdicts(report)["no_temporary_keys_left"].detail == "key 'cache:answer' on main"
