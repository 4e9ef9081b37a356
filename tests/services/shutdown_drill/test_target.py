"""The program that is drilled: what it writes is handed on in parts, however long its lines are."""

from __future__ import annotations

import os
import sys

from katax_cli.services.shutdown_drill.target import DrillTarget

LONG_LINE = "import os; [os.write(1, b'x' * 65536) for _ in range(160)]; os.write(1, b'\\nlast')"


def test_a_line_of_any_length_is_handed_on_in_parts() -> None:
    parts: list[bytes] = []
    with DrillTarget(
        [sys.executable, "-c", LONG_LINE], environ=dict(os.environ), sink=parts.append
    ) as target:
        assert target.ended(60.0)

    assert b"".join(parts) == b"x" * 160 * 65536 + b"\nlast"
    assert max(map(len, parts)) <= 65536
