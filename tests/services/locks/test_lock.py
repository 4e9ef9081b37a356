"""Locks on real servers: one holder at a time, tokens that grow, and a loss that is told."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from threading import Event, Thread, current_thread

import pytest
from redis.connection import AbstractConnection

from katax_cli.errors import LockHeld, LockLost, OutcomeUnknown, Unavailable
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.locks import lock as locks
from katax_cli.services.locks.lock import Lock, held_locks, lock_keys, release_by_force
from tests.fake_clock import FakeClock
from tests.servers.fixtures import MakeProxy
from tests.services.redis_database import opened
from tests.waiting import SECONDS, until

NOT_RENEWED = "lock 'job' could not be renewed"


@pytest.fixture
def renewed_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renewals follow each other at once; the ttl stays so long that a busy machine cannot end it."""
    monkeypatch.setattr(locks, "RENEWALS", 100)


def test_one_holder_at_a_time_and_growing_tokens(redis: RedisDatabase) -> None:
    tokens = []
    for _ in range(3):
        with Lock(redis, "job") as lock:
            tokens.append(lock.token)
            with pytest.raises(LockHeld) as error:
                Lock(redis, "job").acquire()
    assert tokens == sorted(set(tokens))
    assert str(error.value).startswith("lock 'job' is held by pid ")
    assert redis.redis("EXISTS", "app:lock:job") == 0


def test_the_holder_is_shown(redis: RedisDatabase) -> None:
    with Lock(redis, "a:b", ttl=600) as lock, Lock(redis, "c", ttl=600):
        redis.redis("SET", "app:lock:foreign", "1", "PX", 600_000)
        shown = {each.name: each for each in held_locks(redis)}
        assert list(shown) == ["a:b", "c", "foreign"]
        assert shown["a:b"].token == lock.token
        assert shown["a:b"].host
        assert 500 < (shown["a:b"].ttl or 0) <= 600
        assert (shown["foreign"].token, shown["foreign"].pid) == (None, None)
    assert [each.name for each in held_locks(redis)] == ["foreign"]


def test_a_lock_of_another_program_is_respected_and_ours_by_it(redis: RedisDatabase) -> None:
    """SET lock:NAME 1 NX EX 30, as other libraries and the seed documents do it."""
    redis.redis("SET", "app:lock:job", "1", "NX", "EX", 30)
    with pytest.raises(LockHeld) as error:
        Lock(redis, "job").acquire()
    assert "an unknown holder" in str(error.value)
    redis.redis("DEL", "app:lock:job")
    with Lock(redis, "job"):
        assert redis.redis("SET", "app:lock:job", "1", "NX", "EX", 30) is None


def test_tokens_grow_over_a_server_that_lost_everything(redis: RedisDatabase) -> None:
    with Lock(redis, "job") as lock:
        first = lock.token
    redis.redis("FLUSHDB")
    with Lock(redis, "job") as lock:
        assert lock.token > first


def test_tokens_grow_when_the_servers_clock_was_set_back(redis: RedisDatabase) -> None:
    _, fence = lock_keys(redis, "job")
    ahead = int((time.time() + 3600) * 1e6)
    redis.redis("SET", fence, ahead)
    with Lock(redis, "job") as lock:
        assert lock.token == ahead + 1


@pytest.mark.usefixtures("renewed_often")
def test_a_lock_is_renewed_while_it_is_held(redis: RedisDatabase) -> None:
    with Lock(redis, "job") as lock:
        redis.redis("PEXPIRE", "app:lock:job", 20_000)
        until(lambda: redis.redis("PTTL", "app:lock:job") > 20_000)
        lock.check()
        assert [each.name for each in held_locks(redis)] == ["job"]


@pytest.mark.usefixtures("renewed_often")
def test_a_lock_is_not_renewed_for_ever(redis: RedisDatabase) -> None:
    lost = Event()
    lock = Lock(redis, "job", max_hold=0.3)
    lock.on_lost(lambda _error: lost.set())
    lock.acquire()
    assert lost.wait(60)
    with pytest.raises(LockLost) as error:
        lock.release()
    assert str(error.value) == "lock 'job' was lost: it was held for its maximum of 0.3 s"


@pytest.mark.usefixtures("renewed_often")
def test_a_lock_that_was_taken_away_is_told_and_leaves_the_next_one_alone(redis: RedisDatabase) -> None:
    heard: list[LockLost] = []
    lock = Lock(redis, "job")
    lock.on_lost(heard.append)
    lock.acquire()
    assert release_by_force(redis, "job")
    with Lock(redis, "job") as other:
        until(lambda: heard)
        with pytest.raises(LockLost) as error:
            lock.release()
        assert str(error.value) == "lock 'job' was lost: it expired, or it was released by force"
        assert other.token > lock.token
        assert [each.token for each in held_locks(redis)] == [other.token]
    late: list[LockLost] = []
    lock.on_lost(late.append)
    assert late == heard
    assert len(heard) == 1
    assert not release_by_force(redis, "job")


def test_the_end_of_the_block_tells_the_loss(redis: RedisDatabase) -> None:
    with pytest.raises(LockLost) as error, Lock(redis, "job"):
        release_by_force(redis, "job")
    assert str(error.value) == "lock 'job' was lost: it had expired before it was released"


def test_an_error_in_the_block_is_the_one_that_is_raised(redis: RedisDatabase) -> None:
    def work() -> None:
        with Lock(redis, "job"):
            release_by_force(redis, "job")
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        work()


@pytest.mark.parametrize("call", ["acquire", "release"])
def test_what_is_interrupted_leaves_no_lock(
    redis: RedisDatabase, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Ctrl-C, as the answer arrives; the lock of another holder stays his."""
    for name in ("_SETTLE_SECONDS", "_GIVE_BACK_SECONDS"):
        monkeypatch.setattr(locks, name, SECONDS)
    with Lock(redis, "job"):
        pass
    lock = Lock(redis, "job")
    if call == "release":
        lock.acquire()
    read = AbstractConnection.read_response
    me = current_thread()

    def interrupted(connection: AbstractConnection) -> object:
        reply = read(connection)
        if current_thread() is me:
            raise KeyboardInterrupt
        return reply

    with monkeypatch.context() as patched:
        patched.setattr(AbstractConnection, "read_response", interrupted)
        with pytest.raises(KeyboardInterrupt):
            getattr(lock, call)()
    assert redis.redis("EXISTS", "app:lock:job") == 0
    with Lock(redis, "job") as holder, monkeypatch.context() as patched:
        patched.setattr(AbstractConnection, "read_response", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Lock(redis, "job").acquire()
        patched.undo()
        assert [each.token for each in held_locks(redis)] == [holder.token]


def test_waiting_takes_the_lock_as_soon_as_it_is_free(redis: RedisDatabase) -> None:
    first = Lock(redis, "job")
    first.acquire()
    taken: list[int] = []

    def take() -> None:
        with Lock(redis, "job", wait=600) as second:
            taken.append(second.token)

    waiter = Thread(target=take)
    waiter.start()
    time.sleep(0.1)
    assert taken == []
    first.release()
    waiter.join()
    assert taken[0] > first.token


def test_waiting_ends(redis: RedisDatabase) -> None:
    clock = FakeClock()
    with Lock(redis, "job"), pytest.raises(LockHeld):
        Lock(redis, "job", wait=3, clock=clock).acquire()
    assert 3 <= clock.at < 3.01
    assert all(pause <= 0.5 for pause in clock.sleeps)


@pytest.mark.usefixtures("renewed_often")
def test_a_server_that_went_away_loses_the_lock_at_the_end_of_its_ttl(
    redis_url: str, proxy: MakeProxy, caplog: pytest.LogCaptureFixture
) -> None:
    way = proxy(redis_url)
    lost, clock = Event(), FakeClock()
    with opened(way.url) as redis:
        lock = Lock(redis, "job", ttl=10, clock=clock)
        lock.on_lost(lambda _error: lost.set())
        lock.acquire()
        way.refuse()
        way.cut()
        until(lambda: NOT_RENEWED in caplog.text)
        lock.check()
        clock.at = 10
        assert lost.wait(60)
        with pytest.raises(LockLost) as error:
            lock.check()
        assert str(error.value) == "lock 'job' was lost: it could not be renewed within its ttl of 10 s"


@pytest.mark.usefixtures("renewed_often")
def test_a_short_outage_does_not_lose_it(
    redis_url: str, proxy: MakeProxy, caplog: pytest.LogCaptureFixture
) -> None:
    way = proxy(redis_url)
    with opened(way.url) as redis, opened(redis_url) as direct, Lock(redis, "job", ttl=20):
        way.refuse()
        way.cut()
        until(lambda: NOT_RENEWED in caplog.text)
        direct.redis("PEXPIRE", "lock:job", 15_000)
        way.come_back()
        until(lambda: direct.redis("PTTL", "lock:job") > 15_000)


@pytest.mark.parametrize("forward", [True, False])
def test_an_answer_that_was_lost_is_asked_for(redis_url: str, proxy: MakeProxy, forward: bool) -> None:
    """Taken or not, the lock itself says it: it is not left behind until its ttl ends."""
    with opened(redis_url) as direct:
        Lock(direct, "warm").__enter__().release()  # the server knows the script
        way = proxy(redis_url)
        with opened(way.url) as redis:
            redis.ping()
            way.cut_after(b"EVALSHA", forward=forward)
            lock = Lock(redis, "job")
            if forward:
                token = lock.acquire()
                assert [each.token for each in held_locks(direct)] == [token]
                lock.release()
            else:
                with pytest.raises(OutcomeUnknown):
                    lock.acquire()
        assert held_locks(direct) == []


def test_a_server_that_is_not_there_is_unavailable(closed_port: int) -> None:
    with opened(f"redis://127.0.0.1:{closed_port}/0") as redis, pytest.raises(Unavailable):
        Lock(redis, "job").acquire()


@pytest.mark.parametrize(
    ("name", "ttl", "told"),
    [
        ("job", 0.0, "ttl is 0 s, expected at least 0.1"),
        ("", 30.0, "the lock has no name; give it one"),
    ],
)
def test_what_cannot_be_is_told(redis: RedisDatabase, name: str, ttl: float, told: str) -> None:
    with pytest.raises(ValueError) as error:
        Lock(redis, name, ttl=ttl)
    assert str(error.value).startswith(told)


@pytest.mark.parametrize("name", ["job", "{tag}x", "a{b}c", "{x", "{{x}"])
def test_a_lock_and_its_token_share_a_slot(redis: RedisDatabase, name: str) -> None:
    from redis.crc import key_slot

    key, fence = lock_keys(redis, name)
    assert key_slot(key) == key_slot(fence)
    assert key != fence
    assert fence.startswith(b"app:")


@pytest.mark.parametrize("name", ["{}x", "x}", "}{"])
def test_a_name_whose_slot_nothing_can_share_is_told(redis: RedisDatabase, name: str) -> None:
    with pytest.raises(ValueError) as error:
        Lock(redis, name).acquire()
    assert str(error.value) == f"the lock's name {name!r} has an unmatched brace; remove it"


COUNT = """
import sys
from tests.services.redis_database import opened
from katax_cli.services.locks.lock import Lock
with opened(sys.argv[1]) as redis:
    for _ in range(10):
        with Lock(redis, "count", wait=600) as lock:
            n = int(redis.redis("GET", "n") or 0)
            redis.redis("RPUSH", "tokens", lock.token)
            redis.redis("SET", "n", n + 1)
"""


def test_processes_take_turns(redis_url: str) -> None:
    """Reading and writing apart: without the lock, numbers would be lost."""
    root = str(__file__).rsplit("/tests/", 1)[0]
    running = [subprocess.Popen([sys.executable, "-c", COUNT, redis_url], cwd=root) for _ in range(4)]
    assert [each.wait() for each in running] == [0] * 4
    with opened(redis_url) as redis:
        assert redis.redis("GET", "n") == b"40"
        tokens = [int(token) for token in redis.redis("LRANGE", "tokens", 0, -1)]
    assert tokens == sorted(set(tokens))


def test_the_value_of_a_lock_is_json(redis: RedisDatabase) -> None:
    with Lock(redis, "job") as lock:
        stored = json.loads(redis.redis("GET", "app:lock:job"))
    assert set(stored) == {"token", "id", "host", "pid", "since"}
    assert stored["token"] == lock.token
