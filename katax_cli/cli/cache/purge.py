"""The phases of `katax cache clear`: what a pattern matches, the questions, and on several connections the deletion."""

from __future__ import annotations

from katax_cli.cli.cache.views import survey_lines
from katax_cli.cli.shell.exits import ExitCode, worst
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.progress import Parts, Progress
from katax_cli.cli.shell.redis import REDIS
from katax_cli.cli.shell.scope import Scope, scope
from katax_cli.core.roles import Tier
from katax_cli.core.settings import ConnectionSettings
from katax_cli.errors import Refused
from katax_cli.profiles.model.model import Profile
from katax_cli.services.cache.cache import Cache
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.redis.keyspace import Survey, matches_everything

CLEARED_HEADER = ("connection", "pattern", "matching", "deleted")


def preview(chosen: Scope, values: Cache, pattern: str) -> Survey:
    """A survey, shown on stderr. Raises Refused on production for a pattern that every key matches."""
    _refuse_everything(chosen.profile, values.redis.settings, pattern)
    survey = values.survey(pattern)
    for line in survey_lines(survey, pattern):
        chosen.call.diagnostics.note(line)
    return survey


def clear_each(call: Invocation, pattern: str) -> ExitCode:
    """Deletes what matches on every connection of a pattern, in parallel, after the last question was answered.

    A connection that fails is reported and affects its own row only.
    """
    codes: list[ExitCode] = []
    with scope(call, REDIS, seconds=None) as chosen:
        surveys = _surveys(chosen, pattern, codes)
        matching = {settings.name: survey.matching for settings, survey in surveys}
        uncounted = [settings.name for settings, survey in surveys if survey.at_least]
        facts = {"pattern": pattern, "matching": matching, **({"at_least": uncounted} if uncounted else {})}
        if call.only_planned(**facts, deleted=0):
            return worst(codes)
        for settings, survey in surveys:
            what = f"delete {survey.count} keys that match {pattern!r}"
            chosen.confirm(Tier.DESTRUCTIVE, what, of=settings)

        progress = Progress(call.diagnostics, "deleted", "keys", sum(matching.values()), unsure=True)
        parts = Parts(progress)

        def work(database: RedisDatabase) -> int:
            return Cache(database).clear(pattern, on_batch=lambda deleted: parts.told(database.name, deleted))

        rows: list[tuple[object, ...]] = []
        with progress:
            for settings, deleted in chosen.runtime.each([settings for settings, _ in surveys], work):
                if isinstance(deleted, BaseException):
                    codes.append(call.diagnostics.failure(deleted))
                else:
                    rows.append((settings.name, pattern, matching[settings.name], deleted))
    call.out.rows(CLEARED_HEADER, [rows])
    return worst(codes)


def _surveys(chosen: Scope, pattern: str, codes: list[ExitCode]) -> list[tuple[ConnectionSettings, Survey]]:
    """Surveys the pattern on each connection that answers and shows the result on stderr."""
    for settings in chosen.settings:
        _refuse_everything(chosen.profile, settings, pattern)
    surveys = []
    for settings, survey in chosen.each(lambda database: Cache(database).survey(pattern)):
        if isinstance(survey, BaseException):
            codes.append(chosen.call.diagnostics.failure(survey))
            continue
        surveys.append((settings, survey))
        for line in survey_lines(survey, pattern):
            chosen.call.diagnostics.note(f"{settings.name}: {line}")
    return surveys


def _refuse_everything(profile: Profile, settings: ConnectionSettings, pattern: str) -> None:
    if profile.role == "prod" and matches_everything(pattern):
        raise Refused(
            f"{pattern!r} is every key of {settings.name!r}, a prod connection; name a narrower pattern, "
            f"or use 'katax cache flush --confirm {profile.name}/{settings.name}'"
        )
