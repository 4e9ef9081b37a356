"""The program that is drilled: what it writes is handed on in parts, however long its lines are."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from katax_cli.errors import ConfigError
from katax_cli.services.processes.tree import processes
from katax_cli.services.shutdown_drill.target import DrillTarget
from tests.waiting import SECONDS, until

LONG_LINE = "import os; [os.write(1, b'x' * 65536) for _ in range(160)]; os.write(1, b'\\nlast')"


def test_a_line_of_any_length_is_handed_on_in_parts() -> None:
    parts: list[bytes] = []
    with DrillTarget(
        [sys.executable, "-c", LONG_LINE], environ=dict(os.environ), sink=parts.append
    ) as target:
        assert target.ended(60.0)

    until(lambda: sum(map(len, parts)) >= 160 * 65536 + 5)
    assert b"".join(parts) == b"x" * 160 * 65536 + b"\nlast"
    assert max(map(len, parts)) <= 65536


def test_a_program_that_cannot_be_run_is_refused_in_a_sentence(tmp_path: Path) -> None:
    for name, text in (("no-shebang", "echo ran\n"), ("lost", "#!/nonexistent\n")):
        script = tmp_path / name
        script.write_text(text)
        script.chmod(0o755)
        with pytest.raises(ConfigError, match=f"cannot run '.*{name}': .*; a script begins with #!"):
            DrillTarget([str(script)], environ=dict(os.environ), sink=lambda _part: None)


def test_a_signal_is_pending_until_the_program_runs_again() -> None:
    """Of two that are pending the kernel makes one."""
    words = [sys.executable, "-c", "import time; time.sleep(600)"]
    with DrillTarget(words, environ=dict(os.environ), sink=lambda _part: None) as target:
        pid = target._process.pid
        target.signal(signal.SIGSTOP)
        until(lambda: any(seen.pid == pid and seen.state == "T" for seen in processes()))
        target.signal(signal.SIGTERM)
        assert not target.taken(signal.SIGTERM, 0.05)
        assert target.taken(signal.SIGUSR1, SECONDS)
        target.signal(signal.SIGCONT)
        assert target.taken(signal.SIGTERM, SECONDS)
        assert target.ended(SECONDS)
