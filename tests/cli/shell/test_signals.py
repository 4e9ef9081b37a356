"""The signals that end a service."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from katax_cli.cli.shell.signals import ended_by_signals

TWICE = """
import os, signal, sys
from katax_cli.cli.shell.signals import ended_by_signals
with ended_by_signals() as ending:
    os.kill(os.getpid(), signal.SIGTERM)
    assert ending.wait(30)
    print("first", flush=True)
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    print("not reached")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_waited_for(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]

    with ended_by_signals() as ending:
        assert not ending.wait(0.0)
        assert not ending.wait(0.01)
        os.kill(os.getpid(), number)
        assert ending.wait()
        assert ending.wait(0.0)

    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == before


@pytest.mark.parametrize("second", ["SIGTERM", "SIGINT"])
def test_the_second_one_leaves_at_once(second: str) -> None:
    done = subprocess.run([sys.executable, "-c", TWICE, second], capture_output=True, text=True, timeout=120)

    assert (done.stdout, done.returncode) == ("first\n", 128 + getattr(signal, second))
