"""What a program logs, as the line that arrives."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
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
    handler, mine = Kept(), threading.get_ident()
    # Threads that other tests left behind may log beside it.
    handler.addFilter(lambda record: record.thread == mine)
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

    (record,) = [each for each in caplog.records if each.name == "katax.app.test"]
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


def test_a_transport_gets_every_entry_without_secrets(kept: Kept) -> None:
    entries: list[dict[str, object]] = []
    log = logger(secrets=lambda: ["s3cr3t-word"])

    def transport(entry: dict[str, object]) -> None:
        entries.append(entry)
        log.info("heard")
        if entry["message"] == "fail":
            raise ValueError("the wire is cut")

    remove = log.add_transport(transport)
    log.child(request=7).warning("it is s3cr3t-word", password="x", level="mine")
    log.error("fail")
    assert datetime.fromisoformat(str(entries[0].pop("timestamp"))).tzinfo is not None
    assert entries[0] == {
        "level": "warning", "logger": "katax.app.test", "message": "it is ***",
        "request": 7, "password": "***", "level_": "mine",
    }  # fmt: skip
    assert [entry["message"] for entry in entries] == ["it is ***", "fail"]
    messages = [json.loads(line)["message"] for line in kept.lines]
    told = "a log entry could not be given to a transport"
    assert messages == ["it is ***", "heard", "fail", "heard", told]
    remove()
    log.info("later")
    assert len(entries) == 2

    async def waits(_entry: dict[str, object]) -> None: ...

    with pytest.raises(TypeError):
        log.add_transport(waits)


def written(code: str) -> list[str]:
    done = run(code)
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize("first", ["katax", "logging"])
def test_beside_the_standard_library_an_entry_is_written_once(first: str) -> None:
    """Whichever is configured first; and without the program's handlers katax writes again."""
    steps = [
        "log = Logger()",
        "logging.basicConfig(stream=sys.stdout, level='INFO', format='own %(name)s %(levelname)s %(message)s')",
    ]
    lines = written(
        "import logging, sys; from katax_cli import Logger\n"
        + "\n".join(steps if first == "katax" else reversed(steps))
        + "\nlog.success('one', n=1); logging.getLogger('other').info('two')\n"
        + "logging.getLogger().handlers.clear(); Logger().info('three')"
    )
    assert lines[:2] == ["own katax.app SUCCESS one", "own other INFO two"]
    assert [json.loads(line)["message"] for line in lines[2:]] == ["three"]


def test_beside_structlog() -> None:
    """Its formatter renders our records, its loggers may be a transport, and katax takes one as a logger."""
    code = """
import logging, sys, structlog
from katax_cli import Katax, Logger, graceful_shutdown
handler = logging.StreamHandler(sys.stdout)
shared = [structlog.stdlib.add_log_level, structlog.stdlib.ExtraAdder()]
handler.setFormatter(structlog.stdlib.ProcessorFormatter(
    processor=structlog.processors.JSONRenderer(), foreign_pre_chain=shared))
logging.getLogger().addHandler(handler)
logging.getLogger().setLevel("INFO")
structlog.configure(
    processors=[structlog.stdlib.add_log_level, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
    logger_factory=structlog.stdlib.LoggerFactory())
log = Logger()
log.info("through katax", user=7, password="x")
structlog.get_logger("own").info("through structlog", user=8)
remove = log.add_transport(lambda e: structlog.get_logger("wire").info(e["message"], level_there=e["level"]))
log.warning("both")
remove()
katax = Katax(config={"connections": {"main": {"url": "sqlite:///:memory:"}}})
graceful_shutdown(katax, logger=structlog.get_logger("end"))
"""
    entries = [json.loads(line) for line in written(code)]
    assert entries[0] == {"level": "info", "event": "through katax", "fields": {"user": 7, "password": "***"}}
    assert entries[1] == {"level": "info", "event": "through structlog", "user": 8}
    assert [entry["event"] for entry in entries[2:4]] == ["both", "both"]
    assert entries[3]["level_there"] == "warning"
    assert [entry["event"][:8] for entry in entries[4:]] == ["shutting", "shutdown"]
