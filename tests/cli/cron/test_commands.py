"""`katax cron` from its words to its rows."""

from __future__ import annotations

import json
import os
import pwd
from datetime import datetime
from pathlib import Path

import pytest

from katax_cli.profiles.load import load_profile
from katax_cli.services.cron.manage import Cron
from tests.cli.harness import katax, write_profile
from tests.waiting import until

JOBS = """
[cron]
timezone = "America/New_York"
[cron.jobs.nightly]
schedule = "30 2 * * *"
command = "echo out; echo err >&2; exit 3"
[cron.jobs.often]
schedule = "*/15 * * * *"
python = "os:getcwd"
enabled = "${env:APP_ENV} == production"
[cron.jobs.count]
schedule = "@hourly"
sql = "select 1"
[cron.jobs.own]
schedule = "@daily"
katax = ["db", "query", "select 42 as answer"]
"""


@pytest.fixture(autouse=True)
def profile(tmp_path: Path) -> Path:
    return write_profile(tmp_path, {"main": "sqlite:///main.db"}, extra=JOBS)


def test_list() -> None:
    rows = katax("cron", "list", "-f", "json").json

    assert [(row["job"], row["enabled"], row["source"]) for row in rows] == [
        ("nightly", True, "profile"),
        ("often", False, "profile"),
        ("count", True, "profile"),
        ("own", True, "profile"),
    ]
    assert datetime.fromisoformat(rows[0]["next_at"]).utcoffset() is not None
    assert rows[1]["next_at"] is None


def test_looking_makes_nothing(tmp_path: Path) -> None:
    for words in ("list", "next", "check", "history", "logs abc"):
        katax("cron", *words.split())

    assert not (tmp_path / ".katax").exists()


def test_next() -> None:
    done = katax("cron", "next", "nightly", "-n", "3", "-f", "jsonl")
    rows = [json.loads(line) for line in done.out.splitlines()]

    assert [row["job"] for row in rows] == ["nightly"] * 3
    assert [row["scheduled_at"][11:16] in ("02:30", "03:00") for row in rows] == [True] * 3
    assert done.err.count("nightly: 02:00 becomes ") == 2


def test_explain() -> None:
    rows = katax("cron", "explain", "nightly", "-f", "json").json

    changes = {row["detail"] for row in rows if row["event"] == "clock change"}
    assert changes == {
        "02:00 becomes 03:00; 02:30: run once, when the gap ends",
        "02:00 becomes 01:00; nothing changes",
    }
    assert rows[0]["detail"] == "30 2 * * * in America/New_York: 0 30 2 1-31 1-12 0-6"


def test_explain_takes_a_schedule() -> None:
    rows = katax("cron", "explain", "*/5 * * * *", "-n", "2", "-f", "json").json
    zoned = katax("cron", "explain", "CRON_TZ=Europe/Madrid 0 9 * * 1", "-n", "1", "-f", "json").json
    every = katax("cron", "explain", "@every 90s", "-f", "json").json
    wrong = katax("cron", "explain", "61 * * * *")
    unknown = katax("cron", "explain", "nightl")

    assert [row["detail"] for row in rows if row["event"] == "meaning"] == [
        "Every fifth minute of every hour"
    ]
    assert [row["event"] for row in rows].count("next") == 2
    assert zoned[0]["detail"].startswith("CRON_TZ=Europe/Madrid 0 9 * * 1 in Europe/Madrid: ")
    assert zoned[1]["detail"] == "At 09:00 on Monday"
    assert every[1]["detail"] == "Every 90s, counted from 1970-01-01 00:00 UTC"
    assert (wrong.code, wrong.out) == (2, "")
    assert wrong.err.startswith("katax: '61 * * * *' is no schedule")
    assert (unknown.code, "did you mean 'nightly'" in unknown.err) == (2, True)


def test_run_gives_the_jobs_own_streams_and_status() -> None:
    done = katax("cron", "run", "nightly")

    assert (done.code, done.out, done.err) == (3, "out\n", "err\n")
    (row,) = katax("cron", "history", "-f", "json").json
    assert set(row) == {
        *("run_id", "job", "scheduled_at", "started_at", "finished_at", "duration_ms", "state", "reason"),
        *("exit_status", "attempt", "trigger", "count", "host", "output_head", "output_tail"),
    }
    assert (row["state"], row["reason"], row["exit_status"]) == ("failed", "exit status 3", 3)
    assert (row["trigger"], row["attempt"], row["count"]) == ("manual", 1, 1)
    assert sorted(row["output_head"].split()) == ["err", "out"]


def test_logs() -> None:
    katax("cron", "run", "count")
    (row,) = katax("cron", "history", "count", "-f", "json").json

    assert katax("cron", "logs", row["run_id"][:8]).out == "1 rows\n"
    missing = katax("cron", "logs", "nothing")
    assert (missing.code, missing.out) == (1, "")
    assert missing.err == "no run whose id begins with 'nothing'; see 'katax cron history'\n"


def test_a_katax_job_runs_on_the_same_profile() -> None:
    done = katax("cron", "run", "own")

    assert done.code == 0
    assert "42" in done.out


def test_a_statement_that_fails(profile: Path) -> None:
    profile.write_text(profile.read_text().replace("select 1", "select nonsense"))
    done = katax("cron", "run", "count")

    assert done.code == 1
    assert "katax: 'main' refused the statement: " in done.err


def test_a_command_that_is_not_there(profile: Path) -> None:
    text = profile.read_text()
    profile.write_text(text.replace('"echo out; echo err >&2; exit 3"', '["/nonexistent/program", "x"]'))
    done = katax("cron", "run", "nightly")

    assert (done.code, done.err) == (127, "katax: cannot start '/nonexistent/program': not found\n")


def test_retries_are_attempts_of_one_row(profile: Path, tmp_path: Path) -> None:
    text = profile.read_text().replace("exit 3", "echo x >> tries; [ $(wc -l < tries) = 2 ]")
    profile.write_text(text.replace("[cron.jobs.often]", "retries = 2\n[cron.jobs.often]"))

    assert katax("cron", "run", "nightly").code == 0
    (row,) = katax("cron", "history", "-f", "json").json
    assert (row["state"], row["attempt"]) == ("ran", 2)
    assert (tmp_path / "tries").read_text() == "x\nx\n"


def test_a_timeout_kills(profile: Path) -> None:
    """Command and statement alike: the row says what happened, the exit status is the job's."""
    text = profile.read_text().replace("exit 3", "sleep 600").replace("select 1", ENDLESS)
    text = text.replace("[cron.jobs.often]", "timeout = 0.3\n[cron.jobs.often]")
    profile.write_text(text.replace("[cron.jobs.own]", "timeout = 0.3\n[cron.jobs.own]"))

    assert katax("cron", "run", "nightly").code == 128 + 15
    assert katax("cron", "run", "count").code == 1
    profile.write_text(profile.read_text().replace("sleep 600", "trap 'exit 0' TERM; sleep 600 & wait"))
    # A shell that is ended before it has set its trap is ended by the signal.
    until(lambda: katax("cron", "run", "nightly").code == 1)
    rows = katax("cron", "history", "-f", "json").json
    assert len(rows) >= 3
    assert {(row["state"], row["reason"]) for row in rows} == {("killed", "timed out after 0.3 s")}


ENDLESS = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"


def test_an_unknown_job() -> None:
    done = katax("cron", "run", "nightyl")

    assert done.code == 2
    assert (
        "no job named 'nightyl'; did you mean 'nightly'? known jobs: nightly, often, count, own" in done.err
    )


def test_add_disable_enable_remove() -> None:
    assert katax("cron", "add", "extra", "@every 5m", "--max-time", "2m", "--", "echo", "a b").code == 0
    assert listed()["extra"] == ("added", True, "echo a b")
    again = katax("cron", "add", "extra", "@daily", "--command", "true")
    assert (again.code, "job 'extra' exists; repeat with --replace" in again.err) == (2, True)
    assert katax("cron", "add", "extra", "@daily", "--command", "true", "--replace").code == 0
    assert katax("cron", "disable", "extra").code == 0
    assert listed()["extra"] == ("added", False, "true")
    assert katax("cron", "enable", "extra").code == 0
    assert listed()["extra"] == ("added", True, "true")
    assert katax("cron", "remove", "extra").code == 0
    assert "extra" not in listed()


def listed() -> dict[str, tuple[str, bool, str]]:
    rows = katax("cron", "list", "-f", "json").json
    return {row["job"]: (row["source"], row["enabled"], row["work"]) for row in rows}


def test_switching_a_job_of_the_profile() -> None:
    """Off for all; on again, its own condition rules."""
    katax("cron", "disable", "nightly")
    assert listed()["nightly"][1] is False
    katax("cron", "enable", "nightly")
    assert listed()["nightly"][1] is True
    assert katax("cron", "enable", "often", "-f", "json").json == {"job": "often", "enabled": False}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("nightly @daily --command x", "job 'nightly' is defined by profile 'test'; change it there"),
        ("new 61|*|*|*|* --command x", "job 'new': '61 * * * *' is no schedule: out of range"),
        ("new @daily", "give one of --command, --sql, --python, --katax, or a program after --"),
        ("new @daily --command x --sql y", "give one of --command"),
        ("new @daily --command x --timezone Mars", "job 'new': no time zone named 'Mars' here"),
        ("new @daily --command x --on-overlap never", "no on_overlap named 'never'; expected one of: skip"),
        ("a/b @daily --command x", "'a/b' is no name for a job; use letters"),
    ],
)
def test_what_cannot_be_added(words: str, message: str) -> None:
    done = katax("cron", "add", *(word.replace("|", " ") for word in words.split()))

    assert done.code == 2
    assert message in done.err


def test_a_dry_run_changes_nothing() -> None:
    for words in ("add new @daily --command x", "disable nightly", "run nightly"):
        assert katax("cron", *words.split(), "--dry-run", "-f", "json").json["dry_run"] is True

    assert listed()["nightly"][1] is True
    assert "new" not in listed()
    assert katax("cron", "history", "-f", "json").json == []


def test_only_added_jobs_are_removed() -> None:
    done = katax("cron", "remove", "nightly")

    assert done.code == 2
    assert "job 'nightly' is defined by profile 'test'; remove it there, or disable it" in done.err


def test_removing_on_production_needs_a_yes(profile: Path) -> None:
    profile.write_text(profile.read_text().replace('role = "dev"', 'role = "prod"'))
    katax("cron", "add", "extra", "@daily", "--command", "true")

    assert katax("cron", "remove", "extra").code == 4
    assert katax("cron", "remove", "extra", "--yes").code == 0


def test_code_from_a_shared_database_needs_permission(profile: Path, postgresql_url: str) -> None:
    """A statement or katax command does not: those are bound by the profile."""
    profile.write_text(profile.read_text() + f'[state]\nurl = "{postgresql_url}"\n')
    done = katax("cron", "add", "extra", "@daily", "--command", "true")

    assert done.code == 4
    assert "set allow_dynamic_commands = true in [cron] of the daemon's profile" in done.err
    assert katax("cron", "add", "extra", "@daily", "--sql", "select 1").code == 0
    profile.write_text(profile.read_text().replace("[cron]\n", "[cron]\nallow_dynamic_commands = true\n"))
    assert katax("cron", "add", "code", "@daily", "--python", "os:getcwd").code == 0


def test_check() -> None:
    """A schedule that means something else than before is a finding; one that was changed is not."""
    assert katax("cron", "check").code == 0
    with Cron(load_profile("test")) as cron:
        cron.tables.prepare()
        cron.definitions.note_schedules(
            [("nightly", "30 2 * * *", "0 30 2 1-31 1-12 6", 1), ("count", "@daily", "other", 1)]
        )

    done = katax("cron", "check", "-f", "json")

    assert done.code == 1
    assert {row["job"]: row["status"] for row in done.json} == {
        "nightly": "changed",
        "often": "ok",
        "count": "ok",
        "own": "ok",
    }
    assert done.json[0]["message"] == (
        "'30 2 * * *' meant '0 30 2 1-31 1-12 6', now it means '0 30 2 1-31 1-12 0-6'"
    )


def test_check_reports_every_wrong_job(profile: Path) -> None:
    text = profile.read_text().replace("30 2 * * *", "0 0 31 2 *").replace('"@hourly"', '"nonsense"')
    profile.write_text(text)
    rows = katax("cron", "check", "-f", "json").json

    assert [row["status"] for row in rows] == ["wrong", "ok", "wrong", "ok"]


def test_an_unknown_key_names_the_nearest(profile: Path) -> None:
    profile.write_text(profile.read_text().replace("python =", "pyhton ="))
    done = katax("cron", "list")

    assert done.code == 2
    assert "python" in done.err


CRONTAB = """
MAILTO=root
FOO=
CRON_TZ=Asia/Kathmandu
*/5 * * * * /usr/bin/env | sort%ignored
0 3 * * 1 backup --all
"""


def test_import(tmp_path: Path) -> None:
    (tmp_path / "crontab").write_text(CRONTAB)

    done = katax("cron", "import", "crontab")

    assert done.code == 0
    assert done.err == (
        "line 2: MAILTO has no effect; the history keeps the output; on_failure runs a command, "
        "ping_url tells a monitor\n"
    )
    assert listed()["backup"] == ("added", True, "export FOO=''; backup --all")
    assert katax("cron", "import", "crontab").code == 2
    assert katax("cron", "import", "crontab", "--replace").code == 0


def test_a_crontab_of_windows_with_a_column_for_users(tmp_path: Path) -> None:
    text = "\ufeff# m h dom mon dow user command\r\n*/5 * * * *\troot\techo hi\r\n"
    (tmp_path / "crontab").write_bytes(text.encode())

    assert katax("cron", "import", "crontab").code == 0
    (job,) = katax("cron", "list", "-f", "json").json[-1:]
    assert (job["schedule"], job["work"]) == ("*/5 * * * *", "echo hi")


def test_a_crontab_with_a_bad_line_adds_nothing(tmp_path: Path) -> None:
    (tmp_path / "crontab").write_text("@daily good\n0 0 31 2 * bad\n")
    done = katax("cron", "import", "crontab")

    assert done.code == 2
    assert "crontab 'crontab': line 2: '0 0 31 2 *' is no schedule" in done.err
    assert "good" not in listed()


def test_export_to_a_crontab(tmp_path: Path) -> None:
    done = katax("cron", "export", "--to", "crontab")

    assert done.code == 0
    assert done.out.startswith("CRON_TZ=America/New_York\n# nightly\n30 2 * * * cd ")
    assert f"@hourly cd {tmp_path} && katax -p test cron run count\n" in done.out


def test_an_exported_crontab_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "crontab").write_bytes(katax("cron", "export", "--to", "crontab").stdout)

    assert katax("cron", "import", "crontab", "-f", "json").json[0]["timezone"] == "America/New_York"


def test_what_kubernetes_cannot_say(profile: Path) -> None:
    profile.write_text(profile.read_text().replace('"@hourly"', '"@every 30s"'))
    done = katax("cron", "export", "--to", "kubernetes")

    assert done.code == 1
    assert "job 'count' is left out: kubernetes knows five fields, no seconds, no @every" in done.err
    assert done.out.count("kind: CronJob") == 3
    assert '  schedule: "30 2 * * *"\n  timeZone: "America/New_York"\n' in done.out


def test_export_to_systemd() -> None:
    done = katax("cron", "export", "--to", "systemd")

    assert done.code == 0
    assert "OnCalendar=*-*-* 02:30:00 America/New_York\n" in done.out
    assert "OnCalendar=*-*-* *:00,15,30,45:00 America/New_York\n" in done.out


def test_export_to_nothing_known() -> None:
    done = katax("cron", "export", "--to", "windows")

    assert done.code == 2
    assert "no scheduler named 'windows'; expected one of: crontab, systemd, kubernetes" in done.err


SYSTEM = "# m h dom mon dow user command\n0 0 * * * {} id -un > who; echo $HOME:$SECRET >> who\n"


def test_a_crontab_with_a_column_of_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs run as that user where that is allowed, and are refused by name where it is not."""
    write_profile(tmp_path, {"main": "sqlite:///main.db"})
    monkeypatch.setenv("SECRET", "of-the-daemon")
    known = pwd.getpwuid(os.geteuid())
    (tmp_path / "crontab").write_text(f"0 0 * * * {known.pw_name} id -un\n")

    refused = katax("cron", "import", "crontab")
    assert refused.code == 2
    assert f"line 1: {known.pw_name!r} is a user and no program; repeat with --user-column" in refused.err

    (tmp_path / "crontab").write_text(SYSTEM.format(known.pw_name).replace("> who", f"> {tmp_path}/who"))
    assert katax("cron", "import", "crontab").code == 0
    assert katax("cron", "run", "id").code == 0
    assert (tmp_path / "who").read_text() == f"{known.pw_name}\n{known.pw_dir}:\n"

    (tmp_path / "crontab").write_text(SYSTEM.format("no-such-user"))
    noted = katax("cron", "import", "--replace", "crontab")
    assert "job 'id' is to run as 'no-such-user': no user named 'no-such-user' on this machine" in noted.err
    assert katax("cron", "run", "id").code == 4


def test_jobs_of_another_user(tmp_path: Path) -> None:
    """root becomes that user, with its groups; anybody else refuses by name."""
    write_profile(tmp_path, {"main": "sqlite:///main.db"})
    (tmp_path / "crontab").write_text("0 0 * * * nobody id -un; id -Gn\n")

    assert katax("cron", "import", "--user-column", "crontab").code == 0
    ran = katax("cron", "run", "id")

    if os.geteuid() == 0:
        assert (ran.code, ran.out) == (0, "nobody\nnogroup\n")
    else:
        assert ran.code == 4
        assert "job 'id' is to run as 'nobody', and this process may not start it" in ran.err
