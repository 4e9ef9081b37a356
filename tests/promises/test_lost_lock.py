"""Promise 16: a lost lock stops the command that ran under it; and what only a fencing token can protect."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from katax_cli.errors import KataxError, LockLost
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.locks import lock as locks
from katax_cli.services.locks import run_under_lock as lock_runs
from katax_cli.services.locks.lock import Lock, release_by_force
from tests.services.redis_database import opened
from tests.waiting import until

WORK = "while [ ! -e enough ]; do echo x >> work; sleep 0.02; done"


@pytest.fixture
def redis(redis_url: str) -> Iterator[RedisDatabase]:
    with opened(redis_url) as database:
        yield database


class Running:
    """A command under a lock, in a thread."""

    def __init__(self, redis: RedisDatabase) -> None:
        self.told: list[str] = []
        self.error: KataxError | None = None
        self._redis = redis
        self._thread = Thread(target=self._run)
        self._thread.start()
        until(lambda: work_done() > 0)

    def _run(self) -> None:
        words = ["sh", "-c", WORK]
        try:
            lock_runs.run_under(
                self._redis, "job", words, ttl=30.0, wait=0.0, max_hold=600.0, tell=self.told.append
            )
        except KataxError as error:
            self.error = error

    def join(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()

    def end(self) -> None:
        Path("enough").touch()
        self.join()


def work_done() -> int:
    return Path("work").stat().st_size if Path("work").exists() else 0


def goes_on() -> None:
    """Waits until more work is done."""
    before = work_done()
    until(lambda: work_done() > before)


@pytest.fixture(autouse=True)
def renewed_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss is noticed at once; the ttl stays so long that a busy machine cannot end it."""
    monkeypatch.setattr(locks, "RENEWALS", 300)


def test_a_lost_lock_stops_the_command(redis: RedisDatabase, tmp_path: Path) -> None:
    running = Running(redis)
    goes_on()
    release_by_force(redis, "job")
    running.join()
    done = work_done()
    time.sleep(0.3)  # for fifteen pieces of work
    assert work_done() == done
    assert running.told
    assert isinstance(running.error, LockLost)


def test_without_the_guard_it_goes_on(
    redis: RedisDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bad twin: the loss is noticed and nobody acts on it."""
    noticed = Event()
    monkeypatch.setattr(lock_runs, "_stop", lambda *_args: noticed.set())
    running = Running(redis)
    release_by_force(redis, "job")
    assert noticed.wait(60)
    goes_on()
    running.end()
    assert isinstance(running.error, LockLost)


class Resource:
    """What is written under the lock; with `fenced`, it refuses tokens lower than one it has seen."""

    def __init__(self, *, fenced: bool) -> None:
        self.written: list[str] = []
        self._fenced = fenced
        self._highest = 0

    def write(self, text: str, token: int) -> None:
        if self._fenced and token < self._highest:
            return
        self._highest = max(token, self._highest)
        self.written.append(text)


@pytest.mark.parametrize(("fenced", "written"), [(True, ["second"]), (False, ["second", "late"])])
def test_only_the_token_stops_a_holder_that_does_not_know_yet(
    redis: RedisDatabase, fenced: bool, written: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the loss and the next renewal the first holder believes that it holds the lock."""
    monkeypatch.setattr(locks, "RENEWALS", 1)
    resource = Resource(fenced=fenced)
    first = Lock(redis, "job", ttl=3600)
    first.acquire()
    release_by_force(redis, "job")
    with Lock(redis, "job") as second:
        resource.write("second", second.token)
        resource.write("late", first.token)
    assert resource.written == written
    assert not first.lost
    with pytest.raises(LockLost):
        first.release()
