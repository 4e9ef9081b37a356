"""Users of this machine as jobs run as them."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from katax_cli.errors import Refused
from katax_cli.services.cron.definition.jobs import Job
from katax_cli.services.cron.run.process import Account


@dataclass(frozen=True, slots=True)
class Login:
    """The environment that cron(8) gives to the jobs of a user."""

    account: Account | None
    home: str
    environ: Mapping[str, str]


def login_of(user: str) -> Login:
    """The login of a user; without an account to change to for the user of this process. Raises OSError."""
    try:
        known = pwd.getpwnam(user)
    except KeyError:
        raise OSError(0, f"no user named {user!r} on this machine") from None
    account = None
    if known.pw_uid != os.geteuid():
        account = Account(known.pw_uid, known.pw_gid, tuple(os.getgrouplist(user, known.pw_gid)))
    environ = {
        "HOME": known.pw_dir,
        "LOGNAME": user,
        "USER": user,
        "SHELL": "/bin/sh",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
    }
    home = known.pw_dir if os.path.isdir(known.pw_dir) else "/"
    return Login(account, home, environ)


def is_user(name: str) -> bool:
    """True for the name of a user of this machine."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def refuse_other_user(job: Job) -> None:
    """Raises Refused for a job of a user that this process may not become, or that this machine does not know."""
    if job.user is None:
        return
    try:
        other = login_of(job.user).account is not None
    except OSError as error:
        raise Refused(f"job {job.name!r} is to run as {job.user!r}: {error.strerror}") from error
    if other and os.geteuid() != 0:
        raise Refused(
            f"job {job.name!r} is to run as {job.user!r}, and this process may not start it as another user; "
            "run the daemon as root or as that user"
        )


def other_users(jobs: Iterable[Job]) -> list[str]:
    """The reasons why this process would not run some of these jobs."""
    reasons = []
    for job in jobs:
        try:
            refuse_other_user(job)
        except Refused as refused:
            reasons.append(str(refused))
    return reasons
