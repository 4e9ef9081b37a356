"""What a program logs, as the line that arrives."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from katax_cli import Logger
from katax_cli.core.text.redact import Redactor
from katax_cli.services.program.logger import LEVELS, JsonLines

ROOT = Path(__file__).parents[3]


class Kept(logging.Handler):
    """The entries as our formatter writes them."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLines(Redactor()))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    @property
    def last(self) -> dict[str, Any]:
        entry: dict[str, Any] = json.loads(self.lines[-1])
        return entry


@pytest.fixture
def kept() -> Iterator[Kept]:
    handler = Kept()
    # Threads that other tests left behind log to `katax` itself.
    handler.addFilter(lambda record: record.name != "katax")
    logger = logging.getLogger("katax")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def logger(**options: Any) -> Logger:
    return Logger("katax.app.test", **{"level": "trace", **options})


def test_a_message_with_fields(kept: Kept) -> None:
    logger().info("started", port=3000, hosts=["a"])

    entry = kept.last
    assert datetime.fromisoformat(entry.pop("timestamp")).tzinfo is not None
    assert entry == {
        "level": "info",
        "logger": "katax.app.test",
        "message": "started",
        "port": 3000,
        "hosts": ["a"],
    }


def test_one_mapping_with_message(kept: Kept) -> None:
    given = {"message": "started", "port": 3000}
    logger().info(given)

    assert (kept.last["message"], kept.last["port"]) == ("started", 3000)
    assert given == {"message": "started", "port": 3000}


@pytest.mark.parametrize(
    ("method", "level"),
    [
        ("trace", "trace"), ("debug", "debug"), ("info", "info"), ("success", "success"), ("warn", "warning"),
        ("warning", "warning"), ("error", "error"), ("fatal", "fatal"),
    ],
)  # fmt: skip
def test_every_level_by_its_name(kept: Kept, method: str, level: str) -> None:
    getattr(logger(), method)("x")

    assert kept.last["level"] == level


def test_lower_levels_are_not_logged(kept: Kept) -> None:
    made = logger(level="warning")
    made.success("no")
    made.warning("yes")

    assert [json.loads(line)["message"] for line in kept.lines] == ["yes"]
    assert LEVELS["info"] < LEVELS["success"] < LEVELS["warning"]


def test_a_child_adds_its_fields(kept: Kept) -> None:
    child = logger().child(request=1, user="ann").child(user="bob")
    child.info("x", step=2)

    assert (kept.last["request"], kept.last["user"], kept.last["step"]) == (1, "bob", 2)


def test_fields_never_replace_ours_nor_the_records(kept: Kept) -> None:
    logger().info("x", level="mine", name="n", args=1, process="p", logger="l")

    entry = kept.last
    assert (entry["level"], entry["level_"]) == ("info", "mine")
    assert (entry["name"], entry["args"], entry["process"], entry["logger_"]) == ("n", 1, "p", "l")


def test_percent_signs_are_text(kept: Kept) -> None:
    logger().info("100 %s %d")

    assert kept.last["message"] == "100 %s %d"


def test_one_line_whatever_is_in_it(kept: Kept) -> None:
    logger().info("a\nb", text="c\nd")

    assert "\n" not in kept.lines[-1]
    assert kept.last["message"] == "a\nb"


def test_secrets_are_taken_out_before_any_handler_sees_them(
    kept: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    made = logger(secrets=lambda: ["s3cr3t-value"])
    made.error("login s3cr3t-value failed", password="x", error=ValueError("s3cr3t-value"))

    record = caplog.records[-1]
    assert "s3cr3t-value" not in f"{record.__dict__} {kept.lines}"
    assert kept.last["message"] == "login *** failed"
    assert (kept.last["password"], kept.last["error"]) == ("***", "ValueError: ***")


def test_a_traceback_is_a_field(kept: Kept) -> None:
    try:
        raise ValueError("boom")
    except ValueError:
        logging.getLogger("katax.pool").exception("broken")

    assert kept.last["message"] == "broken"
    assert kept.last["traceback"].endswith("ValueError: boom")


def test_broadcast_goes_to_whom_it_was_plugged_into(kept: Kept) -> None:
    heard: list[tuple[Mapping[str, object], str | None]] = []
    made = logger(level="info")
    child = made.child(request=1)
    child.info("nobody listens yet", broadcast=True)
    made.broadcast_to(lambda entry, room: heard.append((entry, room)))

    child.info("all", broadcast=True, password="x")
    made.warn({"message": "some", "broadcast": True, "room": "ops"})
    made.info("none")
    made.debug("too low", broadcast=True)

    assert heard == [
        ({"level": "info", "message": "all", "request": 1, "password": "***"}, None),
        ({"level": "warning", "message": "some"}, "ops"),
    ]
    assert "broadcast" not in kept.last


def test_a_listener_that_fails_breaks_nothing(kept: Kept) -> None:
    made = logger()
    made.broadcast_to(lambda _entry, _room: 1 / 0)

    made.info("x", broadcast=True)

    assert kept.last["message"] == "a log entry could not be broadcast"


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)


def test_a_program_gets_json_lines_on_stdout() -> None:
    done = run(
        "from katax_cli import Katax; log = Katax('local').logger; log.info('a', n=1); log.debug('no');"
        "Katax('local').logger.success('b')"
    )

    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["level"], line["message"]) for line in lines] == [("info", "a"), ("success", "b")]
    assert lines[0]["n"] == 1
    assert done.stderr == ""


def test_what_the_program_configured_itself_stands() -> None:
    done = run(
        "import logging; logging.basicConfig(format='%(name)s %(message)s');"
        "from katax_cli import Katax; Katax('local').logger.info('a', n=1)"
    )

    assert (done.stdout, done.stderr) == ("", "katax.app a\n")
