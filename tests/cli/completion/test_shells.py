"""Completions in the shells themselves: each is started on a terminal, and TAB is pressed."""

import shutil
from contextlib import closing
from pathlib import Path

import pytest

from katax_cli.cli.completion.commands import script
from tests.cli.pseudo_terminal import Terminal
from tests.servers.debian import PackageUnavailable, unpacked

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
