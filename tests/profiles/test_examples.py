"""The example profiles of the repository load, and its own katax.toml makes the commands work in its root."""

from __future__ import annotations

from pathlib import Path

import pytest

from katax_cli.profiles.check import check_profile
from katax_cli.profiles.load import load_profile
from katax_cli.profiles.model.model import Profile

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(path.stem for path in (ROOT / "profiles").glob("*.toml"))
VARIABLES = dict.fromkeys(
    ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "CACHE_PASSWORD", "DB_PASSWORD", "AUDITOR_PASSWORD"), "hunter2"
)


def environ(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path), **VARIABLES}


def example(name: str, tmp_path: Path) -> Profile:
    return load_profile(name, cwd=str(ROOT), environ=environ(tmp_path))


def test_the_examples_are_these() -> None:
    assert EXAMPLES == ["cloud-tls", "cluster", "docker", "frozen", "local-services", "sentinel"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_loads(name: str, tmp_path: Path) -> None:
    profile = example(name, tmp_path)
    assert (profile.name, profile.source) == (name, str(ROOT / "profiles" / f"{name}.toml"))
    assert profile.notes == ()


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_has_no_problem_but_missing_files(name: str, tmp_path: Path) -> None:
    problems = check_profile(name, cwd=str(ROOT), environ=environ(tmp_path))
    assert {problem.key for problem in problems} <= {
        "connections.main.tls.ca",
        "connections.main.password_command",
        "connections.events.password_file",
    }


def test_what_the_examples_show(tmp_path: Path) -> None:
    frozen = example("frozen", tmp_path)
    assert all(each.read_only for each in frozen.connections.values())
    cloud = example("cloud-tls", tmp_path)
    assert cloud.state.name == "main"
    main = cloud.connections["main"]
    assert main.direct is not None
    assert (main.direct.host, main.direct.tls) == ("primary.db.example.com", main.tls)
    assert example("sentinel", tmp_path).connections["cache"].topology == "sentinel"
    assert example("cluster", tmp_path).connections["cache"].topology == "cluster"


def test_the_first_example_of_the_docs_loads(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "profiles.md").read_text(encoding="utf-8")
    toml = text.split("```toml\n")[1].split("```")[0]
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "docs.toml").write_text(toml, encoding="utf-8")
    profile = load_profile(cwd=str(tmp_path), environ=environ(tmp_path))
    assert (profile.name, list(profile.connections)) == ("docs", ["main", "cache"])


def test_the_root_uses_local(tmp_path: Path) -> None:
    profile = load_profile(cwd=str(ROOT / "katax_cli" / "core"), environ=environ(tmp_path))
    assert (profile.name, profile.explicit, profile.folder) == ("local", True, str(ROOT))
