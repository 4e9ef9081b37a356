"""Completions in the shells themselves: each is started on a terminal, and TAB is pressed."""

import shutil
import sys
from contextlib import closing
from pathlib import Path

import pytest

from katax_cli.cli.completion.commands import script
from tests.cli.harness import katax, write_profile
from tests.cli.processes import spawn
from tests.cli.pseudo_terminal import Terminal
from tests.servers.debian import PackageUnavailable, unpacked
from tests.waiting import until

PACKAGES = {"bash": ("bash",), "zsh": ("zsh-static", "zsh-common"), "fish": ("fish",)}
STARTED = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
PREPARED = {
    "bash": "katax() { echo \"<ran $*>\"; }; source {file}; bind 'set bell-style none'; echo ready-$((1+1))",
    "zsh": (
        'fpath=({functions} $fpath); LISTMAX=1000; katax() { echo "<ran $*>" }; autoload -Uz compinit; '
        "compinit -u -D; source {file}; echo ready-$((1+1))"
    ),
    "fish": 'function katax; echo "<ran $argv>"; end; source {file}; echo ready-(math 1+1)',
}
TYPED = (
    (b"katax heal\t\r", b"<ran health>"),
    (b"katax cache \t\t", b"clear"),
    (b"katax cron run-daemon --\t\t", b"crontab"),
)


VALUES = (
    (b"katax -p d\t\r", b"<ran -p dev >"),
    (b"katax db ping -c mai\t\r", b"<ran db ping -c main >"),
    (b"katax db query -f jsonl\t\r", b"<ran db query -f jsonl >"),
    (b"katax cron run nig\t\r", b"<ran cron run nightly >"),
    (b"katax migrate down --to 0\t\r", b"<ran migrate down --to 001 >"),
    (b"katax db describe cust\t\r", b"<ran db describe customers >"),
    (b"katax cache get user:1\t\r", b"<ran cache get user:17 >"),
    (b"katax seed r\t\r", b"<ran seed run >"),
)
# The word `katax` is a function that prints what it was given; what completes is the real one.
ASKING = {
    "bash": 'katax() { if [ "$1" = completion ]; then KATAX "$@"; else echo "<ran" "$@" ">"; fi; }',
    "zsh": 'katax() { if [ "$1" = completion ]; then KATAX "$@"; else echo "<ran" "$@" ">"; fi }',
    "fish": 'function katax; if test "$argv[1]" = completion; KATAX $argv; else; echo "<ran $argv >"; end; end',
}


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_tab_completes_values(name: str, tmp_path: Path, redis_url: str) -> None:
    program, functions = program_of(name)
    extra = '[cron.jobs.nightly]\nschedule = "@daily"\ncommand = "true"\n'
    write_profile(tmp_path, {"main": "sqlite:///x.db", "cache": redis_url}, name="dev", extra=extra)
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations/001_a.sql").write_text("-- UP\nselect 1;\n-- DOWN\nselect 1;\n")
    assert katax("db", "exec", "create table customers (id int)").code == 0
    assert katax("cache", "set", "user:17", "1").code == 0
    for line in ("db describe cust", "cache get user:1", "cron run nig"):
        until(lambda line=line: spawn("completion", "values", "--", *line.split()).communicate()[0])  # type: ignore[misc]
    file = tmp_path / "completions"
    file.write_text(script(name))
    prepared = PREPARED[name].replace("{file}", str(file)).replace("{functions}", functions)
    asking = ASKING[name].replace("KATAX", f"{sys.executable} -m katax_cli")
    words = [program, *STARTED[name][1:]]
    shell = Terminal(columns=200, lines=100, program=f"import os; os.execv({program!r}, {words!r})")
    with closing(shell):
        shell.type(prepared.encode() + b"\r")
        shell.read_until(1, b"ready-2")
        shell.type(
            asking.encode() + b"; echo asking-$((1+1))\r"
            if name != "fish"
            else asking.encode() + b"; echo asking-(math 1+1)\r"
        )
        shell.read_until(1, b"asking-2")
        for keys, expected in VALUES:
            shell.type(keys)
            shell.read_until(1, expected)


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_tab_completes_commands_and_options_and_says_nothing_else(name: str, tmp_path: Path) -> None:
    program, functions = program_of(name)
    file = tmp_path / "completions"
    file.write_text(script(name))
    prepared = PREPARED[name].replace("{file}", str(file)).replace("{functions}", functions)
    words = [program, *STARTED[name][1:]]
    for keys, expected in TYPED:
        shell = Terminal(columns=120, lines=100, program=f"import os; os.execv({program!r}, {words!r})")
        with closing(shell):
            shell.type(prepared.encode() + b"\r")
            shell.read_until(1, b"ready-2")
            shell.type(keys)
            shell.read_until(1, expected)
        assert [word for word in (b"Invalid index", b"can only be", b"not found") if word in shell.seen] == []


def program_of(name: str) -> tuple[str, str]:
    """The shell of this machine or of its Debian package, and where that package has zsh's functions."""
    installed = shutil.which(name)
    if installed is not None:
        return installed, ""
    try:
        programs = unpacked(*PACKAGES[name])
    except PackageUnavailable as error:
        pytest.skip(f"{name}: {error}")
    program = programs / PACKAGES[name][0]
    folders = (programs.parent / "root/usr/share/zsh/functions").rglob("*/")
    return str(program), " ".join(sorted(str(folder) for folder in folders if folder.is_dir()))
