"""What every engine's launcher is told, and their data folders: made once, copied for each server."""

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers.certificates import Certificates
from tests.servers.installs import Install
from tests.servers.rooms import Account, cache_folder, locked

HOST = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One server to be: where it lives, what runs it, and how it differs from the usual one.

    `certificates` makes it speak TLS only; `client_certificate` makes it ask for one too. `settings` are the
    engine's own, by the engine's own names.
    """

    install: Install
    folder: Path
    port: int
    settings: Mapping[str, str] = field(default_factory=dict)
    certificates: Certificates | None = None
    client_certificate: bool = False


def copy_of_template(engine: str, recipe: str, make: Callable[[Path], None], *, into: Path) -> None:
    """Copy the data folder that `make` fills, made once for each `recipe`, to `into`."""
    fingerprint = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    template = cache_folder() / "templates" / f"{engine}-{fingerprint}"
    with locked(template.with_suffix(".lock")):
        if not template.exists():
            make(into)
            _keep(into, template)
            return
    # `cp` shares blocks where the file system can, and keeps owners.
    run(["cp", "-a", "--reflink=auto", f"{template}/.", str(into)])


def _keep(made: Path, template: Path) -> None:
    work = Path(tempfile.mkdtemp(prefix="half-", dir=template.parent))
    try:
        run(["cp", "-a", f"{made}/.", str(work)])
        work.rename(template)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def run(
    command: list[str], *, stdin: str = "", account: Account | None = None, cwd: Path | None = None
) -> str:
    """Run a server's helper program; raises RuntimeError with what it said."""
    done = subprocess.run(
        command,
        input=stdin,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} exited with {done.returncode}: {done.stderr.strip()[-800:]}")
    return done.stdout


def own_copy(path: Path, folder: Path, account: Account | None) -> Path:
    """A copy of a key or configuration file that the server may read and nobody else."""
    copied = Path(shutil.copy(path, folder))
    copied.chmod(0o600)
    if account:
        account.own(copied)
    return copied
