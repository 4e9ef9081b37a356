"""The folders that katax reads and writes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from katax_cli.errors import ConfigError
from katax_cli.profiles.sources.ownership import refuse_untrusted, trusted
from katax_cli.profiles.sources.trust import home_folder

CIRCUITS = "circuits.json"
"""The host's copy of what operators decided, inside `.katax/`."""


def upward(start: str, environ: Mapping[str, str]) -> Iterator[str]:
    """The folder and those above it, up to the home folder or the edge of the file system."""
    home = os.path.realpath(home_folder(environ))
    folder = os.path.realpath(start)
    device = _device(folder)
    while True:
        yield folder
        parent = os.path.dirname(folder)
        if folder in (home, parent) or _device(parent) != device:
            return
        folder = parent


def _device(folder: str) -> int | None:
    try:
        return os.stat(folder).st_dev
    except OSError:
        return None


def user_folder(environ: Mapping[str, str]) -> str:
    """The folder of the user's own profiles: `$XDG_CONFIG_HOME/katax`."""
    base = environ.get("XDG_CONFIG_HOME") or os.path.join(home_folder(environ), ".config")
    return os.path.join(base, "katax")


def katax_home(folder: str, environ: Mapping[str, str]) -> str:
    """The `.katax/` folder of a project folder: KATAX_HOME, else the nearest upward, else its own.

    It need not exist yet; `ensure_home` makes it. Folders that others could write are passed over.
    """
    said = environ.get("KATAX_HOME")
    if said:
        return os.path.abspath(os.path.join(folder, os.path.expanduser(said)))
    for above in upward(folder, environ):
        candidate = os.path.join(above, ".katax")
        if os.path.isdir(candidate) and trusted(candidate):
            return candidate
    return os.path.join(folder, ".katax")


def ensure_home(home: str) -> str:
    """Makes the folder, 0700 and ignored by git, and returns it.

    Raises UntrustedFile when it belongs to another user, ConfigError when it cannot be made.
    """
    try:
        os.makedirs(home, mode=0o700, exist_ok=True)
        refuse_untrusted(home)
        if os.stat(home).st_mode & 0o077:
            os.chmod(home, 0o700)
        ignore = os.path.join(home, ".gitignore")
        if not os.path.exists(ignore):
            with open(os.open(ignore, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as file:
                file.write("*\n")
    except OSError as error:
        raise ConfigError(f"{home} cannot be made: {error.strerror}; KATAX_HOME moves it") from error
    return home
