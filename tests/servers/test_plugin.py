"""What the plugin makes of skips, and of marks whose servers are not there."""

import os
import subprocess
import sys
from pathlib import Path

from tests.servers.plugin import unavailable
from tests.servers.rooms import REPOSITORY

# Of the outer run: its test workers, its containers.
FOREIGN = ("PYTEST_", "KATAX_TEST_RUN")
MARKED = """
import pytest

def test_plain(): pass

@pytest.mark.soak
def test_soak(): pass

@pytest.mark.needs_mongod
def test_mongod(): pass
"""
SKIPPING = """
import pytest

def test_plain(): pass

@pytest.mark.xfail(strict=True)
def test_known(): assert False

def test_unlucky(): pytest.skip("no luck")
"""


def run_pytest(folder: Path, body: str, *options: str, ci: bool = False) -> subprocess.CompletedProcess[str]:
    """Run `body` as a test module under the plugin alone."""
    (folder / "test_sample.py").write_text(body)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    environment |= {"CI": "true" if ci else "", "PYTHONPATH": str(REPOSITORY)}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "tests.servers.plugin", "-c", os.devnull, "-rA"]
    command += ["--rootdir", str(folder), "-p", "no:cacheprovider", *options, str(folder)]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)


def test_at_home_a_skip_is_a_skip_and_the_header_names_what_cannot_run(tmp_path: Path) -> None:
    (tmp_path / "test_skips.py").write_text(SKIPPING)
    done = run_pytest(tmp_path, MARKED)
    assert done.returncode == 0, done.stdout
    assert "soak (on demand: -m soak)" in done.stdout
    assert "PASSED test_sample.py::test_plain" in done.stdout
    assert "test_soak" not in done.stdout
    assert ("test_mongod" in done.stdout) is ("needs_mongod" not in unavailable())
    for engine in ("postgresql", "mysql", "mongodb", "redis", "sqlite"):
        assert f"{engine}: " in done.stdout


def test_a_skip_is_a_failure_in_ci_on_workers_too(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, SKIPPING, "-p", "xdist", "-n", "2", ci=True)
    assert done.returncode == 1, done.stdout
    named = done.stdout.partition("which CI counts as failed")[2]
    assert "test_sample.py::test_unlucky" in named
    assert "test_known" not in named.partition("=====")[0]


def test_a_test_and_a_module_that_skip_themselves_are_failures_in_ci(tmp_path: Path) -> None:
    (tmp_path / "test_module.py").write_text('import pytest\npytest.importorskip("no_such_module")\n')
    done = run_pytest(tmp_path, SKIPPING, ci=True)
    assert done.returncode == 1, done.stdout
    named = done.stdout.partition("which CI counts as failed")[2]
    assert "test_sample.py::test_unlucky" in named
    assert "test_module.py" in named


def test_no_skip_no_failure_in_ci_and_soak_runs_on_demand(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, MARKED, "-m", "soak", ci=True)
    assert done.returncode == 0, done.stdout
    assert "PASSED test_sample.py::test_soak" in done.stdout
