"""The first phase of `katax cache clear`: what a pattern matches, before anything is deleted."""

from __future__ import annotations

from katax_cli.cli.cache_views import survey_lines
from katax_cli.cli.invocation import Invocation
from katax_cli.errors import Refused
from katax_cli.profiles.model import Profile
from katax_cli.services.cache import Cache
from katax_cli.services.keyspace import Survey


def preview(call: Invocation, values: Cache, profile: Profile, pattern: str) -> Survey:
    """A survey, shown on stderr. Raises Refused for a bare `*` on production."""
    settings = values.redis.settings
    if profile.role == "prod" and pattern and not pattern.strip("*"):
        raise Refused(
            f"{pattern!r} is every key of {settings.name!r}, a prod connection; name a narrower pattern, "
            f"or use 'katax cache flush --confirm {profile.name}/{settings.name}'"
        )
    survey = values.survey(pattern)
    for line in survey_lines(survey, pattern):
        call.diagnostics.note(line)
    return survey
