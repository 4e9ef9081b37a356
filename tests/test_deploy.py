"""What deploy/ types and waits for: every command line exists, and nothing kills a daemon that still drains."""

from __future__ import annotations

import ast
import configparser
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from katax_cli.cli import app
from katax_cli.core.text.duration import parse_duration
from katax_cli.profiles.model.model import ShutdownSettings
from katax_cli.services.cron.definition.jobs import Job
from tests.waiting import until

DEPLOY = Path(__file__).parents[1] / "deploy"
KILL_AFTER = float(str(Job.__dataclass_fields__["kill_after"].default))


def units() -> dict[str, configparser.SectionProxy]:
    """The [Service] of each unit."""
    read = {}
    for file in sorted((DEPLOY / "systemd").glob("*.service")):
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        parser.optionxform = str  # type: ignore[assignment, method-assign]
        parser.read(file)
        read[file.name] = parser["Service"]
    return read


def manifests(kind: str) -> list[dict[str, Any]]:
    files = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    return [each for file in files for each in yaml.safe_load_all(file.read_text()) if each["kind"] == kind]


def compose() -> dict[str, Any]:
    """The services of katax itself, by name."""
    services = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())["services"]
    return {name: service for name, service in services.items() if service["image"] == "katax"}


def instruction(name: str) -> str:
    """The value of the last such line of the Dockerfile, continued lines joined."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    return str(re.findall(rf"^{name} (.*)$", text, flags=re.MULTILINE)[-1])


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Where it stands and the words after `katax`."""
    yield "Dockerfile", ast.literal_eval(instruction("CMD"))
    for name, service in compose().items():
        yield f"compose.yaml: {name}", service["command"]
    for name, unit in units().items():
        yield name, shlex.split(unit["ExecStart"])[1:]
    for deployment in manifests("Deployment"):
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        yield f"kubernetes: {deployment['metadata']['name']}", container["args"]


def test_every_command_line_exists() -> None:
    """Options that a command does not have are refused before its help is shown."""
    refused = {}
    lines = list(command_lines())
    for where, words in lines:
        err = io.StringIO()
        if app.main([*words, "--help"], stdin=io.BytesIO(), stdout=io.BytesIO(), stderr=err):
            refused[where] = err.getvalue()

    assert refused == {}
    assert {words[:2][-1] for _, words in lines} == {"run-daemon", "serve"}
    assert app.main(["ws", "serve", "--no-such", "--help"], stdout=io.BytesIO(), stderr=io.StringIO()) == 2


def test_no_daemon_is_killed_while_it_drains() -> None:
    """Twice: its own budget, and after it what jobs have to end."""
    budget = ShutdownSettings().timeout + KILL_AFTER
    graces = {name: parse_duration(unit["TimeoutStopSec"]) for name, unit in units().items()}
    graces |= {name: parse_duration(each["stop_grace_period"]) for name, each in compose().items()}
    pods = {each["metadata"]["name"]: each["spec"]["template"]["spec"] for each in manifests("Deployment")}
    graces |= {name: float(pod["terminationGracePeriodSeconds"]) for name, pod in pods.items()}

    assert len(graces) == 9
    assert {name: grace for name, grace in graces.items() if grace <= budget} == {}
    # A group that got TERM together would end the jobs at once, instead of letting them end.
    assert {(unit["KillSignal"], unit["KillMode"]) for unit in units().values()} == {("SIGTERM", "mixed")}
    assert instruction("STOPSIGNAL") == "SIGTERM"


def test_a_restart_never_depends_on_a_database() -> None:
    """Liveness asks the process itself; readiness may be red for a server's sake."""
    containers = [each["spec"]["template"]["spec"]["containers"][0] for each in manifests("Deployment")]
    asked = [str(container["livenessProbe"]) for container in containers]

    assert len(asked) == 3
    assert [probe for probe in asked if "/live" not in probe or "/ready" in probe] == []
    assert "/live" in instruction("HEALTHCHECK")


def test_the_profiles_have_no_mistakes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (config,) = manifests("ConfigMap")
    profiles = {
        "compose.toml": (DEPLOY / "compose" / "profiles" / "compose.toml").read_text(),
        **config["data"],
    }
    (tmp_path / "profiles").mkdir()
    for name, text in profiles.items():
        (tmp_path / "profiles" / name).write_text(text)
    monkeypatch.setenv("DB_PASSWORD", "s3cr3t")
    monkeypatch.setenv("WS_TOKEN", "s3cr3t")

    assert app.main(["profile", "check"]) == 0, capfdbinary.readouterr()


def test_the_image_is_healthy_while_the_daemon_lives(tmp_path: Path) -> None:
    """The health check of the Dockerfile, beside a daemon whose only server cannot be reached."""
    words = ast.literal_eval(instruction("HEALTHCHECK").partition(" CMD ")[2])
    check = [sys.executable, *words[1:]]
    profile = '[profiles.p]\nrole = "dev"\n[profiles.p.connections.main]\nurl = "redis://127.0.0.1:1"\n'
    (tmp_path / "katax.toml").write_text(profile)
    serve = [sys.executable, "-m", "katax_cli", "-p", "p", "health", "serve", "--port", "0"]
    with (tmp_path / "log").open("w") as log, subprocess.Popen(serve, stderr=log) as daemon:
        try:
            until(lambda: re.search(r"http://127\.0\.0\.1:(\d+)", (tmp_path / "log").read_text()))
            port = re.findall(r"http://127\.0\.0\.1:(\d+)", (tmp_path / "log").read_text())[0]
            environment = {**os.environ, "KATAX_LIVE_PORT": port}
            assert subprocess.run(check, env=environment, check=False).returncode == 0
        finally:
            daemon.kill()
    assert subprocess.run(check, env=environment, check=False, stderr=subprocess.DEVNULL).returncode == 1
