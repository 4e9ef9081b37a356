"""Crontab files, read as cron(8) does; what a line becomes is proven by running it."""

from __future__ import annotations

import subprocess

import pytest

from katax_cli.core.schedule.crontab import (
    CrontabLine,
    crontab_line,
    crontab_text,
    parse_crontab,
    says_user_column,
)


def only(text: str) -> CrontabLine:
    found = parse_crontab(text)
    assert found.problems == ()
    (entry,) = found.entries
    return entry


def printed(text: str) -> str:
    """What the command of the only line prints."""
    done = subprocess.run(only(text).command, shell=True, capture_output=True, text=True, check=True)
    return done.stdout


def test_lines() -> None:
    found = parse_crontab("# a comment\n\n*/5 * * * *  /usr/bin/app.cleanup --all\n  @daily echo hello\n")

    assert found.entries == (
        CrontabLine(3, "app.cleanup", "*/5 * * * *", None, "/usr/bin/app.cleanup --all"),
        CrontabLine(4, "echo", "@daily", None, "echo hello"),
    )


@pytest.mark.parametrize(
    ("line", "schedule", "command"),
    [
        ("0 3 * * 1-5 true", "0 3 * * 1-5", "true"),
        ("0\t3\t*\t*\tmon\ttrue  x", "0 3 * * mon", "true  x"),
        ("*/10 * * * * * true", "*/10 * * * * *", "true"),
        ("@every 90s true", "@every 90s", "true"),
        ("@reboot true", "@reboot", "true"),
    ],
)
def test_schedule_and_command(line: str, schedule: str, command: str) -> None:
    entry = only(line)

    assert (entry.schedule, entry.command) == (schedule, command)


def test_percent_signs_are_input() -> None:
    """The first ends the command, the others are line ends; escaped ones are themselves."""
    assert printed("* * * * * cat%one%two\\%") == "one\ntwo%\n"
    assert printed("* * * * * echo 100\\% sure") == "100% sure\n"
    assert printed("* * * * * cat; echo end%it's") == "it's\nend\n"


def test_variables_reach_the_lines_below_them() -> None:
    text = "FOO=\nBAR = 'two  words'\n* * * * * echo \"[$FOO][$BAR]\"\n"

    assert printed(text) == "[][two  words]\n"
    assert only("* * * * * true\nLATER=x\n").command == "true"


def test_variables_are_not_expanded() -> None:
    """cron takes them as they are written."""
    assert printed("A=$HOME\n* * * * * echo $A") == "$HOME\n"


def test_the_shell_of_the_file() -> None:
    assert printed("SHELL=/bin/bash\n* * * * * echo ${BASH_VERSION:+bash} ${0##*/}") == "bash bash\n"


def test_time_zones() -> None:
    """CRON_TZ holds from its line on."""
    text = "0 1 * * * a\nCRON_TZ=Europe/Madrid\n0 1 * * * b\nCRON_TZ=\n0 1 * * * c\n"

    assert [entry.timezone for entry in parse_crontab(text).entries] == [None, "Europe/Madrid", None]


def test_mail_is_said_to_have_no_effect() -> None:
    found = parse_crontab("MAILTO=root\n* * * * * true\n")

    assert found.notes == (
        "line 1: MAILTO has no effect; the history keeps the output; on_failure runs a command, "
        "ping_url tells a monitor",
    )
    assert found.entries[0].command == "true"


def test_names_are_different() -> None:
    text = "* * * * * X=1 /opt/run me\n* * * * * run you\n* * * * * ./run\n* * * * * (cd /)\n"

    assert [entry.name for entry in parse_crontab(text).entries] == ["run", "run-2", "run-3", "cd"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            "0 0 31 2 * true",
            "line 1: '0 0 31 2 *' is no schedule: Day(s) [31] can never occur in month(s) [2]",
        ),
        ("* * * * *", "line 1: '* * * * *' has no command"),
        ("* * true", "line 1: '* * true' is no schedule; write five fields"),
        ("CRON_TZ=Mars\n* * * * * true", "line 2: no time zone named 'Mars' here"),
    ],
)
def test_problems_name_their_line(line: str, problem: str) -> None:
    found = parse_crontab(f"{line}\n@daily good\n")

    assert found.problems[0].startswith(problem)
    assert not [entry for entry in found.entries if entry.line == 1]


def test_a_column_of_users() -> None:
    text = "17 *\t* * *\troot\tcd / && run-parts\n@daily www-data  sync --all\n0 0 * * * root\n"

    found = parse_crontab(text, user_column=True)

    assert [(entry.user, entry.name, entry.command) for entry in found.entries] == [
        ("root", "cd", "cd / && run-parts"),
        ("www-data", "sync", "sync --all"),
    ]
    assert found.problems == ("line 3: '0 0 * * * root' has no command",)
    assert says_user_column("# m h dom mon dow user\tcommand\n")
    assert says_user_column("# *  *  *  *  * user-name  command to be executed\n")
    assert not says_user_column("# the user runs this command\n* * * * * user command\n")


def test_one_bad_line_leaves_the_others() -> None:
    found = parse_crontab("61 * * * * bad\n@daily good\n")

    assert [entry.name for entry in found.entries] == ["good"]


def test_a_line_is_read_back() -> None:
    line = crontab_line("0 3 * jul *", "echo 100% of it")

    assert line == "0 3 * jul * echo 100\\% of it"
    assert only(line).command == "echo 100% of it"


@pytest.mark.parametrize(
    ("schedule", "command", "reason"),
    [
        ("@every 30s", "true", "cron knows no @every"),
        ("0 0 0 * * *", "true", "it has seconds, and cron knows minutes"),
        ("0 0 1,L jul *", "true", "it has L, # or ?, and cron knows none of them"),
        ("0 0 * * L5", "true", "it has L, # or ?, and cron knows none of them"),
        ("0 0 * * mon#2", "true", "it has L, # or ?, and cron knows none of them"),
        ("@daily", "a\nb", "its command has several lines, and a crontab has no way to write that"),
    ],
)
def test_what_a_crontab_cannot_say(schedule: str, command: str, reason: str) -> None:
    with pytest.raises(ValueError) as error:
        crontab_line(schedule, command)

    assert str(error.value) == reason


def test_a_file_says_a_zone_where_it_changes() -> None:
    text = crontab_text([("UTC", "a"), ("UTC", "b"), ("Asia/Kathmandu", "c")])

    assert text == "CRON_TZ=UTC\na\nb\nCRON_TZ=Asia/Kathmandu\nc\n"
