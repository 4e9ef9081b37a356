"""The boundary: every way out of a command, as exit code and one line."""

from __future__ import annotations

import asyncio
import errno
import io
from pathlib import Path

import pytest

from katax_cli import __version__, errors
from katax_cli.cli import app
from katax_cli.cli.shell.diagnostics import Diagnostics, snake_case
from katax_cli.cli.shell.exits import ExitCode, exit_code_for, worst
from tests.cli.harness import katax, write_profile


def test_version() -> None:
    """`--version` is data."""
    done = katax("--version")

    assert (done.code, done.out, done.err) == (0, f"katax {__version__}\n", "")


@pytest.mark.parametrize(
    "words", [(), ("--help",), ("cache",), ("cache", "--help"), ("db", "query", "--help")]
)
def test_help(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Help is asked for or given to who says nothing; it is no error."""
    done = katax(*words)

    assert done.code == 0
    assert "Usage: katax" in capsys.readouterr().out


def test_the_exit_codes_are_in_help(capsys: pytest.CaptureFixture[str]) -> None:
    katax("--help")

    shown = capsys.readouterr().out
    for code in ExitCode:
        assert f"  {code.value:>3}  " in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nope",), "katax: no command named 'nope'; nearest of "),
        (
            ("cache", "gte", "k"),
            "katax: no command named 'gte'; did you mean 'get'? nearest of ",
        ),
        (("cache", "keys"), "katax: no command named 'keys'; did you mean 'scan'? nearest of "),
        (("migrate", "rollback"), "katax: no command named 'rollback'; did you mean 'down'? nearest of "),
        (("cache", "get"), "katax: missing argument 'KEY'; see 'katax cache get --help'\n"),
        (("--zzz",), "katax: no such option: --zzz; see 'katax --help'\n"),
        (("health", "-f", "xml"), "no output format named 'xml'"),
        (("health", "--timeout", "soon"), "soon"),
        (("health", "--log-level", "loud"), "no log level named 'loud'; expected one of: trace, debug"),
    ],
)
def test_wrong_words(words: tuple[str, ...], message: str) -> None:
    """Wrong usage is exit 2 and one line."""
    done = katax(*words)

    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1
    assert done.stdout == b""


def test_usage_error_as_json() -> None:
    done = katax("cache", "get", "-f", "json")

    assert done.code == 2
    assert done.err == (
        '{"error": {"code": "usage", "message": "missing argument \'KEY\'; '
        'see \'katax cache get --help\'", "exit": 2}}\n'
    )


@pytest.mark.parametrize(
    "words", [("-f", "json", "db", "query", "select 1 as a"), ("db", "query", "select 1 as a", "-f", "json")]
)
def test_shared_options_stand_first_or_last(words: tuple[str, ...], tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "sqlite:///x.db"})

    done = katax(*words)

    assert (done.code, done.json, done.err) == (0, [{"a": 1}], "")


def test_the_later_option_wins(tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "sqlite:///x.db"})

    assert katax("-f", "csv", "db", "query", "select 1 as a", "-f", "jsonl").out == '{"a": 1}\n'


def test_a_negative_number_is_a_value(tmp_path: Path) -> None:
    """`-5` is no option, so it is the value that it looks like; `-x` is still a mistake."""
    write_profile(tmp_path, {"main": "sqlite:///x.db"})

    assert katax("db", "query", "select ? as a", "-5", "-f", "csv").out == "a\n-5\n"
    assert katax("db", "query", "select ? as a", "-x").code == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.QueryError("main", "no"), 1),
        (errors.UnknownRecord("k"), 1),
        (errors.RateLimitExceeded("k", limit=1, window=1, reset_at=1, retry_after=1), 1),
        (errors.MigrationError("x"), 1),
        (RuntimeError("x"), 1),
        (errors.ConfigError("x"), 2),
        (errors.AuthenticationFailed("main", "no"), 2),
        (errors.WrongEngine("redis", "tables", wanted_by="db tables", works_on=["mysql"]), 2),
        (errors.MisshapedRecord("x"), 2),
        (ValueError("x"), 2),
        (errors.Unavailable("main", "gone"), 3),
        (errors.PoolTimeout("main", waited=5, active=2, max=2, waiting=1), 3),
        (errors.BreakerOpen("main"), 3),
        (errors.DeadlineExceeded("main", doing="query", seconds=1), 3),
        (errors.Refused("no"), 4),
        (errors.UntrustedFile("no"), 4),
        (errors.LockHeld("x", holder="y"), 5),
        (errors.OutcomeUnknown("main", "gone"), 6),
        (errors.LockLost("x", "gone"), 6),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_code_of_an_error(error: BaseException, code: int) -> None:
    assert exit_code_for(error) == code


def test_the_worst_code_counts() -> None:
    assert worst([]) == 0
    assert worst([ExitCode.UNAVAILABLE, ExitCode.UNKNOWN, ExitCode.NO]) == ExitCode.UNKNOWN
    assert worst([ExitCode.UNAVAILABLE, ExitCode.NO, ExitCode.DONE]) == ExitCode.UNAVAILABLE


def test_a_defect_says_that_it_is_one() -> None:
    stream = io.StringIO()

    code = Diagnostics(stream).failure(RuntimeError("boom"))

    assert code == 1
    assert stream.getvalue() == (
        "katax: internal error: RuntimeError: boom; repeat with --debug and report it\n"
    )


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "[Errno 24] Too many open files"),
        (RuntimeError("can't start new thread"), "can't start new thread"),
        (MemoryError(), "memory"),
    ],
)
def test_a_limit_of_the_machine_is_no_defect(error: Exception, what: str) -> None:
    stream = io.StringIO()

    code = Diagnostics(stream).failure(error)

    said = (
        f"katax: this process gets no more of the machine: {what}; raise its limits (ulimit -a); "
        "if they are high, repeat with --debug and report it\n"
    )
    assert (code, stream.getvalue()) == (1, said)


def test_a_traceback_only_with_debug_and_never_with_locals() -> None:
    def fail(secret: str) -> None:
        raise RuntimeError("boom")

    for debug in (False, True):
        stream = io.StringIO()
        try:
            fail("".join(["hunter", "2"]))
        except RuntimeError as error:
            Diagnostics(stream, debug=debug).failure(error)
        assert ("Traceback" in stream.getvalue()) is debug
        assert "hunter2" not in stream.getvalue()


def test_error_names() -> None:
    assert snake_case("PoolTimeout") == "pool_timeout"


@pytest.mark.parametrize(
    ("raised", "code"), [(KeyboardInterrupt(), 130), (app.Terminated(), 143)], ids=["interrupt", "terminate"]
)
def test_signals(raised: BaseException, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object) -> int:
        raise raised

    monkeypatch.setattr(app, "_run", run)

    assert katax("--version").code == code


def test_an_event_loop_lets_a_termination_through() -> None:
    """As that of a prompt, in whose callbacks the signal may arrive."""

    def terminate() -> None:
        raise app.Terminated

    async def waiting() -> None:
        asyncio.get_running_loop().call_soon(terminate)
        await asyncio.sleep(60)

    with pytest.raises(app.Terminated):
        asyncio.run(waiting())
