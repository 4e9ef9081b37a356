"""The host's copy of what operators decided: read by single commands, never in anybody's way."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from threading import Thread

import pytest

from katax_cli.profiles.sources.home import CIRCUITS
from katax_cli.services.runtime.decisions import (
    HostCopy,
    OperatorDecision,
    newest,
)
from tests.fake_clock import FakeClock

NOW = 1_000.0
TRIPPED = OperatorDecision("1", "main", "trip", NOW, NOW + 60, "disk full", "ann@host")


@pytest.mark.parametrize(
    ("decision", "now", "off"),
    [
        (TRIPPED, NOW, True),
        (TRIPPED, NOW + 59.9, True),
        (TRIPPED, NOW + 60, False),
        (TRIPPED._replace(ends_at=None), NOW + 1e9, True),
        (TRIPPED._replace(action="reset"), NOW, False),
        (TRIPPED._replace(action="disable"), NOW, False),
    ],
)
def test_when_everybody_is_kept_off(
    decision: OperatorDecision, now: float, off: bool, tmp_path: Path
) -> None:
    HostCopy(str(tmp_path), "dev").write([decision])

    assert decision.keeps_off(now) is off
    clock = FakeClock(at=now - FakeClock.EPOCH)
    copy = HostCopy(str(tmp_path), "dev", clock)
    assert (copy.refusal("main") == decision) is off
    assert copy.refusal("other") is None
    assert HostCopy(str(tmp_path), "prod", clock).refusal("main") is None


def test_the_sentence_says_who_until_when_and_why() -> None:
    forever = TRIPPED._replace(ends_at=None, reason=None)

    assert TRIPPED.sentence.startswith("tripped by ann@host until 19")
    assert TRIPPED.sentence.endswith(": disk full")
    assert forever.sentence == "tripped by ann@host until it is reset"
    assert forever._replace(decided_by=None).sentence == "tripped by an operator until it is reset"


def test_the_last_word_counts_whoever_said_it() -> None:
    later = TRIPPED._replace(id="2", action="reset", decided_at=NOW + 1)
    other = TRIPPED._replace(id="3", connection="cache")

    assert newest([later], [TRIPPED, other]) == {"main": later, "cache": other}
    assert newest([TRIPPED, other], [later]) == {"main": later, "cache": other}


def test_the_copy_is_its_owners_and_holds_each_profile_apart(tmp_path: Path) -> None:
    home = str(tmp_path)
    HostCopy(home, "dev").write([TRIPPED])
    HostCopy(home, "prod").write([TRIPPED._replace(connection="other")])
    HostCopy(home, "dev").write([TRIPPED._replace(id="9")])

    assert HostCopy(home, "dev").decisions() == {"main": TRIPPED._replace(id="9")}
    assert list(HostCopy(home, "prod").decisions()) == ["other"]
    assert stat.S_IMODE((tmp_path / CIRCUITS).stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == [CIRCUITS]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "7",
        '{"dev": {}}',
        '{"dev": [7]}',
        '{"dev": [{"id": "1"}]}',
        '{"dev": [{"id": "1", "connection": "main", "action": "explode", "decided_at": 1.0}]}',
        '{"dev": [{"id": "1", "connection": "main", "action": "trip", "decided_at": "x"}]}',
        '{"dev": [{"id": "1", "connection": ["main"], "action": "trip", "decided_at": 1.0}]}',
        '{"dev": [{"id": "1", "connection": "main", "action": "trip", "decided_at": 1.0, "new": 1}]}',
    ],
)
def test_what_cannot_be_read_keeps_nobody_off(content: str, tmp_path: Path) -> None:
    file = tmp_path / CIRCUITS
    file.write_text(content)
    file.chmod(0o600)

    assert HostCopy(str(tmp_path), "dev").decisions() == {}


def test_what_others_could_have_written_keeps_nobody_off(tmp_path: Path) -> None:
    HostCopy(str(tmp_path), "dev").write([TRIPPED])
    (tmp_path / CIRCUITS).chmod(0o622)

    assert HostCopy(str(tmp_path), "dev").decisions() == {}


def test_bytes_that_are_no_text_keep_nobody_off(tmp_path: Path) -> None:
    (tmp_path / CIRCUITS).write_bytes(b"\xff\xfe")
    (tmp_path / CIRCUITS).chmod(0o600)

    assert HostCopy(str(tmp_path), "dev").decisions() == {}


def test_a_missing_folder_keeps_nobody_off(tmp_path: Path) -> None:
    assert HostCopy(str(tmp_path / "missing"), "dev").decisions() == {}


def test_writers_wait_for_each_other(tmp_path: Path) -> None:
    home, done = str(tmp_path), list[str]()

    def other() -> None:
        with HostCopy(home, "dev").locked():
            done.append("other")

    thread = Thread(target=other)
    with HostCopy(home, "dev").locked():
        thread.start()
        thread.join(0.1)
        done.append("first")
    thread.join()

    assert done == ["first", "other"]


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    """The file is replaced, not rewritten: whoever has it open keeps the old one whole."""
    home = str(tmp_path)
    HostCopy(home, "dev").write([TRIPPED])
    with open(tmp_path / CIRCUITS) as reader:
        before = os.fstat(reader.fileno()).st_ino
        HostCopy(home, "dev").write([TRIPPED._replace(reason="x" * 10_000)])
        assert json.load(reader)["dev"][0]["reason"] == "disk full"

    assert (tmp_path / CIRCUITS).stat().st_ino != before
