"""What a container says of all that it holds."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from katax_cli import Katax, Unavailable, UnknownConnection
from katax_cli.services.program.inventory import ConnectionInfo
from tests.servers.fixtures import MakeFresh
from tests.services.program.test_lifecycle import container


class Service:
    def __init__(self, name: str, answer: Any) -> None:
        self.name = name
        self.answer = answer

    def health_check(self) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer() if callable(self.answer) else self.answer

    def close(self) -> None: ...


class Silent:
    def close(self) -> None: ...


def test_the_health_of_all_that_it_holds(fresh: MakeFresh) -> None:
    urls = {"main": fresh("postgresql").url, "cache": fresh("redis").url, "gone": "redis://127.0.0.1:1/0"}
    release = threading.Event()
    with container(**urls) as katax:
        assert katax.health_check("main", "cache", timeout=60).healthy
        with pytest.raises(UnknownConnection):
            katax.health_check("mian")
        katax.database("own", connection="sqlite:///own.db")
        katax.register(Service("good", answer=True))
        katax.register(Service("none", None))
        katax.register(Service("bad", ValueError("out of paper")))
        katax.register(Service("false", answer=False))
        katax.register(Silent())
        health = katax.health_check(timeout=60)
        assert {name: one.status for name, one in health.connections.items()} == {
            "main": "healthy", "cache": "healthy", "gone": "unhealthy", "own": "healthy",
        }  # fmt: skip
        assert {name: (check.status, check.message) for name, check in health.services.items()} == {
            "good": ("healthy", None),
            "none": ("healthy", None),
            "bad": ("unhealthy", "ValueError: out of paper"),
            "false": ("unhealthy", "health_check() returned False"),
        }
        assert (health.status, health.healthy) == ("unhealthy", False)
        assert [error.partition(":")[0] for error in health.errors] == ["gone", "bad", "false"]
        told = json.loads(json.dumps(health.as_dict(), default=str))
        assert told["services"]["bad"]["message"] == "ValueError: out of paper"
        assert told["connections"]["gone"]["status"] == "unhealthy"

        katax.register(Service("hangs", lambda: release.wait(60)))
        hanging = katax.health_check(timeout=0.05).services["hangs"]
        release.set()
        assert hanging.message == "no answer in time; health_check() still runs"
    with pytest.raises(Unavailable):
        katax.health_check("main")


def test_what_it_holds_without_asking_a_server() -> None:
    config = {
        "role": "stage",
        "connections": {"main": {"url": "postgresql://app:s3cr3t-w0rd@127.0.0.1:1/app"}},
    }
    with Katax(config=config) as katax:
        before = katax.info()
        assert (before.profile, before.role, before.services, before.jobs) == ("program", "stage", (), ())
        assert before.connections == {
            "main": ConnectionInfo("postgresql", opened=False, replaced=False, pool=None, breaker=None)
        }

        katax.database("main")
        katax.database("own", connection="sqlite:///own.db")
        katax.override("main", object())
        katax.cron("nightly", "0 3 * * *", lambda: None)
        katax.register(Service("mail", answer=True))
        info = katax.info()
        assert (info.connections["main"].type, info.connections["main"].replaced) == ("object", True)
        own = info.connections["own"]
        assert (own.opened, own.breaker, own.pool is not None) == (True, "closed", True)
        assert [job.name for job in info.jobs] == ["nightly"]
        assert info.services == ("cron", "mail")
        assert "s3cr3t" not in repr(info)
    assert katax.info().shutting_down
