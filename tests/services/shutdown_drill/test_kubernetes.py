"""What manifests say about the time that a pod has."""

from __future__ import annotations

from pathlib import Path

import pytest

from katax_cli.errors import ConfigError
from katax_cli.services.shutdown_drill.kubernetes import read_budget
from katax_cli.services.shutdown_drill.values import Budget

POD = """
spec:
  terminationGracePeriodSeconds: 45
  containers:
    - name: app
      lifecycle:
        preStop:
          exec:
            command: ["sh", "-c", "sleep 10"]
      env: [{name: sleep, value: "99"}]
"""


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        (POD, Budget(45.0, 10.0)),
        (POD.replace('"sleep 10"', '"sleep", "7.5"'), Budget(45.0, 7.5)),
        ("preStop: {sleep: {seconds: 5}}\nsleep: 9\n", Budget(30.0, 5.0)),
        ("spec: {}\n", Budget(30.0, 0.0)),
        ("terminationGracePeriodSeconds: 60\n---\n  terminationGracePeriodSeconds: 20\n", Budget(20.0, 0.0)),
        ("# terminationGracePeriodSeconds: 5\n", Budget(30.0, 0.0)),
    ],
)
def test_a_manifest_says_how_long(text: str, budget: Budget, tmp_path: Path) -> None:
    (tmp_path / "pod.yaml").write_text(text)

    assert read_budget(str(tmp_path / "pod.yaml")) == budget


def test_a_manifest_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*; give a manifest or seconds"):
        read_budget(str(tmp_path / "none.yaml"))
