"""What `katax profile init NAME` writes."""

from __future__ import annotations

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
