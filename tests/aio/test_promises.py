"""The promises of retries, deadlines, unknown outcomes, breakers and transactions, once more for tasks.

Tests of threads, run as calls that are made for a task; see conftest.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from katax_cli.aio.runtime import AwaitedRuntime
from katax_cli.services.databases.sql import SqlDatabase
from tests.servers.fixtures import Target
from tests.services.calls.test_guard import (
    test_a_call_inside_a_whole_that_fails_counts_once,
    test_a_call_inside_the_whole_that_is_the_only_probe_is_let_through,
    test_a_commit_lost_inside_a_whole_counts_and_is_not_repeated,
    test_a_connect_that_was_left_behind_is_unreachable_and_repeated,
    test_a_failed_part_counts_once_with_and_without_a_call_around_it,
    test_a_lookup_is_not_replayed_and_not_called_unknown,
    test_a_lost_commit_is_unknown_and_a_lost_part_is_not,
    test_a_no_is_neither_repeated_nor_counted,
    test_a_part_neither_asks_nor_feeds_the_breaker,
    test_a_part_of_a_transaction_is_made_once,
    test_a_part_that_began_before_the_breaker_opened_says_nothing_later,
    test_a_probe_that_hangs_on_the_server_does_not_keep_it_half_open,
    test_a_read_is_repeated_until_it_is_answered,
    test_a_translated_error_is_raised_as_it_was,
    test_a_wait_that_does_not_fit_is_not_begun,
    test_a_whole_is_repeated_although_a_part_translated_its_error,
    test_a_write_that_was_never_sent_is_repeated,
    test_a_write_without_an_answer_is_unknown_and_never_replayed,
    test_an_idempotent_write_is_repeated_and_its_doubt_is_kept,
    test_an_interrupted_probe_makes_room_for_the_next,
    test_an_open_breaker_sends_nothing_and_is_not_retried,
    test_an_unknown_outcome_of_another_connection_does_not_repeat_the_whole,
    test_attempts_at_the_socket_are_those_of_the_policy,
    test_calls_inside_a_whole_transaction_are_not_repeated_by_themselves,
    test_every_attempt_counts_and_opening_ends_the_retries,
    test_hooks_are_told_the_attempt_and_the_drivers_error,
    test_inside_an_owner_of_retries_one_attempt_is_made,
    test_katax_errors_pass_through_unchanged,
    test_of_a_hundred_threads_at_most_k_reach_the_server_half_open,
    test_opening_after_a_doubtful_attempt_is_an_unknown_outcome,
    test_other_peoples_errors_pass_through_unchanged_and_uncounted,
    test_overload_waits_at_least_half,
    test_what_the_server_did_not_do_is_repeated_even_for_a_write,
    test_without_time_nothing_is_sent,
)
from tests.services.calls.test_outcomes import (
    behind,
    test_a_block_that_is_cut_before_its_commit_raises_and_is_not_applied,
    test_a_block_whose_commit_is_not_answered,
    test_a_callable_that_is_cut_before_its_commit_is_not_applied_and_says_so,
    test_a_callable_whose_commit_is_not_answered_runs_once,
    test_a_mongodb_write_that_is_not_answered,
    test_a_silent_wire_is_left_at_the_deadline,
    test_an_autocommit_write_that_is_not_answered,
)
from tests.services.databases import test_sql as sql_tests
from tests.services.databases.test_sql import (
    test_a_closed_database_says_so,
    test_a_prepared_statement,
    test_a_read_only_transaction_reads,
    test_a_server_that_fell_silent_while_nobody_asked_costs_its_time_and_no_more,
    test_a_session_keeps_what_its_statements_set,
    test_a_stream_in_batches,
    test_a_stream_that_is_left_early_gives_its_connection_back,
    test_a_transaction_inside_a_sessions_own_is_a_savepoint,
    test_cancel_ends_what_runs,
    test_many_rows_are_all_or_none,
    test_rows_affected,
    test_rows_are_dicts,
    test_the_time_of_a_call,
    test_what_a_session_leaves_open_is_rolled_back,
)
from tests.services.databases.test_transactions import (
    database,
    test_a_deadline_that_passes_in_a_transaction_is_late_and_rolls_back,
    test_a_deadlock_in_a_block_raises_and_is_not_run_again,
    test_a_deadlock_is_survived_by_running_the_whole_callable_again,
    test_a_timeout_of_the_callers_own_is_no_failure_of_the_server,
    test_a_wrong_call_is_a_usage_error_that_costs_nothing,
    test_an_error_of_the_server_rolls_back_and_keeps_the_connection,
)
from tests.services.profiles import profile

__all__ = [
    "behind",
    "database",
    "test_a_block_that_is_cut_before_its_commit_raises_and_is_not_applied",
    "test_a_block_whose_commit_is_not_answered",
    "test_a_call_inside_a_whole_that_fails_counts_once",
    "test_a_call_inside_the_whole_that_is_the_only_probe_is_let_through",
    "test_a_callable_that_is_cut_before_its_commit_is_not_applied_and_says_so",
    "test_a_callable_whose_commit_is_not_answered_runs_once",
    "test_a_closed_database_says_so",
    "test_a_commit_lost_inside_a_whole_counts_and_is_not_repeated",
    "test_a_connect_that_was_left_behind_is_unreachable_and_repeated",
    "test_a_deadline_that_passes_in_a_transaction_is_late_and_rolls_back",
    "test_a_deadlock_in_a_block_raises_and_is_not_run_again",
    "test_a_deadlock_is_survived_by_running_the_whole_callable_again",
    "test_a_failed_part_counts_once_with_and_without_a_call_around_it",
    "test_a_lookup_is_not_replayed_and_not_called_unknown",
    "test_a_lost_commit_is_unknown_and_a_lost_part_is_not",
    "test_a_mongodb_write_that_is_not_answered",
    "test_a_no_is_neither_repeated_nor_counted",
    "test_a_part_neither_asks_nor_feeds_the_breaker",
    "test_a_part_of_a_transaction_is_made_once",
    "test_a_part_that_began_before_the_breaker_opened_says_nothing_later",
    "test_a_prepared_statement",
    "test_a_probe_that_hangs_on_the_server_does_not_keep_it_half_open",
    "test_a_read_is_repeated_until_it_is_answered",
    "test_a_read_only_transaction_reads",
    "test_a_server_that_fell_silent_while_nobody_asked_costs_its_time_and_no_more",
    "test_a_session_keeps_what_its_statements_set",
    "test_a_silent_wire_is_left_at_the_deadline",
    "test_a_stream_in_batches",
    "test_a_stream_that_is_left_early_gives_its_connection_back",
    "test_a_timeout_of_the_callers_own_is_no_failure_of_the_server",
    "test_a_transaction_inside_a_sessions_own_is_a_savepoint",
    "test_a_translated_error_is_raised_as_it_was",
    "test_a_wait_that_does_not_fit_is_not_begun",
    "test_a_whole_is_repeated_although_a_part_translated_its_error",
    "test_a_write_that_was_never_sent_is_repeated",
    "test_a_write_without_an_answer_is_unknown_and_never_replayed",
    "test_a_wrong_call_is_a_usage_error_that_costs_nothing",
    "test_an_autocommit_write_that_is_not_answered",
    "test_an_error_of_the_server_rolls_back_and_keeps_the_connection",
    "test_an_idempotent_write_is_repeated_and_its_doubt_is_kept",
    "test_an_interrupted_probe_makes_room_for_the_next",
    "test_an_open_breaker_sends_nothing_and_is_not_retried",
    "test_an_unknown_outcome_of_another_connection_does_not_repeat_the_whole",
    "test_attempts_at_the_socket_are_those_of_the_policy",
    "test_calls_inside_a_whole_transaction_are_not_repeated_by_themselves",
    "test_cancel_ends_what_runs",
    "test_every_attempt_counts_and_opening_ends_the_retries",
    "test_hooks_are_told_the_attempt_and_the_drivers_error",
    "test_inside_an_owner_of_retries_one_attempt_is_made",
    "test_katax_errors_pass_through_unchanged",
    "test_many_rows_are_all_or_none",
    "test_of_a_hundred_threads_at_most_k_reach_the_server_half_open",
    "test_opening_after_a_doubtful_attempt_is_an_unknown_outcome",
    "test_other_peoples_errors_pass_through_unchanged_and_uncounted",
    "test_overload_waits_at_least_half",
    "test_rows_affected",
    "test_rows_are_dicts",
    "test_the_time_of_a_call",
    "test_what_a_session_leaves_open_is_rolled_back",
    "test_what_the_server_did_not_do_is_repeated_even_for_a_write",
    "test_without_time_nothing_is_sent",
]


@pytest.fixture(autouse=True)
def for_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_tests, "Runtime", AwaitedRuntime)


@pytest.fixture
def db(sql_engine: Target, tmp_path: Path) -> Iterator[SqlDatabase]:
    with AwaitedRuntime(profile(tmp_path, {"main": sql_engine.url})) as runtime:
        database = cast(SqlDatabase, runtime.database("main"))
        database.execute("create table t (n int primary key, name varchar(20))")
        database.execute_many("insert into t values (?, ?)", [(1, "a"), (2, "b"), (3, "c")])
        yield database
