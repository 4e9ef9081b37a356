"""Debian and Ubuntu packages without root: downloaded, unpacked into the cache, run from there.

Libraries that the machine lacks come along: the dependencies as apt knows them, minus what is installed. That
holds over releases that rename packages (libaio1, libaio1t64).
"""

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.servers.rooms import cache_folder, locked

# llvmjit is loaded on demand only, and these servers run with jit off.
LIBRARY = re.compile(r"lib(?!llvm|.*-perl$)[a-z0-9.+-]+")
RELATION = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")


class PackageUnavailable(Exception):
    """A Debian package could not be had; says which one and how to go on."""


def unpacked(*packages: str) -> Path:
    """The folder of the programs of `packages`, fetched once; each program finds its libraries.

    A name may hold alternatives, best first: `postgresql-17|postgresql-15`. Raises PackageUnavailable.
    """
    name = "+".join(re.sub(r"\W+", "-", package) for package in packages)
    target = cache_folder() / "debian" / name
    with locked(target.with_suffix(".lock")):
        if not target.exists():
            _unpack_into(target, packages)
    return target / "programs"


def available() -> bool:
    """Whether this machine can fetch Debian packages at all."""
    return all(shutil.which(tool) for tool in ("apt-get", "apt-cache", "dpkg"))


def _unpack_into(target: Path, packages: Sequence[str]) -> None:
    if not available():
        raise PackageUnavailable(f"no apt-get here to fetch {' '.join(packages)}; install the server itself")
    work = Path(tempfile.mkdtemp(prefix="unpack-", dir=target.parent))
    work.chmod(0o755)
    try:
        _download(work, packages)
        for archive in work.glob("*.deb"):
            _run(["dpkg", "-x", str(archive), str(work / "root")])
            archive.unlink()
        _write_launchers(work, final=target)
        work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _download(folder: Path, packages: Sequence[str]) -> None:
    """First by the system's package lists; if missing or outdated, by our own, which need no root."""
    try:
        _download_with([], folder, packages)
    except (PackageUnavailable, subprocess.CalledProcessError):
        options = _own_lists()
        try:
            _run(["apt-get", *options, "-q", "update"])
            _download_with(options, folder, packages)
        except subprocess.CalledProcessError as error:
            wanted = " ".join(packages)
            raise PackageUnavailable(
                f"could not fetch {wanted}: {error.stderr.strip()[-300:]}; install it or give a URL"
            ) from error


def _download_with(options: Sequence[str], folder: Path, packages: Sequence[str]) -> None:
    chosen = [_first_known(options, package) for package in packages]
    wanted = [*chosen, *_missing_libraries(options, chosen)]
    _run(["apt-get", *options, "-q", "-o", "APT::Sandbox::User=root", "download", *wanted], cwd=folder)


def _own_lists() -> list[str]:
    lists, archives = cache_folder() / "apt" / "lists", cache_folder() / "apt" / "cache"
    for folder in (lists / "partial", archives / "archives" / "partial"):
        folder.mkdir(parents=True, exist_ok=True)
    settings = (f"Dir::State::Lists={lists}", f"Dir::Cache={archives}", "APT::Sandbox::User=root")
    return [word for setting in settings for word in ("-o", setting)]


def _first_known(options: Sequence[str], alternatives: str) -> str:
    for package in alternatives.split("|"):
        # `show` answers 0 for a name that is only mentioned by others, with nothing on stdout.
        seen = subprocess.run(
            ["apt-cache", *options, "show", "--no-all-versions", package], capture_output=True, check=False
        )
        if seen.stdout:
            return package
    raise PackageUnavailable(f"apt knows no package {alternatives}; run apt-get update or install the server")


def _missing_libraries(options: Sequence[str], packages: Sequence[str]) -> list[str]:
    without = [f"--no-{relation}" for relation in RELATION]
    lines = _run(["apt-cache", *options, "depends", "--recurse", *without, *packages]).splitlines()
    needed = {line for line in lines if LIBRARY.fullmatch(line)}
    listing = _run(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\n"])
    installed = {line.split()[1] for line in listing.splitlines() if line.startswith("installed ")}
    return sorted(needed - installed)


def _write_launchers(work: Path, *, final: Path) -> None:
    """A shell script for each program: sets the library path and execs, so that the process id stays."""
    programs = work / "programs"
    programs.mkdir()
    libraries = sorted({str(final / path.parent.relative_to(work)) for path in work.glob("root/**/*.so.*")})
    for program in _programs(work):
        script = programs / program.name
        target = shlex.quote(str(final / program.relative_to(work)))
        library_path = shlex.quote(os.pathsep.join(libraries))
        script.write_text(f'#!/bin/sh\nexport LD_LIBRARY_PATH={library_path}\nexec {target} "$@"\n')
        script.chmod(0o755)


def _programs(work: Path) -> list[Path]:
    folders = ("bin", "usr/bin", "usr/sbin", "usr/lib/postgresql/*/bin")
    return [
        path
        for folder in folders
        for path in sorted((work / "root").glob(f"{folder}/*"))
        if path.resolve().is_relative_to(work.resolve()) and os.access(path, os.X_OK)
    ]


def _run(command: Sequence[str], *, cwd: Path | None = None) -> str:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=True)
    return done.stdout
