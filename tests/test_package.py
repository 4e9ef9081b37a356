"""What is in the wheel and in the source distribution, and what they say of katax."""

from __future__ import annotations

import re
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from katax_cli import __version__
from tests.package import build, sdist_files, wheel_files
from tests.versions import lowest

ROOT = Path(__file__).parents[1]
REFUSE = re.compile(r"(^|/)(tests|benchmarks|\.[a-z][^/]*|__pycache__)/|\.pyc$|\.db$|results\.json$")
"""Paths that belong to no package: tests, hidden folders (environments, caches, local servers), compiled files."""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build(tmp_path_factory.mktemp("dist"))


def test_the_wheel_has_the_package_its_manual_and_its_completions(packages: tuple[Path, Path]) -> None:
    wheel, _ = packages
    files = wheel_files(wheel)
    shared = f"katax-{__version__}.data/data/share"
    modules = {str(file.relative_to(ROOT)) for file in (ROOT / "katax_cli").rglob("*.py")}
    manual = {f"{shared}/man/man1/{page.name}" for page in (ROOT / "man").iterdir()}
    completions = {
        f"{shared}/bash-completion/completions/katax",
        f"{shared}/zsh/site-functions/_katax",
        f"{shared}/fish/vendor_completions.d/katax.fish",
    }
    licence = {f"katax-{__version__}.dist-info/licenses/LICENSE"}

    assert (modules | manual | completions | licence | {"katax_cli/py.typed"}) - set(files) == set()
    assert [file for file in files if REFUSE.search(file)] == []
    assert {file.partition("/")[0] for file in files} == {
        "katax_cli",
        f"katax-{__version__}.data",
        f"katax-{__version__}.dist-info",
    }


def test_the_source_distribution_makes_the_same_wheel(packages: tuple[Path, Path]) -> None:
    """Whatever the wheel is made of is in it: the package, the pages, the completions, what pyproject.toml names."""
    _, sdist = packages
    files = sdist_files(sdist)
    sources = [file for folder in ("katax_cli", "man", "completions") for file in (ROOT / folder).rglob("*")]
    wanted = {str(file.relative_to(ROOT)) for file in sources if file.is_file() and file.suffix != ".pyc"}

    assert (wanted | {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "PKG-INFO"}) - set(
        files
    ) == set()
    assert [file for file in files if REFUSE.search(file)] == []


def test_the_metadata_says_what_a_stranger_asks(packages: tuple[Path, Path]) -> None:
    wheel, _ = packages
    text = zipfile.ZipFile(wheel).read(f"katax-{__version__}.dist-info/METADATA").decode()
    metadata = Parser().parsestr(text)
    extras = metadata.get_all("Provides-Extra") or []

    assert (metadata["Name"], metadata["Version"], metadata["License-Expression"]) == (
        "katax",
        __version__,
        "MIT",
    )
    assert (metadata["License-File"], metadata["Requires-Python"]) == ("LICENSE", ">=3.11")
    assert {"embedded", "keyring", "parquet", "all"} <= set(extras)
    assert metadata.get_all("Project-URL")
    assert str(metadata.get_payload()).startswith("# katax")


def test_every_dependency_names_its_lowest_version() -> None:
    """`make test-lowest` installs exactly these."""
    assert {line.partition("==")[0] for line in lowest()} >= {
        "typer",
        "redis",
        "psycopg",
        "PyMySQL",
        "pymongo",
    }
