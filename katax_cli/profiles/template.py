"""The file that `katax profile init NAME` writes."""

from __future__ import annotations

import os

from katax_cli.errors import ConfigError

_BUILT_IN = ("env", "local")
_TEXT = """\
# Profile {name}. 'katax profile check {name}' finds mistakes, 'katax profile show {name}' what katax makes of it.
role = "dev"                       # dev | stage | prod | frozen (nothing can be written)

# Works at once: a SQLite file beside this project.
[connections.main]
type = "sqlite"
url = "sqlite:///{name}.db"

# A server instead. Secrets stay out of this file: ${{env:…}} reads the environment, then .env.
# [connections.main]
# url = "postgresql://app@localhost:5432/app"     # or mysql://, mongodb://
# password = "${{env:DB_PASSWORD}}"                 # or password_command, password_file, keyring
# pool = {{ max = 20, timeout = 5.0 }}
# tls = {{ mode = "verify-full", ca = "ca.pem" }}

# [connections.cache]
# url = "redis://localhost:6379/0"                # or "embedded"
# prefix = "app:"

# [migrate]
# directory = "migrations"

# [cron.jobs.cleanup]
# schedule = "0 3 * * *"
# command = "python -m app.cleanup"
"""


def profile_template(name: str) -> str:
    """A commented starter file that loads as it is."""
    return _TEXT.format(name=name)


def profile_path(folder: str, name: str) -> str:
    """The file of a new profile. Raises ConfigError for a built-in name, and for one that is no plain file name."""
    if name in _BUILT_IN:
        raise ConfigError(f"profile {name!r} is built in; choose another name")
    if not name.replace("-", "").replace("_", "").isalnum():
        raise ConfigError(f"{name!r} is no name for a profile; use letters, digits, - and _")
    return os.path.join(folder, "profiles", f"{name}.toml")


def write_template(folder: str, name: str) -> str:
    """Writes `profiles/NAME.toml` in the folder and returns its path; never over a file that is there.

    Raises ConfigError for that, for the name of a built-in profile, and for one that is no plain file name.
    """
    path = profile_path(folder, name)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "x", encoding="utf-8") as file:
            file.write(profile_template(name))
    except FileExistsError:
        raise ConfigError(f"{path} exists; choose another name or edit it") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    return path
