"""`python -m tests.package [VERSION…]`: builds katax, installs the wheel with pipx and uses it as a stranger would.

Each Python named (3.11, 3.12, 3.13 and 3.14 when none is) gets an installation of its own in an empty home, with the
embedded Redis and nothing but that installation on PATH. A Python that is not on this machine is named, which is no
failure.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hatchling.build import build_sdist, build_wheel

ROOT = Path(__file__).parents[1]
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
EMBEDDED_UP_TO = (3, 13)
"""The newest Python that wheels of the embedded Redis exist for."""

STEPS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("--version",), "katax "),
    (("health", "--no-header"), "main "),
    (("cache", "set", "greeting", '{"hello":"world"}', "--ttl", "5m"), "stored  true"),
    (("cache", "get", "greeting"), '{"hello":"world"}'),
    (("db", "exec", "create table t (n integer); insert into t values (41), (42)"), "rows_affected  2"),
    (("db", "query", "select max(n) as n from t", "-f", "csv"), "n\n42"),
    (("local", "stop"), "stopped     true"),
)
"""What is typed, and what the answer has in it."""


def build(folder: Path) -> tuple[Path, Path]:
    """The wheel and the source distribution, made in `folder` by this interpreter's hatchling."""
    with _inside(ROOT):
        return folder / build_wheel(str(folder)), folder / build_sdist(str(folder))


def wheel_files(wheel: Path) -> list[str]:
    return zipfile.ZipFile(wheel).namelist()


def sdist_files(sdist: Path) -> list[str]:
    """Paths within the one folder of the archive."""
    with tarfile.open(sdist) as archive:
        return [name.partition("/")[2] for name in archive.getnames()]


def main(versions: list[str]) -> int:
    """Returns 1 when a step did not answer as it should on one of the versions."""
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    dist.mkdir()
    wheel, sdist = build(dist)
    _say(
        f"built {wheel.name} ({wheel.stat().st_size:,} bytes) and {sdist.name} ({sdist.stat().st_size:,} bytes)"
    )
    failed = [version for version in versions or VERSIONS if not _works_on(version, wheel)]
    return int(bool(failed))


def _works_on(version: str, wheel: Path) -> bool:
    python = _python(version)
    if python is None:
        _say(f"Python {version}: not on this machine, not tried")
        return True
    with tempfile.TemporaryDirectory(prefix="katax-package-") as home:
        complaints = _complaints(version, python, wheel, Path(home))
    _say(f"Python {version}: " + ("; ".join(complaints) or f"{len(STEPS)} steps as they should be"))
    return not complaints


def _complaints(version: str, python: str, wheel: Path, home: Path) -> list[str]:
    """Installs and takes every step; what went otherwise than it should."""
    embedded = tuple(map(int, version.split("."))) <= EMBEDDED_UP_TO
    installed = _installed(python, f"{wheel}[embedded]" if embedded else str(wheel), home)
    if installed.returncode:
        return [f"pipx install failed: {installed.stderr.strip()[-2000:]}"]
    environment = {"HOME": str(home), "PATH": str(home / "bin"), "LANG": "C.UTF-8"}
    (home / "shop").mkdir()
    complaints = [] if (home / "man" / "man1" / "katax.1").exists() else ["no manual page was installed"]
    for words, expected in STEPS:
        if not embedded and words[0] in ("cache", "local"):
            continue
        done = subprocess.run(
            ["katax", *words], cwd=home / "shop", env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode or expected not in done.stdout:
            complaints.append(f"katax {' '.join(words)}: exit {done.returncode}: {done.stdout}{done.stderr}")
    return complaints


def _installed(python: str, spec: str, home: Path) -> "subprocess.CompletedProcess[str]":
    places = {"PIPX_HOME": home / "pipx", "PIPX_BIN_DIR": home / "bin", "PIPX_MAN_DIR": home / "man"}
    return subprocess.run(
        [sys.executable, "-m", "pipx", "install", "--quiet", "--python", python, spec],
        env={**os.environ, **{name: str(place) for name, place in places.items()}},
        capture_output=True,
        text=True,
        check=False,
    )


def _python(version: str) -> str | None:
    """A working interpreter of this version: on PATH, or one of pyenv's or uv's."""
    installed = [*Path.home().glob(f".pyenv/versions/{version}.*/bin/python"), *_uv_pythons(version)]
    for candidate in (shutil.which(f"python{version}"), *map(str, installed)):
        if candidate and _answers(candidate, version):
            return candidate
    return None


def _uv_pythons(version: str) -> Sequence[Path]:
    places = Path.home() / ".local/share/uv/python"
    return sorted(places.glob(f"cpython-{version}.*/bin/python{version}"))


def _answers(python: str, version: str) -> bool:
    asked = "import sqlite3, ssl, sys, venv; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=False)
    return done.stdout.strip() == version


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
