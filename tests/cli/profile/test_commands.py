"""`katax profile check`: every mistake of every file at once, and what one bad job stops."""

from pathlib import Path

import pytest

from tests.cli.harness import katax, write_profile

JOBS = """
[cron.jobs.ok]
schedule = "@daily"
command = "true"
[cron.jobs.when]
schedule = "61 * * * *"
command = "true"
[cron.jobs.what]
schedule = "@daily"
command = "true"
sql = "select 1"
[cron.jobs.typo]
schedule = "@daily"
comand = "true"
"""


def test_all_mistakes_of_a_file_at_once(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "dev.toml").write_text(
        'role = "dev"\n[connections.main]\nurl = "postgresql://h/x"\nprot = 1\n' + JOBS
    )

    done = katax("profile", "check")
    rows = katax("profile", "check", "-f", "json").json

    assert (done.code, done.err) == (2, "")
    assert done.out.splitlines() == [
        "profiles/dev.toml:4: unknown key 'prot' in [connections.main] (did you mean 'port'?)",
        "profiles/dev.toml:18: unknown key 'comand' in [cron.jobs.typo] (did you mean 'command'?)",
        "profiles/dev.toml:12: job 'what' has command and sql, expected one of command, sql, python, katax",
        "profiles/dev.toml:16: job 'typo' has nothing to run, expected one of command, sql, python, katax",
        "profiles/dev.toml:10: job 'when': '61 * * * *' is no schedule: out of range",
    ]
    assert [tuple(row) for row in rows] == [("level", "file", "line", "key", "message", "remedy")] * 5
    assert [row["line"] for row in rows] == [4, 18, 12, 16, 10]


def test_without_a_name_all_profiles_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        write_profile(tmp_path, {"main": "sqlite:///x.db"}, name=name)

    assert katax("profile", "check").out == "no mistakes in 2 profiles\n"
    assert katax("profile", "check", "a").out == "no mistakes in profile 'a'\n"
    assert katax("profile", "check", "-f", "json").json == []

    write_profile(tmp_path, {"main": "sqlite:///x.db"}, name="c", extra="[retry]\nattempts = 0\n")
    assert katax("profile", "check").code == 2
    assert katax("profile", "check", "a").code == 0
    monkeypatch.setenv("KATAX_PROFILE", "b")
    assert katax("profile", "check").out == "no mistakes in profile 'b'\n"


def test_a_bad_job_stops_only_what_is_about_jobs(tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "sqlite:///x.db"}, extra=JOBS)

    health = katax("health", "-f", "jsonl")
    query = katax("db", "query", "select 1 as a", "-f", "csv")
    jobs = katax("cron", "list")
    findings = katax("cron", "check", "-f", "json")

    assert (health.code, query.out, query.err) == (0, "a\n1\n", "")
    assert health.err.count("; this job does not run, see 'katax cron check'\n") == 2
    assert (jobs.code, jobs.out) == (2, "")
    assert "job 'what' has command and sql" in jobs.err or "unknown key 'comand'" in jobs.err
    assert findings.code == 1
    assert sorted((row["job"], row["status"]) for row in findings.json) == [
        ("ok", "ok"),
        ("typo", "wrong"),
        ("what", "wrong"),
        ("when", "wrong"),
    ]
