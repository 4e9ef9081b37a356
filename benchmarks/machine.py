"""What figures depend on: the day, the machine, how busy it was, and the versions of what was measured."""

from __future__ import annotations

import os
import platform
import re
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    *("katax", "psycopg", "psycopg-pool", "asyncpg", "PyMySQL", "DBUtils", "pymongo", "redis", "SQLAlchemy"),
    *("tenacity", "pybreaker", "APScheduler", "yoyo-migrations", "python-socketio", "uvicorn", "pg_activity"),
)
"""Whose versions stand beside the results: katax, its drivers and its peers."""


def facts() -> dict[str, str]:
    """Name → what it is, ready for a table."""
    cpuinfo = Path("/proc/cpuinfo")
    cpu = re.search(r"^model name\s*: (.*)$", cpuinfo.read_text() if cpuinfo.exists() else "", re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ((name, _version(name)) for name in PACKAGES)
    return {
        "day": date.today().isoformat(),
        "processor": f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "load average when it was written": ", ".join(f"{load:.1f}" for load in os.getloadavg()),
        "Python": platform.python_version(),
        "packages": ", ".join(f"{name} {number}" for name, number in versions if number),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
