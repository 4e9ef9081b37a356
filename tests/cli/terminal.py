"""Commands with somebody at the terminal: the streams of the test, said to be interactive."""

import io

import pytest

from katax_cli.cli import app
from katax_cli.cli.shell.options import Streams
from tests.cli.harness import Done


def at_terminal(*words: str, typed: str | None, width: int | None = None) -> Done:
    """`katax WORDS…` for a person who types one line; None: who ends the input instead."""
    out, err = io.BytesIO(), io.StringIO()
    line = b"" if typed is None else typed.encode() + b"\n"
    streams = Streams(
        io.BytesIO(line), out, err, interactive=True, color=False, width=width, stderr_width=width
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "_streams", lambda *_: streams)
        code = app.main(list(words))
    return Done(code, out.getvalue(), err.getvalue())
