"""`python -m tests.pictures`: docs/tour.svg, a terminal in which the commands of the README's tour were really typed.

Everything that the picture shows was printed by these commands, in an empty folder with the embedded Redis.
"""

import os
import pty
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
COLUMNS = 110
TOUR = (
    "katax health",
    """katax cache set user:1 '{"name": "Ada", "score": 1}' --ttl 5m""",
    "katax cache get user:1",
    "katax db exec 'create table people (id integer primary key, name text)'",
    "katax db exec \"insert into people (name) values ('Ada'), ('Grace')\"",
    "katax db query 'select * from people'",
    "katax db exec 'delete from people' < /dev/null",
    "katax cron explain '*/15 9-17 * * 1-5'",
)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="katax-tour-") as home, open(os.devnull, "w") as nowhere:
        console = Console(
            record=True, width=COLUMNS, file=nowhere, force_terminal=True, color_system="truecolor"
        )
        for line in TOUR:
            console.print(Text.assemble(("$ ", "bold green"), (line, "bold")))
            console.print(Text.from_ansi(_printed(line, home)))
        _printed("katax local stop", home)
        console.save_svg(str(ROOT / "docs" / "tour.svg"), title="katax, without any configuration")
    return 0


def _printed(line: str, home: str) -> str:
    """What a shell line prints on a terminal of this width."""
    environment = {
        "HOME": home,
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "TERM": "xterm-256color",
        "COLUMNS": str(COLUMNS),
        "LANG": "C.UTF-8",
    }
    ours, theirs = pty.openpty()
    shell = f"stty cols {COLUMNS} rows 50; {line}"
    with subprocess.Popen(
        ["sh", "-c", shell], cwd=home, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    ):
        os.close(theirs)
        parts = []
        while part := _read(ours):
            parts.append(part)
    os.close(ours)
    return b"".join(parts).decode().replace("\r\n", "\n").rstrip()


def _read(terminal: int) -> bytes:
    """The next bytes; none when the last program on the terminal has ended, which Linux says with an error."""
    try:
        return os.read(terminal, 65_536)
    except OSError:
        return b""


if __name__ == "__main__":
    sys.exit(main())
